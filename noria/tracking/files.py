"""Files over HTTP: uploads that are spooled, never held in memory; paths as they were sent; who may knock at all."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import anyio
import anyio.to_thread
from litestar import Request

from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.tracking.model import check_path

SPOOL_BYTES = 1 << 20


def knock(op: Op, action: str) -> None:
    """Refuse, before anything is read, an actor who may do `action` nowhere. Raises Unauthenticated, Forbidden."""
    if op.visible(action) == []:
        op.require(action)


def artifact_path_of(request: Request[Any, Any, Any], mark: str) -> str:
    """What follows `mark` in the address as it was sent, decoded once. Raises Invalid.

    From the raw path: the router drops doubled and trailing slashes from the other one.
    """
    sent = unquote_to_bytes(request.scope.get("raw_path") or quote(str(request.scope["path"])))
    try:
        path = sent.decode()
    except UnicodeDecodeError as cause:
        raise Invalid("The path is not valid UTF-8.", where="path") from cause
    return check_path(path[path.index(mark) + len(mark) :])


@asynccontextmanager
async def stored(request: Request[Any, Any, Any]) -> AsyncIterator[Path | bytes]:
    """The body: as bytes when it is small and says so, else as a temporary file.

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
        received, waiting = 0, bytearray()
        async with await anyio.open_file(path, "wb") as file:
            async for chunk in request.stream():
                received += len(chunk)
                waiting += chunk
                if len(waiting) >= SPOOL_BYTES:  # each write is a hop to a thread
                    await file.write(waiting)
                    waiting = bytearray()
            await file.write(waiting)
        _require_whole(received, declared)
        yield path
    finally:
        await anyio.to_thread.run_sync(lambda: path.unlink(missing_ok=True))


def _require_whole(received: int, declared: str | None) -> None:
    if declared is not None and int(declared) != received:
        raise Invalid(f"The body ended after {received} of {declared} bytes.", hint="Send it again.")
