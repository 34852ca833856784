"""The pipeline worker: claims steps over HTTP, runs each in a process of its own, sends back output and result.

    python -m noria.pipelines.worker [--url URL] [--home FOLDER] [--slots N] [--name NAME]

Reads NORIA_URL, NORIA_INTERNAL_TOKEN, NORIA_HOME and NORIA_WORKERS. It keeps nothing that matters: when it dies, its steps
die with it and are given to another worker. It waits for a control plane that restarts, and ends when its parent does.
"""

from __future__ import annotations

import argparse
import asyncio
import codecs
import contextlib
import ctypes
import io
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
from blake3 import blake3

from noria.logs import set_up_logging
from noria.pipelines.model import (
    LOG_BYTES_MAX,
    Assignment,
    Claimed,
    Finish,
    Many,
    Named,
    Orders,
    Outcome,
    Part,
    Pickle,
    Value,
    Welcome,
)

POINTS_ELSEWHERE = frozenset(
    "MLFLOW_" + name
    for name in (
        "REGISTRY_URI", "EXPERIMENT_ID", "EXPERIMENT_NAME", "RUN_ID", "TRACKING_USERNAME", "TRACKING_PASSWORD", "TRACKING_TOKEN",
        "ACTIVE_MODEL_ID", "WORKSPACE",
    )
)  # fmt: skip

log = logging.getLogger("noria.worker")
T = TypeVar("T")

CLAIM_WAIT_S = 15.0
REQUEST_TIMEOUT_S = 60.0
RESULT_RETRY_S = 900.0  # how long a result is offered to a server that does not answer
GRACE_S = 5.0  # between SIGTERM and SIGKILL of a step
STOP_GRACE_S = 2.0  # the same when the worker itself is told to stop
LOG_EVERY_S = 0.15
LOG_CHUNK_BYTES = 48 << 10
IMPORT_TIMEOUT_S = 300.0
ZYGOTES_MAX = 4
ZYGOTE_IDLE_S = 600.0
CACHE_BYTES_MAX = 4 << 30
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4


class Lost(Exception):
    """Another worker has this step by now."""


class Broken(Exception):
    """The step could not be started: its code does not import, or a value is gone."""


class Server:
    """The control plane, spoken to with patience: what fails for a moment is tried again."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=REQUEST_TIMEOUT_S)

    async def post(self, what: str, body: Any, *, retry_s: float = 30.0) -> bytes:
        """POST to the work routes. Raises Lost when the step is another worker's, and httpx.HTTPError when patience ends."""
        content = msgspec.json.encode(body)
        return await self._patiently(
            lambda: self._http.post(
                f"/api/v1/pipelines/work/{what}", content=content, headers={"content-type": "application/json"}
            ),
            retry_s,
        )

    async def get_blob(self, digest: str, path: Path) -> None:
        """Fetch a blob into `path`; checked against its digest."""
        if _touched(path):
            return
        body = await self._patiently(lambda: self._http.get(f"/api/v1/blobs/{digest}"), 60.0)
        if blake3(body).hexdigest() != digest:
            raise Broken(f"The blob {digest[:12]} arrived damaged.")
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        part.write_bytes(body)
        part.rename(path)

    async def put_blob(self, digest: str, body: bytes) -> None:
        await self._patiently(lambda: self._http.put(f"/api/v1/blobs/{digest}", content=body), RESULT_RETRY_S)

    async def _patiently(self, ask: Callable[[], Awaitable[httpx.Response]], retry_s: float) -> bytes:
        loop = asyncio.get_running_loop()
        until_s, wait_s = loop.time() + retry_s, 0.1
        while True:
            try:
                answer = await ask()
                if answer.status_code == 409:
                    raise Lost(answer.text[:300])
                if answer.status_code < 500 and answer.status_code != 429:
                    answer.raise_for_status()
                    return answer.content
                failure: Exception = httpx.HTTPStatusError(answer.text[:300], request=answer.request, response=answer)
            except httpx.TransportError as error:
                failure = error
            if loop.time() + wait_s > until_s:
                raise failure
            await asyncio.sleep(wait_s)
            wait_s = min(5.0, wait_s * 2)

    async def close(self) -> None:
        await self._http.aclose()


class Zygote:
    """The worker's end of a warm process; see noria/client/zygote.py."""

    def __init__(self, code: Path, entry: str, env: dict[str, str], log_path: Path, *, once: bool = False) -> None:
        ours, theirs = socket.socketpair()
        args = [sys.executable, "-P", "-m", "noria.client.zygote"]
        args += ["--control", str(theirs.fileno()), "--code", str(code), "--entry", entry, *(["--once"] if once else [])]
        self._log_path = log_path
        with theirs, log_path.open("wb") as output:
            self._process = subprocess.Popen(
                args, pass_fds=[theirs.fileno()], env=env, cwd=code, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        ours.setblocking(False)
        self._control, self._buffer, self._once = ours, b"", once
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._started: dict[str, asyncio.Future[int]] = {}
        self._exits: dict[str, asyncio.Future[int]] = {}
        self._turn = asyncio.Lock()
        self.environment = ""
        self.forks = True
        self.used_s = asyncio.get_running_loop().time()
        asyncio.get_running_loop().add_reader(ours.fileno(), self._listen)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None and self._control.fileno() >= 0

    @property
    def is_busy(self) -> bool:
        return bool(self._exits)

    async def warm(self) -> dict[str, Any]:
        """Wait until the code is imported. Raises Broken with the traceback."""
        try:
            found = await asyncio.wait_for(asyncio.shield(self.ready), IMPORT_TIMEOUT_S)
        except TimeoutError as cause:
            raise Broken(f"Importing the pipeline took longer than {IMPORT_TIMEOUT_S:.0f} s.") from cause
        if "failed" in found:
            raise Broken(self._printed() + str(found["failed"]))
        self.environment, self.forks = found["environment"], bool(found["fork"])
        return found

    async def start(self, key: str, job: Path, output: int) -> asyncio.Future[int]:
        """Start a step; the future is its exit code. `output` stays the caller's to close."""
        loop = asyncio.get_running_loop()
        self.used_s = loop.time()
        async with self._turn:
            self._started[key], self._exits[key] = loop.create_future(), loop.create_future()
            exited = self._exits[key]
            message = json.dumps({"run": key, "job": str(job)}).encode() + b"\n"
            try:
                socket.send_fds(self._control, [message], [output])
                await self._started[key]
            except OSError as cause:
                self._exits.pop(key, None)
                raise Broken("The process that starts the steps is gone." + self._printed()) from cause
            finally:
                self._started.pop(key, None)
        return exited

    def signal(self, key: str, number: int) -> None:
        """To the whole process group of a step."""
        if self._once:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            return
        with contextlib.suppress(OSError):
            self._control.send(json.dumps({"signal": key, "number": int(number)}).encode() + b"\n")

    def close(self) -> None:
        """End it, and with it every step it started."""
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill() if self._once else None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        try:
            data = self._control.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        self._buffer += data
        while b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            self._hear(json.loads(line))

    def _hear(self, message: dict[str, Any]) -> None:
        if "ready" in message or "failed" in message:
            _resolve(self.ready, message)
        elif "started" in message:
            _resolve(self._started.get(message["started"]), message["pid"])
        elif "exited" in message:
            _resolve(self._exits.pop(message["exited"], None), message["code"])

    def _ended(self) -> None:
        """The socket closed: of a process for one step that is its end, of a zygote it takes its steps along."""
        asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._control.close()
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        _resolve(self.ready, {"failed": f"The process ended with code {code} while it imported the pipeline."})
        for waiting in self._started.values():
            _resolve(waiting, 0)
        for exited in list(self._exits.values()):
            _resolve(exited, code if self._once else -signal.SIGKILL)
        self._exits.clear()

    def _printed(self) -> str:
        with contextlib.suppress(OSError):
            return self._log_path.read_text(errors="replace")[-8000:]
        return ""


def _resolve(future: asyncio.Future[T] | None, value: T) -> None:
    if future is not None and not future.done():
        future.set_result(value)


class Output:
    """Reads what a step prints and sends it on in pieces, whole characters at a time, up to the limit."""

    def __init__(self, server: Server, given: Assignment, worker: str) -> None:
        self._server, self._given, self._worker = server, given, worker
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending: list[str] = []
        self._pending_bytes = 0
        self._kept = 0
        self._sent = 0
        self._is_cut = False
        self._room = asyncio.Event()
        self._stop = asyncio.Event()
        self._reading = True
        asyncio.get_running_loop().add_reader(self._read_fd, self._read)
        self._sender = asyncio.create_task(self._send_on())

    def write(self, text: str) -> None:
        """Add a text of the worker's own."""
        self._add(text)

    async def close(self) -> None:
        """Send what is left. Raises Lost."""
        self._read()
        self._quiet()
        os.close(self._read_fd)
        self._add(self._decoder.decode(b"", True))
        self._stop.set()
        await self._sender

    def started(self) -> None:
        """The step has its end of the pipe; ours is closed."""
        os.close(self.write_fd)

    def _quiet(self) -> None:
        if self._reading:
            asyncio.get_running_loop().remove_reader(self._read_fd)
            self._reading = False

    def _read(self) -> None:
        for _ in range(64):  # at most 4 MiB, then others have their turn
            try:
                data = os.read(self._read_fd, 1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._quiet()
                return
            self._add(self._decoder.decode(data))

    def _add(self, text: str) -> None:
        if not text or self._is_cut:
            return
        text = text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
        size = len(text.encode())
        if self._kept + size > LOG_BYTES_MAX:
            text = text.encode()[: LOG_BYTES_MAX - self._kept].decode("utf-8", "ignore")
            text += f"\n── more than {LOG_BYTES_MAX >> 20} MiB; the rest is dropped ──\n"
            self._is_cut, size = True, len(text.encode())
        self._kept += size
        self._pending.append(text)
        self._pending_bytes += size

    async def _send_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), LOG_EVERY_S)
            is_last = self._stop.is_set()
            while self._pending:
                await self._send_one()
            if is_last:
                return

    async def _send_one(self) -> None:
        text = "".join(self._pending)
        piece = text.encode()[:LOG_CHUNK_BYTES].decode("utf-8", "ignore")
        self._pending = [text[len(piece) :]] if len(piece) < len(text) else []
        size = len(piece.encode())
        self._pending_bytes -= size
        body = {
            "worker": self._worker, "step_run_id": self._given.step_run_id, "attempt": self._given.attempt,
            "offset": self._sent, "text": piece,
        }  # fmt: skip
        await self._server.post("logs", body, retry_s=RESULT_RETRY_S)
        self._sent += size


class Running:
    """One try in progress, and the ways to stop it."""

    def __init__(self, given: Assignment) -> None:
        self.given = given
        self.key = f"{given.step_run_id}-{given.attempt}"
        self.why: Outcome | None = None  # why it was stopped
        self.stop = asyncio.Event()

    def end(self, why: Outcome) -> None:
        if self.why is None:
            self.why = why
            self.stop.set()


class Worker:
    """Claims and runs, until told to stop."""

    def __init__(self, server: Server, home: Path, *, url: str, slots: int, name: str) -> None:
        self.id = f"{name}-{secrets.token_hex(4)}"
        self._server, self._url, self._slots, self._name = server, url, slots, name
        self._home = home
        self._running: dict[str, Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._zygotes: dict[tuple[str, str], Zygote] = {}
        self._warming: dict[tuple[str, str], asyncio.Lock] = {}
        self._uploaded: set[str] = set()
        self._stop = asyncio.Event()
        self._free = asyncio.Semaphore(slots)
        self._lease_s = 30.0

    async def run(self) -> None:
        """Work until `stop` is called."""
        for folder in ("code", "blobs", "tries", "context"):
            (self._home / folder).mkdir(parents=True, exist_ok=True)
        for left in (self._home / "tries").iterdir():  # of a worker that was killed
            shutil.rmtree(left, ignore_errors=True)
        _write_entry_point(self._home / "context")
        loops = [asyncio.create_task(each()) for each in (self._claim_on, self._beat_on, self._watch_parent, self._tidy_on)]
        stopped = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([*loops, stopped], return_when=asyncio.FIRST_COMPLETED)
        for each in (*loops, stopped):
            each.cancel()
        await asyncio.gather(*loops, stopped, return_exceptions=True)
        await self._wind_down()
        for each in done:
            if each is not stopped:
                each.result()  # a loop that broke is a bug, and ends the process with its traceback

    def stop(self) -> None:
        self._stop.set()

    async def _claim_on(self) -> None:
        await self._say_hello()
        while True:
            await self._free.acquire()
            try:
                given = await self._claim()
            except BaseException:
                self._free.release()
                raise
            if given is None:
                self._free.release()
                continue
            running = Running(given)
            self._running[running.key] = running
            task = asyncio.create_task(self._do(running))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _say_hello(self) -> None:
        body = {
            "worker": self.id,
            "name": self._name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slots": self._slots,
        }
        while True:
            try:
                welcome = msgspec.json.decode(await self._server.post("hello", body), type=Welcome)
            except httpx.HTTPStatusError as error:
                if error.response.status_code in (401, 403):
                    raise SystemExit(f"The server refuses this worker ({error.response.status_code}).") from error
                log.warning("the server is not ready: %s", error)
            except httpx.TransportError as error:
                log.warning("no server at %s yet (%s)", self._url, type(error).__name__)
            else:
                self._lease_s = welcome.lease_s
                log.info("worker %s is ready, %d steps at once", self.id, self._slots)
                return

    async def _claim(self) -> Assignment | None:
        """One step, or None after a while. A server that is away is waited for, however long."""
        try:
            body = await self._server.post("claim", {"worker": self.id, "wait_s": CLAIM_WAIT_S}, retry_s=10.0)
        except httpx.TransportError as error:
            log.warning("the server is away (%s)", type(error).__name__)
            return None
        except httpx.HTTPStatusError as error:
            if error.response.status_code in (401, 403):
                raise SystemExit(f"The server refuses this worker ({error.response.status_code}).") from error
            log.warning("claiming failed: %s", error)
            await asyncio.sleep(1.0)
            return None
        return msgspec.json.decode(body, type=Claimed).assignment

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._lease_s / 4))
            held = [{"step_run_id": r.given.step_run_id, "attempt": r.given.attempt} for r in self._running.values()]
            try:
                body = await self._server.post("beat", {"worker": self.id, "held": held}, retry_s=0.0)
            except (httpx.HTTPError, Lost) as error:
                log.debug("no beat: %s", error)
                continue
            orders = msgspec.json.decode(body, type=Orders)
            for why, found in (("cancelled", orders.cancel), ("lost", orders.lost)):
                for each in found:
                    if running := self._running.get(f"{each.step_run_id}-{each.attempt}"):
                        running.end(why)  # type: ignore[arg-type]

    async def _watch_parent(self) -> None:
        parent = os.getppid()
        while os.getppid() == parent:  # noqa: ASYNC110  # nothing signals it everywhere
            await asyncio.sleep(0.5)
        log.warning("the parent process is gone; stopping")

    async def _tidy_on(self) -> None:
        """Let go of warm processes that nobody used for a while, and of the oldest values."""
        while True:
            await asyncio.sleep(30.0)
            now_s = asyncio.get_running_loop().time()
            for key, zygote in list(self._zygotes.items()):
                if not zygote.is_busy and now_s - zygote.used_s > ZYGOTE_IDLE_S:
                    self._zygotes.pop(key).close()
            await asyncio.to_thread(_prune, self._home / "blobs", CACHE_BYTES_MAX)

    async def _wind_down(self) -> None:
        """Stop every step, politely and then by force, and give them back."""
        held = [{"step_run_id": r.given.step_run_id, "attempt": r.given.attempt} for r in self._running.values()]
        with contextlib.suppress(httpx.HTTPError, Lost):
            await self._server.post("goodbye", {"worker": self.id, "held": held}, retry_s=0.0)
        for running in list(self._running.values()):
            running.end("lost")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_GRACE_S + 3.0)
        for zygote in self._zygotes.values():
            zygote.close()

    # --- one step ---------------------------------------------------------------------------------------------------

    async def _do(self, running: Running) -> None:
        """Run one try from claim to result. The worker's own troubles give the step back; they are not the step's fault."""
        given = running.given
        done = Finish(worker=self.id, step_run_id=given.step_run_id, attempt=given.attempt, outcome="lost")
        output = Output(self._server, given, self.id)
        folder = self._home / "tries" / running.key
        try:
            done = await self._try(running, output, folder, done)
        except Broken as error:
            output.write(f"{error}\n")
            text = str(error).strip().splitlines()
            done = msgspec.structs.replace(done, outcome="failed", error=text[-1][:2000] if text else "It could not start.")
        except Exception:
            log.exception("step %s could not be run; giving it back", running.key)
        try:
            await output.close()
            if running.why != "lost":
                await self._server.post("finish", done, retry_s=RESULT_RETRY_S)
        except Lost:
            log.warning("step %s was given to another worker; its result is dropped", running.key)
        except httpx.HTTPError as error:
            log.error("the result of step %s could not be delivered: %s", running.key, error)
        finally:
            self._running.pop(running.key, None)
            self._free.release()
            shutil.rmtree(folder, ignore_errors=True)

    async def _try(self, running: Running, output: Output, folder: Path, done: Finish) -> Finish:
        given = running.given
        try:
            code = await self._code(given)
            zygote = await self._zygote(code, given)
            for pickle in _pickles(list(given.inputs.values())):
                await self._server.get_blob(pickle.digest, self._home / "blobs" / pickle.digest)
            job = self._write_job(given, code, folder, zygote.environment)
        except BaseException:
            output.started()
            raise
        once = None if zygote.forks else Zygote(code, given.entry, self._environment(), folder / "process.log", once=True)
        try:
            if once:
                await once.warm()
            runner = once or zygote
            try:
                exited = await runner.start(running.key, job, output.write_fd)
            finally:
                output.started()
            code_ = await self._wait(running, runner, exited)
        finally:
            if once:
                once.close()
        done = msgspec.structs.replace(done, exit_code=code_, environment_digest=zygote.environment, reads=_reads(folder))
        return await self._judge(running, folder, done)

    async def _wait(self, running: Running, zygote: Zygote, exited: asyncio.Future[int]) -> int:
        """The exit code; a step that has to stop gets SIGTERM, and SIGKILL after the grace."""
        stopping = asyncio.create_task(running.stop.wait())
        try:
            either: list[asyncio.Future[Any]] = [exited, stopping]
            await asyncio.wait(either, timeout=running.given.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                running.end("timed_out")
                grace_s = {"lost": 0.0, "timed_out": GRACE_S}.get(str(running.why), GRACE_S)
                zygote.signal(running.key, signal.SIGTERM)
                await asyncio.wait([exited], timeout=STOP_GRACE_S if self._stop.is_set() else grace_s)
            if not exited.done():
                zygote.signal(running.key, signal.SIGKILL)
            return await asyncio.wait_for(asyncio.shield(exited), 30.0)
        finally:
            stopping.cancel()

    async def _judge(self, running: Running, folder: Path, done: Finish) -> Finish:
        """What the end of the process means."""
        given, change = running.given, msgspec.structs.replace
        if running.why == "timed_out":
            return change(done, outcome="timed_out", error=f"It took longer than its timeout of {given.timeout_s:g} s.")
        if running.why is not None:
            return change(done, outcome=running.why)
        path = folder / "result.json"
        if not path.exists():
            return change(done, outcome="failed", error=_death(done.exit_code))
        result = msgspec.json.decode(path.read_bytes(), type=_Result)
        if not result.ok:
            return change(done, outcome="failed", error=result.error)
        assert result.value is not None
        for pickle in _pickles([result.value]):
            body = await asyncio.to_thread((folder / pickle.digest).read_bytes)
            await self._server.put_blob(pickle.digest, body)
            (folder / pickle.digest).rename(self._home / "blobs" / pickle.digest)
        return change(done, outcome="succeeded", outputs=result.value)

    async def _code(self, given: Assignment) -> Path:
        """The captured files, unpacked once per digest."""
        digest = given.code.archive_digest
        target = self._home / "code" / digest
        if target.exists():
            return target
        archive = self._home / "blobs" / digest
        await self._server.get_blob(digest, archive)
        part = target.with_name(f"{digest}.{secrets.token_hex(4)}")
        await asyncio.to_thread(_unpack, archive.read_bytes(), part)
        with contextlib.suppress(OSError):
            part.rename(target)  # another step was quicker: its copy is the same
        shutil.rmtree(part, ignore_errors=True)
        return target

    async def _zygote(self, code: Path, given: Assignment) -> Zygote:
        """The warm process for this code; at most ZYGOTES_MAX, the one unused for longest goes."""
        key = (given.code.archive_digest, given.entry)
        async with self._warming.setdefault(key, asyncio.Lock()):
            found = self._zygotes.get(key)
            if found and found.is_alive:
                return found
            idle = sorted((z.used_s, k) for k, z in self._zygotes.items() if not z.is_busy)
            if len(self._zygotes) >= ZYGOTES_MAX and idle:
                self._zygotes.pop(idle[0][1]).close()
            log_path = self._home / "tries" / f"import-{secrets.token_hex(4)}.log"
            made = Zygote(code, given.entry, self._environment(), log_path)
            try:
                ready = await made.warm()
            except BaseException:
                made.close()
                raise
            if made.environment not in self._uploaded:
                await self._server.put_blob(made.environment, ready["environment_body"].encode())
                self._uploaded.add(made.environment)
            self._zygotes[key] = made
            return made

    def _environment(self) -> dict[str, str]:
        """What a step inherits: the machine's variables without the server's own settings and secrets, nor where MLflow's
        client of whoever started the server was pointing."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_") and k not in POINTS_ELSEWHERE}
        paths = [str(self._home / "context"), *filter(None, [kept.get("PYTHONPATH"), _our_folder()])]
        return {
            **kept, "PYTHONPATH": os.pathsep.join(paths), "NORIA_URL": self._url, "MLFLOW_TRACKING_URI": self._url,
            "GIT_PYTHON_REFRESH": "quiet", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip

    def _write_job(self, given: Assignment, code: Path, folder: Path, environment: str) -> Path:
        folder.mkdir(parents=True)
        for entry in code.iterdir():  # captured files can be opened by their relative names; new ones stay in this try
            (folder / entry.name).symlink_to(entry)
        info = given.code
        env = {
            "NORIA_URL": self._url, "NORIA_TOKEN": given.token, "MLFLOW_TRACKING_URI": self._url,
            "MLFLOW_TRACKING_TOKEN": given.token, "NORIA_PIPELINE": given.pipeline, "NORIA_PIPELINE_RUN": given.run_id,
            "NORIA_STEP": given.step, "NORIA_STEP_RUN": given.step_run_id, "NORIA_ATTEMPT": str(given.attempt),
            "NORIA_STEP_DIR": str(folder), "NORIA_READS": " ".join(given.reads),
            "NORIA_SOURCE_DIGEST": info.archive_digest, "NORIA_SOURCE_COMMIT": info.commit,
            "NORIA_SOURCE_BRANCH": info.branch, "NORIA_SOURCE_DIRTY": str(info.is_dirty).lower() if info.commit else "",
            "NORIA_SOURCE_DIFF_DIGEST": info.diff_digest, "NORIA_ENVIRONMENT_DIGEST": environment,
            "NORIA_ARGV": json.dumps(["noria", "pipeline", given.pipeline, given.step]),
        }  # fmt: skip
        path = folder / "job.json"
        job = {
            "function": given.function, "inputs": given.inputs, "env": env, "folder": str(folder),
            "blobs": str(self._home / "blobs"),
        }  # fmt: skip
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.encode(job))
        return path


class _Result(msgspec.Struct, kw_only=True):
    """What a step's process wrote; see noria/client/values.py."""

    ok: bool
    value: Value | None = None
    error: str = ""


def _pickles(values: list[Value]) -> list[Pickle]:
    """Every pickled part of these values."""
    found: list[Pickle] = []
    for value in values:
        if isinstance(value, Pickle):
            found.append(value)
        elif isinstance(value, Part):
            found.append(value.value)
        elif isinstance(value, Many):
            found += _pickles(value.items)
        elif isinstance(value, Named):
            found += _pickles(list(value.items.values()))
    return found


def _reads(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(set((folder / "reads.txt").read_text().split()))
    return []


def _touched(path: Path) -> bool:
    """Is it here? If so, it counts as used now."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(path)
        return True
    return False


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"The step's process ended with code {code} before it returned."
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    hint = " It may have run out of memory." if code == -signal.SIGKILL else ""
    return f"The step's process was killed by {name}.{hint}"


def _unpack(archive: bytes, target: Path) -> None:
    """Files and folders only, inside `target` only."""
    target.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        tar.extractall(target, filter="data")


def _prune(folder: Path, most_bytes: int) -> None:
    """Remove the values that were used longest ago, until the rest fits."""
    files = sorted(((f.stat().st_mtime, f.stat().st_size, f) for f in folder.iterdir()), reverse=True)
    total = 0
    for _, size, file in files:
        total += size
        if total > most_bytes:
            file.unlink(missing_ok=True)


def _write_entry_point(folder: Path) -> None:
    """Make MLflow find our context provider in steps, also where Noria is not installed as a package."""
    info = folder / "noria_run_context-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noria-run-context\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "[mlflow.run_context_provider]\nnoria = noria.client.mlflow_context:NoriaRunContext\n"
    )


def _our_folder() -> str:
    return str(Path(__file__).parents[2])


def _guard() -> None:
    """On Linux: end with the parent, and keep other processes of this user from reading our token."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


async def work(url: str, token: str, home: Path, slots: int, name: str) -> None:
    """One worker, until SIGTERM or SIGINT."""
    server = Server(url, token)
    worker = Worker(server, home, url=url, slots=slots, name=name)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, worker.stop)
    try:
        await worker.run()
    finally:
        await server.close()


def main() -> None:
    environ = os.environ
    parser = argparse.ArgumentParser(description="Run pipeline steps for a Noria server.")
    parser.add_argument("--url", default=environ.get("NORIA_URL", "http://127.0.0.1:5000"))
    parser.add_argument("--home", default=environ.get("NORIA_HOME", "./noria-home"))
    parser.add_argument("--slots", type=int, default=int(environ.get("NORIA_WORKERS") or 2))
    parser.add_argument("--name", default="", help="A worker of the same name takes over at once what this one held.")
    options = parser.parse_args()
    token = environ.get("NORIA_INTERNAL_TOKEN") or environ.get("NORIA_TOKEN") or ""
    set_up_logging("worker", environ.get("NORIA_LOG_LEVEL") or "info")
    _guard()
    name = options.name or f"{socket.gethostname()}:{Path(options.home).resolve()}"
    home = Path(options.home).resolve() / "worker" / blake3(name.encode()).hexdigest()[:12]
    asyncio.run(work(options.url, token, home, max(1, options.slots), name.replace("\x00", "")))


if __name__ == "__main__":
    main()
