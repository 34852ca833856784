"""Warm processes, from the worker's side: one per code, environment and number of threads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, TypeVar

from noria.pipelines.worker.server import Broken

T = TypeVar("T")

IMPORT_TIMEOUT_S = 300.0


class Zygote:
    """The worker's end of a warm process; see noria/client/zygote.py."""

    def __init__(self, python: str, code: Path, entry: str, env: dict[str, str], log_path: Path) -> None:
        ours, theirs = socket.socketpair()
        args = [python, "-P", "-m", "noria.client.zygote"]
        args += ["--control", str(theirs.fileno()), "--code", str(code), "--entry", entry]
        self._log_path = log_path
        with theirs, log_path.open("wb") as output:
            self._process = subprocess.Popen(
                args, pass_fds=[theirs.fileno()], env=env, cwd=code, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        ours.setblocking(False)
        self._control, self._buffer = ours, b""
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._started: dict[str, asyncio.Future[int]] = {}
        self._exits: dict[str, asyncio.Future[int]] = {}
        self._turn = asyncio.Lock()
        self.environment = ""
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
        self.environment = found["environment"]
        return found

    async def start(self, key: str, job: Path, output: int) -> tuple[asyncio.Future[int], int]:
        """Start a step: (the future is its exit code, its process). `output` stays the caller's to close."""
        loop = asyncio.get_running_loop()
        self.used_s = loop.time()
        async with self._turn:
            self._started[key], self._exits[key] = loop.create_future(), loop.create_future()
            exited = self._exits[key]
            message = json.dumps({"run": key, "job": str(job)}).encode() + b"\n"
            try:
                socket.send_fds(self._control, [message], [output])
                pid = await self._started[key]
            except OSError as cause:
                self._exits.pop(key, None)
                raise Broken("The process that starts the steps is gone." + self._printed()) from cause
            finally:
                self._started.pop(key, None)
        return exited, pid

    def signal(self, key: str, number: int) -> None:
        """To the whole process group of a step."""
        with contextlib.suppress(OSError):
            self._control.send(json.dumps({"signal": key, "number": int(number)}).encode() + b"\n")

    def close(self) -> None:
        """End it, and with it every step it started."""
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
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
        """The socket closed: the zygote is gone, and took its steps along."""
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
            _resolve(exited, -signal.SIGKILL)
        self._exits.clear()

    def _printed(self) -> str:
        with contextlib.suppress(OSError):
            return self._log_path.read_text(errors="replace")[-8000:]
        return ""


def _resolve(future: asyncio.Future[T] | None, value: T) -> None:
    if future is not None and not future.done():
        future.set_result(value)
