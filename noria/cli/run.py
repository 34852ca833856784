"""`noria run`: launch, list, show and compare runs.

`noria run -- CMD` starts a run, tells the command about it through MLflow's variables, and records what it was: commit, changes
that are not committed, arguments, installed packages. What the command prints is shown and sent to the run as it comes.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import click

from noria.cli.base import Group, api, emit, json_option
from noria.kernel.errors import Invalid, NoriaError, Unavailable

DIFF_BYTES_MAX = 8 << 20  # a larger change is named by its digest only
LOG_PART_BYTES = 512 << 10
LOG_EVERY_S = 0.5
_STATUS = "name,status,started_at_ms,ended_at_ms,user"


class RunGroup(Group):
    """`noria run -- CMD` is `noria run exec -- CMD`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args and not any(a in self.commands for a in args[: args.index("--")]):
            args = ["exec", *args]
        return super().parse_args(ctx, args)


@click.group(cls=RunGroup)
def group() -> None:
    """Runs: launch, list, show. `noria run -- python train.py` launches one."""


@group.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("--experiment", "-e", default="", help="The experiment, by name; made when it is missing. Default: Default.")
@click.option("--name", "-n", default="", help="The name of the run.")
@click.option("--tag", "tags", multiple=True, help="KEY=VALUE; may be given several times.")
@click.option("--data", "data", default="", help="The dataset version that it reads, such as flights@3.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(experiment: str, name: str, tags: tuple[str, ...], data: str, command: tuple[str, ...]) -> None:
    """Launch a command as a run and record what it was.

    \b
    Example:
      noria run -- python train.py --depth 3
      noria run -e flights -n first --data flights@3 -- python train.py
    """
    connection = api()
    if not connection.url.startswith("http") or not _answers(connection.url):
        raise Unavailable("A run needs a server that its command can reach.", hint="Start one with: noria server.")
    context = _context(command)
    if data:
        context["tags"]["noria.dataset_version"] = data
    context["tags"].update(_pairs(tags))
    run = connection.post("/runs", {"experiment": experiment, "name": name, "tags": context["tags"]})
    click.echo(f"Run {run['name']} ({run['id']})", err=True)
    for path, content in context["files"].items():
        connection.put_bytes(f"/runs/{run['id']}/artifacts/content?path={path}", content)
    code = _launch(connection, run, command)
    connection.patch(f"/runs/{run['id']}", {"status": "FINISHED" if code == 0 else "KILLED" if code < 0 else "FAILED"})
    click.echo(f"Run {run['name']} {'finished' if code == 0 else f'ended with code {code}'}.", err=True)
    sys.exit(code if code >= 0 else 128 - code)


@group.command("list")
@click.option("--experiment", "-e", default="", help="Only of these experiments: names or ids, with commas.")
@click.option("--filter", "filter_", default="", help="Such as \"metrics.loss < 0.3 and params.model = 'forest'\".")
@click.option("--order-by", default="", help="Such as 'metrics.loss desc'.")
@click.option("--columns", default=_STATUS, show_default=True, help="Also metrics.…, params.…, tags.…")
@click.option("--deleted", is_flag=True, help="Those that were put away.")
@click.option("--limit", type=int, default=20, show_default=True)
@json_option
def list_(experiment: str, filter_: str, order_by: str, columns: str, deleted: bool, limit: int, as_json: bool) -> None:
    """List runs, latest first.

    \b
    Example:
      noria run list -e flights --order-by "metrics.log_loss" --columns name,metrics.log_loss
    """
    found = api().get(
        "/runs", experiment=experiment, filter=filter_, order_by=order_by, columns=columns, limit=limit,
        stage="deleted" if deleted else "active",
    )  # fmt: skip
    names = list(found["columns"])
    rows = [{"id": run_id, **{n: found["columns"][n][i] for n in names}} for i, run_id in enumerate(found["ids"])]
    emit(rows, as_json=as_json, columns=["id", *names])


@group.command()
@click.argument("run_id")
@json_option
def show(run_id: str, as_json: bool) -> None:
    """Show one run: settings, latest numbers, where it came from.

    \b
    Example:
      noria run show 0197c0de00007000800000000000abcd
    """
    found = api().get(f"/runs/{run_id}")
    if as_json:
        emit(found, as_json=True)
        return
    names = ["id", "name", "status", "stage", "experiment_id", "user", "started_at_ms", "ended_at_ms", "source_commit",
             "source_dirty", "argv"]  # fmt: skip
    emit({n: found[n] for n in names if found[n] not in ("", None)})
    for title in ("params", "metrics", "tags"):
        if found[title]:
            click.secho(f"\n{title}", bold=True)
            emit(found[title])
    for item in found["inputs"]:
        click.echo(f"\nread {item['name']} {item['digest']} {item['dataset_version']}".rstrip())


@group.command()
@click.argument("run_id")
@click.option("--key", default=None, help="Only these metrics, with commas.")
@json_option
def metrics(run_id: str, key: str | None, as_json: bool) -> None:
    """Show the metrics of a run: how many points, the last, the lowest, the highest.

    \b
    Example:
      noria run metrics 0197c0de00007000800000000000abcd
    """
    found = api().get(f"/runs/{run_id}/series", keys=key, buckets=1)["series"]
    rows = []
    for name, curve in found.items():
        at = {k: (curve[k][-1] if curve[k] else None) for k in ("last", "min", "max")}
        odd = {"nan": curve["nan_count"], "inf": curve["inf_count"]}
        rows.append({"key": name, "points": curve["count"], "step": curve["step_last"], **at, **odd})
    emit(rows, as_json=as_json, columns=["key", "points", "step", "last", "min", "max", "nan", "inf"])


@group.command()
@click.argument("run_id")
@click.argument("path", default="")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Download the file, or the folder, to here.")
@json_option
def artifacts(run_id: str, path: str, output: Path | None, as_json: bool) -> None:
    """List the files of a run, or download them.

    \b
    Example:
      noria run artifacts 0197c0de00007000800000000000abcd model
      noria run artifacts 0197c0de00007000800000000000abcd model -o ./model
    """
    if output is None:
        emit(api().get(f"/runs/{run_id}/artifacts", path=path)["items"], as_json=as_json,
             columns=["path", "is_dir", "size_bytes", "digest"])  # fmt: skip
        return
    count = 0
    for file in _files(run_id, path):
        below = file[len(path) :].lstrip("/") if path else file
        target = output / below if below else output
        if not target.resolve().is_relative_to(output.resolve()):
            raise Invalid(f"The server names a file outside of the folder: {file!r}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            for chunk in api().get_bytes(f"/runs/{run_id}/artifacts/content", path=file):
                out.write(chunk)
        count += 1
    click.echo(f"Downloaded {count} files to {output}.")


def _files(run_id: str, path: str) -> Iterator[str]:
    """Every file below `path`, or `path` itself when it is a file."""
    found = api().get(f"/runs/{run_id}/artifacts", path=path)["items"]
    if not found and path:
        yield path
    for item in found:
        if item["is_dir"]:
            yield from _files(run_id, item["path"])
        else:
            yield item["path"]


@group.command()
@click.argument("run_id")
@click.option("--offset", type=int, default=0, help="Start at this byte.")
def logs(run_id: str, offset: int) -> None:
    """Print what a run printed.

    \b
    Example:
      noria run logs 0197c0de00007000800000000000abcd
    """
    while True:
        page = api().get(f"/runs/{run_id}/logs", offset=offset)
        click.echo(page["text"], nl=False)
        if page["next_offset"] <= offset:
            return
        offset = page["next_offset"]


@group.command()
@click.argument("run_id")
def delete(run_id: str) -> None:
    """Put a run away. It can be restored.

    \b
    Example:
      noria run delete 0197c0de00007000800000000000abcd
    """
    api().delete(f"/runs/{run_id}")
    click.echo(f"Run {run_id} is put away. Bring it back with: noria run restore {run_id}")


@group.command()
@click.argument("run_id")
def restore(run_id: str) -> None:
    """Bring a run back.

    \b
    Example:
      noria run restore 0197c0de00007000800000000000abcd
    """
    api().post(f"/runs/{run_id}/restore")
    click.echo(f"Run {run_id} is back.")


# --- what a run was -----------------------------------------------------------------------------------------------------


def _context(command: tuple[str, ...]) -> dict[str, Any]:
    """Tags and files that say what is about to run. Values of the environment are never recorded: they hold secrets."""
    packages = "".join(sorted({f"{d.name}=={d.version}\n" for d in distributions() if d.name}, key=str.lower)).encode()
    shown = _without_secrets(command)
    tags = {
        "mlflow.user": _user(), "mlflow.source.type": "LOCAL", "mlflow.source.name": shlex.join(shown)[:8000],
        "noria.argv": json.dumps(shown), "noria.environment_digest": hashlib.sha256(packages).hexdigest(),
        "noria.python": sys.version.split()[0],
    }  # fmt: skip
    files = {"environment/packages.txt": packages}
    commit = _git("rev-parse", "HEAD").decode().strip()
    if commit:
        diff = _git("diff", "HEAD", "--binary")
        tags |= {
            "mlflow.source.git.commit": commit, "mlflow.source.git.dirty": "true" if diff else "false",
            "mlflow.source.git.branch": _git("rev-parse", "--abbrev-ref", "HEAD").decode().strip(),
        }  # fmt: skip
        if diff:
            tags["noria.source.diff_digest"] = hashlib.sha256(diff).hexdigest()
            if len(diff) <= DIFF_BYTES_MAX:
                files["source/uncommitted.diff"] = diff
    return {"tags": tags, "files": files}


_SECRET_NAME = re.compile(r"(token|password|passwd|secret|api[-_]?key|credential)", re.IGNORECASE)
_NORIA_TOKEN = re.compile(r"nrk_[A-Za-z0-9_]+")


def _without_secrets(command: Sequence[str]) -> list[str]:
    """The arguments, with the values of those that are called token, password and the like left out."""
    shown: list[str] = []
    hide_next = False
    for argument in command:
        name, equals, _ = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            shown.append("[left out]")
        elif equals and _SECRET_NAME.search(name):
            shown.append(f"{name}=[left out]")
        else:
            shown.append(_NORIA_TOKEN.sub("nrk_[left out]", argument))
        hide_next = argument.startswith("-") and not equals and bool(_SECRET_NAME.search(name))
    return shown


def _git(*args: str) -> bytes:
    """What git says here; nothing where there is no git, or no repository."""
    try:
        return subprocess.run(["git", *args], capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return b""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        return ""


def _pairs(tags: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals or not key:
            raise Invalid(f"{tag!r} is not KEY=VALUE.", where="tag")
        found[key] = value
    return found


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url + "/health", timeout=5.0).is_success
    except httpx.HTTPError:
        return False


# --- the command --------------------------------------------------------------------------------------------------------


def _launch(connection: Any, run: dict[str, Any], command: tuple[str, ...]) -> int:
    """Run the command with the run in its environment, its output going here and to the run; returns its exit code."""
    environment = {
        **os.environ, "MLFLOW_TRACKING_URI": connection.url, "MLFLOW_RUN_ID": run["id"],
        "MLFLOW_EXPERIMENT_ID": run["experiment_id"], "NORIA_URL": connection.url, "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    if os.environ.get("NORIA_TOKEN"):
        environment["MLFLOW_TRACKING_TOKEN"] = os.environ["NORIA_TOKEN"]
    try:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as cause:
        connection.patch(f"/runs/{run['id']}", {"status": "FAILED"})
        raise Invalid(f"{command[0]!r} cannot be started: {cause.strerror}.") from cause
    log = _LiveLog(connection, run["id"])
    assert process.stdout is not None
    with _forwarding(process):
        while chunk := os.read(process.stdout.fileno(), 65_536):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            log.add(chunk)
        code = process.wait()
    log.close()
    return code


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


class _LiveLog:
    """Sends what was printed twice a second from a thread of its own; the command never waits for the network.

    Each part says where it begins, so that one whose answer was lost is not kept twice.
    """

    def __init__(self, connection: Any, run_id: str) -> None:
        self._connection, self._run_id = connection, run_id
        self._waiting = bytearray()
        self._offset = 0
        self._lost = ""
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="live-log", daemon=True)
        self._thread.start()

    def add(self, chunk: bytes) -> None:
        with self._lock:
            self._waiting += chunk

    def close(self) -> None:
        self._done.set()
        self._thread.join(30)
        if self._lost:
            click.echo(f"The log of the run is not complete: {self._lost}", err=True)

    def _loop(self) -> None:
        while not self._done.wait(LOG_EVERY_S):
            self._send(final=False)
        self._send(final=True)

    def _send(self, *, final: bool) -> None:
        while not self._lost:
            with self._lock:
                part = bytes(self._waiting[:LOG_PART_BYTES])
            text, used = _whole_characters(part, final=final)
            if not text:
                return
            try:
                answer = self._connection.post(f"/runs/{self._run_id}/logs", {"text": text, "offset": self._offset})
            except Unavailable:
                if final:
                    self._lost = "the server did not answer."
                return  # later, with the same offset
            except NoriaError as error:
                self._lost = error.message
                return
            self._offset = answer["size_bytes"]
            with self._lock:
                del self._waiting[:used]


def _whole_characters(part: bytes, *, final: bool) -> tuple[str, int]:
    """The text of `part` and how many bytes it took; a character cut at the end waits for its rest."""
    used = len(part)
    if not final:
        for back in range(1, min(4, used) + 1):
            byte = part[-back]
            if byte >= 0xC0:  # a first byte: is the character whole?
                needs = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                used -= back if back < needs else 0
                break
            if byte < 0x80:
                break
    return part[:used].decode(errors="replace").replace("\x00", "\ufffd"), used
