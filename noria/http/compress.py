"""Gzip for what browsers read a lot of: columns, curves, the UI's own files. Raw ASGI, inside the door.

Only whole answers of Noria's own API above a few kilobytes, and static files, when the client says it can read them. Never a stream
(artifacts, events), and never MLflow's protocol, whose clients are close by and count milliseconds. A static file is packed once.
"""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio.to_thread

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]

BYTES_MIN = 4_096
STATIC_BYTES_MIN = 256  # packed once, and sixty small modules add up
IN_THREAD_BYTES = 65_536  # packing this much takes about a millisecond
PLACES = ("/api/v1/", "/static/")
TYPES = (b"application/json", b"text/javascript", b"text/css", b"image/svg+xml")


class Compress:
    """Wraps the application."""

    def __init__(self, app: ASGI) -> None:
        self._app = app
        self._packed: dict[str, bytes] = {}  # static files by path; as many as there are files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PLACES) or not _accepts(scope):
            await self._app(scope, receive, send)
            return
        head: MutableMapping[str, Any] | None = None
        least = STATIC_BYTES_MIN if scope["path"].startswith("/static/") else BYTES_MIN

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal head
            if message["type"] == "http.response.start" and _fits(message):
                head = message
                return
            if head is None:
                await send(message)
                return
            start, head = head, None
            body = message.get("body", b"")
            if message["type"] == "http.response.body" and not message.get("more_body") and len(body) >= least:
                packed = await self._pack(scope["path"], body)
                start["headers"] = [
                    *((k, v) for k, v in start["headers"] if k.lower() != b"content-length"),
                    (b"content-encoding", b"gzip"), (b"content-length", str(len(packed)).encode()), (b"vary", b"accept-encoding"),
                ]  # fmt: skip
                message = {**message, "body": packed}
            await send(start)
            await send(message)

        await self._app(scope, receive, answer)

    async def _pack(self, path: str, body: bytes) -> bytes:
        if path.startswith("/static/"):
            if path not in self._packed:
                self._packed[path] = await anyio.to_thread.run_sync(gzip.compress, body, 9)
            return self._packed[path]
        if len(body) < IN_THREAD_BYTES:
            return gzip.compress(body, 1)
        return await anyio.to_thread.run_sync(gzip.compress, body, 1)


def _accepts(scope: Scope) -> bool:
    return any(k.lower() == b"accept-encoding" and b"gzip" in v for k, v in scope["headers"])


def _fits(start: MutableMapping[str, Any]) -> bool:
    headers = {k.lower(): v for k, v in start["headers"]}
    kind = headers.get(b"content-type", b"").split(b";")[0]
    return start["status"] == 200 and kind in TYPES and b"content-encoding" not in headers
