"""`noria run -- CMD`: a command as a run. Its output, the machine it is on and how it ended go to the run; it need not know."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from noria.client import journal
from noria.client.api import find_server
from noria.client.capture import capture
from noria.client.journal import Start
from noria.client.logger import CREATE_WAIT_S, Run, interval_s, mode_of, price_of
from noria.kernel.errors import Invalid
from noria.kernel.ids import new_id


def launch(
    command: Sequence[str], *, experiment: str = "", name: str = "", tags: dict[str, str] | None = None, mode: str | None = None,
    say: Callable[[str], None],
) -> int:  # fmt: skip
    """Run `command` as a run; returns its exit code, negative for a signal. Raises Invalid, and what the server refuses.

    When no server answers, the run is kept in its journal for `noria run sync`.
    """
    captured, price = capture(command), price_of(None)
    tags = {**captured.tags, **({"noria.price_per_hour": f"{price:g}"} if price else {}), **(tags or {})}
    mode = mode_of(mode)
    url = find_server(None) if mode == "online" else None
    start = Start(run_id=new_id(), experiment=experiment, name=name, tags=tags, started_at_ms=time.time_ns() // 1_000_000)
    run = Run(
        start, mode=mode, url=url, token=None, root=journal.default_root(), system_pid=None, system_interval_s=0.0,
        price_per_hour=price,
    )  # fmt: skip
    status = "FAILED"
    try:
        is_known = mode == "online" and run.wait_known(CREATE_WAIT_S)
        if problem := run.problem:
            raise problem
        say(
            f"Run {run.name or name} ({run.id})" if is_known else f"Run {run.id}, kept in {run.folder} until it can be sent."
        )
        for path, content in captured.files.items():
            run.keep_bytes(content, path)
        process = _start(command, _environment(run, is_known))
        if interval := interval_s():
            run.watch_system(process.pid, interval)
        code = _follow(process, run)
        status = "FINISHED" if code == 0 else "KILLED" if code < 0 else "FAILED"
        return code
    finally:
        run.finish(status)


def _environment(run: Run, is_known: bool) -> dict[str, str]:
    """What tells the command, and whatever it starts, about its run."""
    found = {**os.environ, "NORIA_RUN_ID": run.id, "NORIA_MODE": run.mode, "PYTHONUNBUFFERED": "1"}
    if run.url:
        found["NORIA_URL"] = run.url
    if is_known and run.url:
        found |= {"MLFLOW_TRACKING_URI": run.url, "MLFLOW_RUN_ID": run.id, "MLFLOW_EXPERIMENT_ID": run.experiment_id}
        if os.environ.get("NORIA_TOKEN"):
            found["MLFLOW_TRACKING_TOKEN"] = os.environ["NORIA_TOKEN"]
    return found


def _start(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as cause:
        raise Invalid(f"{command[0]!r} cannot be started: {cause.strerror}.") from cause


def _follow(process: subprocess.Popen[bytes], run: Run) -> int:
    """Show what the command prints, and keep it; characters that a read cut in two are put together."""
    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with _forwarding(process):
        while chunk := os.read(process.stdout.fileno(), 65_536):
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            run.console.write("output", decoder.decode(chunk))
        run.console.write("output", decoder.decode(b"", final=True))
        return process.wait()


@contextlib.contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ctrl-C and a request to stop go to the command; its run ends with it."""

    def forward(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    kept = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
