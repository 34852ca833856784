"""`noria run -- CMD`: a command as a run. Its output, the machine it is on and how it ended go to the run; it need not know."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from noria.client import journal
from noria.client.api import find_server, token_for
from noria.client.capture import Captured, capture_launched
from noria.client.context import launched_reads, read_tags
from noria.client.journal import Start
from noria.client.logger import CREATE_WAIT_S, Run, interval_s, keep_source, mode_of, price_of
from noria.kernel.errors import Invalid
from noria.kernel.ids import new_id


def launch(
    command: Sequence[str], *, experiment: str = "", name: str = "", tags: dict[str, str] | None = None, mode: str | None = None,
    say: Callable[[str], None], place: Place | None = None,
) -> int:  # fmt: skip
    """Run `command` as a run; returns its exit code, negative for a signal. Raises Invalid, and what the server refuses.

    When no server answers, the run is kept in its journal for `noria run sync`.
    """
    captured, price = place.captured if place else capture_launched(command), price_of(None)
    tags = {**captured.tags, **({"noria.price_per_hour": f"{price:g}"} if price else {}), **(tags or {})}
    mode = mode_of(mode)
    url = find_server(None) if mode == "online" else None
    run_id = place.run_id if place else new_id()
    start = Start(run_id=run_id, experiment=experiment, name=name, tags=tags, started_at_ms=time.time_ns() // 1_000_000)
    run = Run(
        start, mode=mode, url=url, token=None, root=journal.default_root(), system_pid=None, system_interval_s=0.0,
        price_per_hour=price,
    )  # fmt: skip
    reads, status = Path(tempfile.gettempdir()) / f"noria-{run_id}.reads", "FAILED"
    try:
        is_known = mode == "online" and run.wait_known(CREATE_WAIT_S)
        if problem := run.problem:
            raise problem
        say(
            f"Run {run.name or name} ({run.id})" if is_known else f"Run {run.id}, kept in {run.folder} until it can be sent."
        )
        for path, content in captured.files.items():
            run.keep_bytes(content, path)
        keep_source(run, command, place.folder if place else None)
        environment = {**_environment(run, is_known, reads), **(place.environment if place else {})}
        process = _start(command, environment, place.folder if place else None)
        if interval := interval_s():
            run.watch_system(process.pid, interval)
        code = _follow(process, run, sys.stderr.buffer if place else sys.stdout.buffer)
        status = "FINISHED" if code == 0 else "KILLED" if code < 0 else "FAILED"
        if read := read_tags(launched_reads(reads, run.url or "")):
            run.set_tags(read)
        return code
    finally:
        reads.unlink(missing_ok=True)
        run.finish(status)


class Place(Struct, frozen=True):
    """Where a command runs when that is not here: folder, variables, and what is known of it already."""

    run_id: str
    folder: Path
    environment: dict[str, str]
    captured: Captured


def _environment(run: Run, is_known: bool, reads: Path) -> dict[str, str]:
    """What tells the command, and whatever it starts, about its run."""
    found = {
        **os.environ,
        "NORIA_RUN_ID": run.id,
        "NORIA_MODE": run.mode,
        "PYTHONUNBUFFERED": "1",
        "NORIA_READS_FILE": str(reads),
    }
    token = token_for(run.url)
    if run.url:
        found |= {"NORIA_URL": run.url, "NORIA_TOKEN": token}
    if is_known and run.url:
        found |= {"MLFLOW_TRACKING_URI": run.url, "MLFLOW_RUN_ID": run.id, "MLFLOW_EXPERIMENT_ID": run.experiment_id}
        if token:
            found["MLFLOW_TRACKING_TOKEN"] = token
    return found


def _start(command: Sequence[str], environment: dict[str, str], folder: Path | None) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as cause:
        raise Invalid(f"{command[0]!r} cannot be started: {cause.strerror}.") from cause


def _follow(process: subprocess.Popen[bytes], run: Run, shown: BinaryIO) -> int:
    """Show what the command prints, and keep it; characters that a read cut in two are put together."""
    assert process.stdout is not None
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with _forwarding(process):
        while chunk := os.read(process.stdout.fileno(), 65_536):
            with contextlib.suppress(BrokenPipeError):
                shown.write(chunk)
                shown.flush()
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
