"""An HTTP transport without a network: the client's requests go straight into an ASGI application in this process.

The CLI works on a local home this way when no server runs, and the tests go through the same door as everybody.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx


class InProcess(httpx.BaseTransport):
    """Runs `app` on an event loop of its own thread."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="in-process", daemon=True)
        self._thread.start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(self._ask(request), self._loop).result(300)

    def at_once(self, requests: list[httpx.Request]) -> list[httpx.Response]:
        """Ask all at the same time; answers in the same order."""

        async def ask_all() -> list[httpx.Response]:
            return await asyncio.gather(*map(self._ask, requests))

        return asyncio.run_coroutine_threadsafe(ask_all(), self._loop).result(300)

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        headers = httpx.Headers(request.headers)
        headers["accept-encoding"] = "identity"  # nothing is far away: packing would only cost
        body = request.stream
        content: Any = b"".join(body) if isinstance(body, httpx.ByteStream) else _Chunks(body)
        asked: Any = httpx.Request(request.method, request.url, headers=headers, content=content)
        answer = await self._transport.handle_async_request(asked)
        if isinstance(content, _Chunks) and content.error:
            raise content.error
        found = await answer.aread()
        return httpx.Response(answer.status_code, headers=answer.headers, content=found)

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class _Chunks:
    """A body that is made while it is sent, of any size; its maker may block, or fail, which is then the caller's to know."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        waiting = iter(self._body)
        try:
            while (chunk := await asyncio.to_thread(next, waiting, None)) is not None:
                yield chunk
        except Exception as error:
            self.error = error
            raise
