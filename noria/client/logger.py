"""`noria.init()` and `noria.log()`: a run in two lines, which never waits for a server.

    log ──▶ journal (disk) ──▶ sender thread ──▶ server

What is logged is in the journal when the call returns; two threads do the rest. The *keeper* looks twice a second at the
console, at the machine (system metrics) and at the disk; the *sender* ships what the journal holds, again and again until the
server has acknowledged it. Without a server, or with `mode="offline"`, the journal stays, and `noria run sync` sends it later.
A run has its id from the beginning, so nothing changes when it arrives.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from noria.client import journal
from noria.client.api import connect, find_server
from noria.client.capture import capture, capture_source, this_command
from noria.client.console import Console, Tee
from noria.client.context import context_tags, in_step, read_tags, reads
from noria.client.environment import git_state
from noria.client.journal import End, Journal, Numbers, Params, Start, Tags, Text
from noria.client.redacting import redactor
from noria.client.seeds import seed_tags
from noria.client.sender import ABOUT, Sender
from noria.client.system_metrics import INTERVAL_S, INTERVAL_S_MIN, SystemMetrics
from noria.kernel.errors import Invalid, NoriaError, Unavailable
from noria.kernel.ids import new_id
from noria.tracking.model import STATUSES, check_key, check_new_run_id, check_path, check_value

_logger = logging.getLogger("noria.run")
INT64 = 1 << 63

KEEP_EVERY_S = 0.5
SHIP_EVERY_S = 0.25
RETRY_S_MAX = 30.0
CREATE_WAIT_S = 5.0  # how long init waits for a server to know the run, so that other clients can join it
FINISH_WAIT_S = 60.0  # how long the end waits for a server that answers
HELPER_WAIT_S = 20.0  # how long it waits for the code to be kept
SILENT_WAIT_S = 3.0  # and for one that does not
MODES = ("online", "offline")


class Run:
    """A run that is going on. Made by `noria.init()`."""

    def __init__(
        self, start: Start, *, mode: str, url: str | None, token: str | None, root: Path, system_pid: int | None,
        system_interval_s: float, price_per_hour: float,
    ) -> None:  # fmt: skip
        self.id, self.mode, self.url = start.run_id, mode, url
        self.experiment, self._name = start.experiment, start.name
        self.is_joined = start.is_joined
        self.experiment_id = ""  # once the server knows the run
        self._journal = Journal(root, start.run_id, limit_bytes=journal.limit_bytes())
        self._append = self._journal.append
        self._started_s = time.monotonic()
        self._turn = threading.Lock()
        self._step = -1
        self._params: dict[str, str] = {}
        self._is_ended, self._is_foreign = False, False
        self.helpers: list[threading.Thread] = []  # that still have something to keep when the run ends
        journal.write_json(
            self._journal.folder / ABOUT,
            {"name": start.name, "experiment": start.experiment, "is_joined": start.is_joined, "url": url or ""},
        )
        self._append(start)
        self.console = Console(lambda offset, text: self._append(Text(offset, text)))
        self._tee: Tee | None = None
        self._system = SystemMetrics(pid=system_pid, price_per_hour=price_per_hour) if system_interval_s else None
        self._system_interval_s, self._samples, self._price_per_hour = system_interval_s, 0, price_per_hour
        self._delivery = Delivery(self, token)
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="noria-keeper", daemon=True)
        self._keeper.start()
        if mode == "online":
            self._delivery.start()

    @property
    def name(self) -> str:
        return self._name

    @property
    def folder(self) -> Path:
        """Where the journal lies."""
        return self._journal.folder

    @property
    def problem(self) -> NoriaError | None:
        """Why the server does not take the run, if it said so."""
        return self._delivery.problem

    # --- what a script says ---------------------------------------------------------------------------------------------

    def log(self, values: Mapping[str, Any], step: int | None = None, *, at_ms: int | None = None) -> None:
        """Log numbers at one step; without `step`, at the one after the last. On disk when it returns; sent meanwhile.

        Raises Invalid for a name or a value that is no number, TooMuch when too much waits for a server that does not answer.
        """
        numbers: dict[str, float] = {}
        for key, value in values.items():
            check_key(key, "metric")
            numbers[key] = value if type(value) is float else _number(key, value)
        with self._turn:
            if self._is_ended:
                self._require_open()
            if step is None:
                step = self._step + 1
            elif type(step) is not int:
                step = _whole(step)
            if not -INT64 <= step < INT64:
                raise Invalid("A step is an integer of 64 bits.", where="step")
            self._step = max(self._step, step)
        self._append(Numbers(time.time_ns() // 1_000_000 if at_ms is None else at_ms, step, numbers))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings; one that is there cannot change. Raises Invalid."""
        mask = redactor().mask
        texts = {check_key(key, "param"): check_value(key, mask(str(value)), "param") for key, value in params.items()}
        with self._turn:
            self._require_open()
            for key, text in texts.items():
                if self._params.get(key, text) != text:
                    raise Invalid(
                        f"The param {key!r} is {self._params[key]!r} and cannot become {text!r}.", where="params",
                        hint="Begin another run, or log it as a tag.",
                    )  # fmt: skip
            self._params |= texts
        self._append(Params(texts))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags. Raises Invalid."""
        mask = redactor().mask
        texts = {check_key(key, "tag"): check_value(key, mask(str(value)), "tag") for key, value in tags.items()}
        with self._turn:
            self._require_open()
        self._append(Tags(texts))

    def log_artifact(self, source: str | Path, path: str = "") -> None:
        """Keep a file, or every file of a folder, with the run: as it is now, at `path` (its own name by default).

        Raises Invalid when there is no such file, TooMuch.
        """
        with self._turn:
            self._require_open()
        source = Path(source)
        if source.is_dir():
            for file in sorted(p for p in source.rglob("*") if p.is_file()):
                below = file.relative_to(source).as_posix()
                self._journal.add_file(file, _file_path(f"{path or source.name}/{below}"))
        elif source.is_file():
            self._journal.add_file(source, _file_path(path or source.name))
        else:
            raise Invalid(f"There is no file {str(source)!r}.", where="source")

    def log_text(self, text: str, path: str) -> None:
        """Keep a text as the file `path` of the run. Raises Invalid, TooMuch."""
        self.keep_bytes(text.encode(), path)

    def finish(self, status: str = "FINISHED", *, wait_s: float = FINISH_WAIT_S) -> None:
        """End the run and wait, for a while, until everything arrived; says so when it did not. Ending it again does nothing."""
        if status not in STATUSES:
            raise Invalid(f"{status!r} is not the status of a run.", where="status", hint=f"Known: {', '.join(STATUSES)}.")
        for helper in self.helpers:
            helper.join(HELPER_WAIT_S)
        with self._turn:
            if self._is_ended or self._is_foreign:
                return
            self._is_ended = True
        if self._tee:
            self._tee.close()
        self._stop.set()
        self._keeper.join(10)
        self.console.close()
        try:
            self._sample()
            if self.url and (read := read_tags(reads(self.url))):
                self._append(Tags(read))
            if not self.is_joined:
                self._append(End(status, time.time_ns() // 1_000_000))
        finally:
            self._journal.close()
            self._delivery.finish(wait_s)
            self._journal.lock.release()
        _forget(self)
        if self.console.lost:
            _logger.warning("The console log of run %s is not complete: %s.", self.id, self.console.lost)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish("FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")

    # --- the threads ----------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """The keeper: console, machine, disk."""
        next_sample_s, next_sync_s = 0.0, 1.0
        while True:
            elapsed_s = time.monotonic() - self._started_s
            try:
                if self._system and elapsed_s >= next_sample_s:
                    next_sample_s = elapsed_s + self._system_interval_s
                    self._sample()
                self.console.tick(elapsed_s)
                if elapsed_s >= next_sync_s:
                    next_sync_s = elapsed_s + 1.0
                    self._journal.sync()
            except NoriaError as error:  # the disk or the limit; whoever logs next is told as well
                _logger.warning("%s %s", error.message, error.hint)
                self._stop.wait(RETRY_S_MAX)
            if self._stop.wait(KEEP_EVERY_S):
                return

    def watch_system(self, pid: int, interval_s: float) -> None:
        """From now on, sample the machine and the process `pid`."""
        self._system_interval_s = interval_s
        self._system = SystemMetrics(pid=pid, price_per_hour=self._price_per_hour)

    def _sample(self) -> None:
        if self._system:
            values = self._system.sample(time.monotonic() - self._started_s)
            self._append(Numbers(time.time_ns() // 1_000_000, self._samples, values))
            self._samples += 1

    def keep_bytes(self, data: bytes, path: str) -> None:
        """Keep bytes as the file `path` of the run. Raises Invalid, TooMuch."""
        with self._turn:
            self._require_open()
        spool = self._journal.folder / f"spool-{threading.get_ident()}"
        spool.write_bytes(data)
        self._journal.add_file(spool, _file_path(path))
        spool.unlink()

    def _require_open(self) -> None:
        if self._is_foreign:
            raise Invalid(
                "This process was forked from the one that began the run.", hint="Log there, or begin a run here with noria.init()."
            )  # fmt: skip
        if self._is_ended:
            raise Invalid(f"The run {self.id} has ended.", hint="Begin another with noria.init().")

    def leave_to_parent(self) -> None:
        """In a forked child: the run is the parent's; its threads are not here, and its lock may be held for ever."""
        self._is_foreign = self._is_ended = True
        self._turn = threading.Lock()
        self._journal.lock.release()
        self.console.lost = "the process was forked"
        if self._tee:
            self._tee.close()

    def wait_known(self, timeout_s: float) -> bool:
        """Wait until the server knows the run; False when it did not answer in time, at once when nobody is there to answer."""
        delivery = self._delivery
        return delivery.settled.wait(timeout_s) and delivery.known.is_set() and delivery.problem is None


class Delivery:
    """The sender thread of a run."""

    def __init__(self, run: Run, token: str | None) -> None:
        self._run, self._token = run, token
        self.known = threading.Event()  # the server knows the run, or refused it
        self.settled = threading.Event()  # that, or there is no server now: whoever waits need not wait longer
        self._stop, self._wake = threading.Event(), threading.Event()
        self._is_whole = False
        self._is_answering = False
        self.problem: NoriaError | None = None
        self._given_up = ""
        self._api: Any = None
        self._sender: Sender | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="noria-sender", daemon=True)
        self._thread.start()

    def finish(self, wait_s: float) -> None:
        """Wait until all is sent, but not long for a server that does not answer; then say what is left, or remove the journal."""
        folder = self._run._journal.folder
        self._stop.set()
        self._wake.set()
        if self._thread:
            until = time.monotonic() + wait_s
            silent_until = time.monotonic() + SILENT_WAIT_S
            while self._thread.is_alive() and time.monotonic() < (until if self._is_answering else silent_until):
                self._thread.join(0.05)
        refused = self._sender.refused_count if self._sender else 0
        if self._is_whole and not refused:
            journal.remove(folder)
        elif self._is_whole:
            _logger.warning(
                "%d entries of run %s were refused; %s says why.", refused, self._run.id, folder / "refused.jsonl"
            )
        elif not (self._run.is_joined and os.environ.get("NORIA_RUN_ID") == self._run.id):  # `noria run --` says it for both
            why = self._given_up or ("the run is offline." if self._run.mode == "offline" else "the server did not answer.")
            _say(f"Run {self._run.id} waits in {folder}: {why} Send it with: noria run sync")

    def _loop(self) -> None:
        wait_s = SHIP_EVERY_S
        while True:
            try:
                is_last = self._stop.is_set()
                self._ship_all()
                wait_s = SHIP_EVERY_S
                if is_last:  # nothing was added after the end
                    self._is_whole = True
                    return
            except Unavailable as error:
                wait_s = self._stumbled(error, wait_s)
            except NoriaError as error:
                if error.status in (401, 403, 429):  # may be put right while the run goes on
                    wait_s = self._stumbled(error, wait_s)
                else:
                    self._given_up, self.problem = error.message, error
                    self._settle()
                    _logger.warning("Run %s is not sent any more: %s %s", self._run.id, error.message, error.hint)
                    return
            if self._stop.is_set() and not self._is_answering:
                wait_s = min(wait_s, 0.5)
            self._wake.wait(wait_s)
            if self._stop.is_set():
                self._wake.clear()

    def _ship_all(self) -> None:
        if self._sender is None:
            url = find_server(self._run.url)
            if url is None:
                raise Unavailable("There is no server.")
            self._api = connect(url, self._token)
            self._run.url = self._api.url
            self._sender = Sender(self._run._journal.folder, self._api, is_live=True)
        while self._sender.ship():
            self._is_answering = True
            self._run._journal.forget(self._sender.freed_bytes)
            self._sender.freed_bytes = 0
            if self._sender.run is not None and not self.known.is_set():
                self._run._name = self._sender.run["name"]
                self._run.experiment_id = self._sender.run["experiment_id"]
                self._settle()

    def _settle(self) -> None:
        self.known.set()
        self.settled.set()

    def _stumbled(self, error: NoriaError, wait_s: float) -> float:
        if not isinstance(error, Unavailable):
            self.problem = error
            self.known.set()
        self.settled.set()
        if self._is_answering or wait_s <= SHIP_EVERY_S:
            _logger.warning("%s %s What is logged is kept and sent later.", error.message, error.hint)
        self._is_answering = False
        return min(RETRY_S_MAX, max(1.0, wait_s * 2))


# --- the run of this process --------------------------------------------------------------------------------------------


def keep_source(run: Run, command: Sequence[str], folder: Path | None = None) -> None:
    """Keep the code with the run, and say where in it the command began; for a thread, since there may be many files."""
    found = capture_source(command, folder=folder)
    with suppress(NoriaError):  # the run ended, or has no room left: it is kept without its code
        for path, content in found.files.items():
            run.keep_bytes(content, path)
        run.set_tags(found.tags)


_current: Run | None = None
_how_it_ends = {"status": "FINISHED"}


def init(
    experiment: str = "", *, name: str = "", params: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None,
    id: str = "", mode: str | None = None, url: str | None = None, token: str | None = None, folder: str | Path | None = None,
    console: bool | None = None, system_metrics: bool | None = None, price_per_hour: float | None = None,
) -> Run:  # fmt: skip
    """Begin a run and record what it is: commit and uncommitted changes, command line, packages, machine.

    `id`: a run that is gone on with when it is there already. `mode`: online, or offline (NORIA_MODE): nothing is sent until
    `noria run sync`. `folder`: where the journal lies (NORIA_JOURNALS). `console`, `system_metrics`: whether to keep what is
    printed and what the machine does; not by default inside `noria run --`, which does it. `price_per_hour`: what the machine
    costs (NORIA_PRICE_PER_HOUR); becomes the metric `system/cost`.
    Inside `noria run -- CMD`, and while MLflow's client has a run here, that run is joined. Raises Invalid.
    """
    global _current
    if _current is not None:
        _current.finish()
    launched = os.environ.get("NORIA_RUN_ID", "")
    joined = launched or ("" if id else _mlflow_run(url))
    run_id = id or joined or new_id()
    is_joined = bool(joined) and run_id == joined
    is_captured = is_joined and bool(launched)
    price = price_of(price_per_hour)
    git_state.cache_clear()  # files may have changed since the last run of this process
    captured = capture(this_command())
    known_tags = {} if is_joined else _tags(captured.tags, tags, price)
    start = Start(
        run_id=check_new_run_id(run_id), experiment=experiment, name=name,
        tags=known_tags, started_at_ms=time.time_ns() // 1_000_000, url=url or "", is_joined=is_joined, may_exist=bool(id),
    )  # fmt: skip
    run = Run(
        start, mode=mode_of(mode), url=find_server(url) if mode_of(mode) == "online" else url, token=token,
        root=Path(folder) if folder else journal.default_root(), system_pid=None,
        system_interval_s=interval_s() if (not is_captured if system_metrics is None else system_metrics) else 0.0,
        price_per_hour=price,
    )  # fmt: skip
    _current = run
    _watch_the_end()
    try:
        if not is_joined:
            for path, content in captured.files.items():
                run.keep_bytes(content, path)
            if not in_step():  # there, the code is the pipeline's
                run.helpers.append(
                    threading.Thread(target=keep_source, args=(run, this_command()), name="noria-source", daemon=True)
                )
                run.helpers[0].start()
        elif own := {**seed_tags(), **(tags or {})}:
            run.set_tags(own)
        if params:
            run.log_params(params)
    except NoriaError:
        run.finish("FAILED", wait_s=0.0)
        raise
    if not is_joined if console is None else console:
        run._tee = Tee(run.console)
    if run.mode == "online" and run.url and run.wait_known(CREATE_WAIT_S):
        _tell_mlflow(run)
    return run


def log(values: Mapping[str, Any], step: int | None = None) -> None:
    """`noria.log({"loss": 0.3}, step=1)`: log numbers to the run of this process. Raises Invalid before `noria.init()`."""
    if _current is None:
        raise Invalid("There is no run in this process.", hint="Begin one with noria.init().")
    _current.log(values, step)


def finish(status: str = "FINISHED") -> None:
    """End the run of this process, if there is one."""
    if _current is not None:
        _current.finish(status)


def current() -> Run | None:
    """The run of this process."""
    return _current


def interval_s() -> float:
    """NORIA_SYSTEM_INTERVAL_S; 0 turns system metrics off."""
    text = os.environ.get("NORIA_SYSTEM_INTERVAL_S") or str(INTERVAL_S)
    value = _positive(text, "NORIA_SYSTEM_INTERVAL_S")
    return max(value, INTERVAL_S_MIN) if value else 0.0


def price_of(given: float | None) -> float:
    return _positive(os.environ.get("NORIA_PRICE_PER_HOUR") or "0" if given is None else given, "price_per_hour")


def _positive(value: object, name: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as cause:
        raise Invalid(f"{name} is {value!r}; a number is needed.", where=name) from cause
    if not 0 <= number < 1e12:
        raise Invalid(f"{name} is {value!r}; it cannot be negative, nor without end.", where=name)
    return number


def mode_of(given: str | None) -> str:
    mode = given or os.environ.get("NORIA_MODE") or "online"
    if mode not in MODES:
        raise Invalid(f"{mode!r} is not a mode.", where="mode", hint=f"Known: {', '.join(MODES)}.")
    return mode


def _tags(captured: dict[str, str], given: Mapping[str, Any] | None, price_per_hour: float) -> dict[str, str]:
    tags = {**captured, **context_tags()}
    if price_per_hour:
        tags["noria.price_per_hour"] = f"{price_per_hour:g}"
    return tags | {check_key(k, "tag"): check_value(k, str(v), "tag") for k, v in (given or {}).items()}


def _number(key: str, value: Any) -> float:
    """`value` as a float: numbers of Python, NumPy, a tensor of one element. Raises Invalid."""
    if isinstance(value, str | bytes):
        raise Invalid(
            f"The metric {key!r} is {value!r}; a number is needed.", where=key, hint="Log words as params or tags."
        )
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as cause:
        raise Invalid(f"The metric {key!r} is a {type(value).__name__}; one number is needed.", where=key) from cause


def _file_path(path: str) -> str:
    if not check_path(path):
        raise Invalid("An artifact needs a path.", where="path")
    return path


def _whole(step: Any) -> int:
    try:
        return int(step.__index__())
    except (AttributeError, TypeError) as cause:
        raise Invalid(f"The step {step!r} is not an integer.", where="step") from cause


def _mlflow_run(url: str | None) -> str:
    """The run that MLflow's client has here, if it is on the same server."""
    mlflow = sys.modules.get("mlflow")
    active = mlflow.active_run() if mlflow and hasattr(mlflow, "active_run") else None
    if mlflow is None or active is None:
        return ""
    there, here = str(mlflow.get_tracking_uri()).rstrip("/"), (find_server(url) or "").rstrip("/")
    return str(active.info.run_id) if there == here else ""


def _tell_mlflow(run: Run) -> None:
    """`mlflow.start_run()` in this process, and in those it starts, joins the run."""
    os.environ.setdefault("MLFLOW_TRACKING_URI", run.url or "")
    if os.environ["MLFLOW_TRACKING_URI"].rstrip("/") == (run.url or "").rstrip("/") and not _mlflow_run(run.url):
        os.environ["MLFLOW_RUN_ID"] = run.id
        os.environ["MLFLOW_EXPERIMENT_ID"] = run.experiment_id


def _forget(run: Run) -> None:
    global _current
    if _current is run:
        _current = None
    if os.environ.get("MLFLOW_RUN_ID") == run.id and not os.environ.get("NORIA_RUN_ID"):
        del os.environ["MLFLOW_RUN_ID"]
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


def _say(text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text + "\n")


_is_watched = False


def _watch_the_end() -> None:
    """See how the process ends: an exception nobody caught is FAILED, Ctrl-C is KILLED, an exit code but 0 is FAILED."""
    global _is_watched
    if _is_watched:
        return
    _is_watched = True
    seen_hook, seen_exit = sys.excepthook, sys.exit

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _how_it_ends["status"] = "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        seen_hook(kind, error, trace)

    def leave(code: Any = None) -> Any:
        _how_it_ends["status"] = "FINISHED" if code in (None, 0) else "FAILED"
        return seen_exit(code)

    sys.excepthook, sys.exit = hook, leave
    atexit.register(_at_exit)
    os.register_at_fork(after_in_child=_in_child)


def _at_exit() -> None:
    if _current is not None:
        _current.finish(_how_it_ends["status"])


def _in_child() -> None:
    global _current
    if _current is not None:
        _current.leave_to_parent()
        _current = None
