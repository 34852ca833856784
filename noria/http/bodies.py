"""Bodies of uploads: spooled, never held in memory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import anyio.to_thread
from blake3 import blake3
from litestar import Request

from noria.kernel.blobs import BlobInfo, Spool
from noria.kernel.errors import Invalid

SPOOL_BYTES = 1 << 20


@asynccontextmanager
async def stored(request: Request[Any, Any, Any]) -> AsyncIterator[Spool | bytes]:
    """The body: as bytes when it is small and says so, else as a temporary file, hashed and written while the next part arrives.

    A body that ends early is an error, so that half a file is never kept.
    """
    declared = request.headers.get("content-length")
    if declared is not None and int(declared) <= SPOOL_BYTES:
        whole = b"".join([chunk async for chunk in request.stream()])
        _require_whole(len(whole), declared)
        yield whole
        return
    with tempfile.NamedTemporaryFile(prefix="noria-upload-", delete=False) as spool:
        path = Path(spool.name)
    try:
        with path.open("wb") as file:  # noqa: ASYNC230 – opening is quick, the writing is in a thread
            spooling, waiting = _Spooling(file), bytearray()
            try:
                async for chunk in request.stream():
                    waiting += chunk
                    if len(waiting) >= SPOOL_BYTES:
                        await spooling.take(waiting)
                        waiting = bytearray()
                await spooling.take(waiting)
            finally:
                await spooling.end()
        _require_whole(spooling.received, declared)
        yield Spool(path, BlobInfo(spooling.digest(), spooling.received))
    finally:
        await anyio.to_thread.run_sync(lambda: path.unlink(missing_ok=True))


class _Spooling:
    """Writes and hashes in a thread, one part at a time, while the next is received."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hasher = file, blake3()
        self._writing: asyncio.Future[None] | None = None
        self.received = 0

    async def take(self, part: bytearray) -> None:
        """Raises what went wrong with the part before."""
        await self.end()
        self.received += len(part)
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, part)

    async def end(self) -> None:
        """Wait for the part that is being written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    def digest(self) -> str:
        return self._hasher.hexdigest()

    def _write(self, part: bytearray) -> None:
        self._file.write(part)
        self._hasher.update(part)


def _require_whole(received: int, declared: str | None) -> None:
    if declared is not None and int(declared) != received:
        raise Invalid(f"The body ended after {received} of {declared} bytes.", hint="Send it again.")
