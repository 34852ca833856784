"""What a step prints, on its way to the server."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os

from noria.kernel.redaction import Redactor, Stream
from noria.pipelines.model.limits import LOG_BYTES_MAX
from noria.pipelines.model.work import Assignment
from noria.pipelines.worker.server import RESULT_RETRY_S, Server

LOG_EVERY_S = 0.15
LOG_CHUNK_BYTES = 48 << 10


class Output:
    """Reads what a step prints and sends it on in pieces, whole characters at a time, up to the limit."""

    def __init__(self, server: Server, given: Assignment, worker: str, *, offset: int = 0) -> None:
        self._server, self._given, self._worker = server, given, worker
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self.redactor = Redactor(given.secrets)
        self._masking = Stream(self.redactor)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending: list[str] = []
        self._pending_bytes = 0
        self._kept = self._sent = offset  # what of this try is there already
        self._is_cut = False
        self._room = asyncio.Event()
        self._stop = asyncio.Event()
        self._reading = True
        asyncio.get_running_loop().add_reader(self._read_fd, self._read)
        self._sender = asyncio.create_task(self._send_on())

    def write(self, text: str) -> None:
        """Add a text of the worker's own."""
        self._add(text)

    def go_on(self, offset: int) -> None:
        """What is written from here on comes after what somebody else has sent of this try."""
        self._kept = self._sent = offset

    async def close(self) -> tuple[int, str]:
        """Send all but the end, which goes along with the result: (where it begins, the text). Raises Lost."""
        self._read()
        self._quiet()
        os.close(self._read_fd)
        self._add(self._decoder.decode(b"", True))
        self._keep(self._masking.end())
        self._stop.set()
        await self._sender
        while self._pending_bytes > LOG_CHUNK_BYTES:
            await self._send_one()
        return self._sent, "".join(self._pending)

    async def flush(self) -> None:
        """Send the end too, when no result goes to the server from here."""
        while self._pending:
            await self._send_one()

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
        self._keep(self._masking.push(text) if text else "")

    def _keep(self, text: str) -> None:
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
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), LOG_EVERY_S)
            while self._pending and not self._stop.is_set():
                await self._send_one()

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
