"""The worker's connection to the control plane."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
from blake3 import blake3

REQUEST_TIMEOUT_S = 60.0
AWAY_WAIT_S = 0.5  # a server that is not there costs nothing to ask; once it is back, work goes on within a second
PIECE_BYTES = 1 << 20  # of a value that is too large to be held whole
RESULT_RETRY_S = 900.0  # how long a result is offered to a server that does not answer


class Lost(Exception):
    """Another worker has this step by now."""


class Broken(Exception):
    """The step could not be started: its code does not import, its environment cannot be built, or a value is gone."""


class Server:
    """The control plane, spoken to with patience: what fails for a moment is tried again."""

    work, blobs = "/api/v1/pipelines/work", "/api/v1/blobs"

    def __init__(self, url: str, token: str) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=REQUEST_TIMEOUT_S)

    async def post(self, what: str, body: Any, *, retry_s: float = 30.0) -> bytes:
        """POST to the work routes. Raises Lost when the step is another worker's, and httpx.HTTPError when patience ends."""
        content = msgspec.json.encode(body)
        headers = {"content-type": "application/json"}
        answer = await self._patiently(
            lambda: self._http.post(f"{self.work}/{what}", content=content, headers=headers), retry_s
        )
        return answer.content

    async def get_blob(self, digest: str, path: Path) -> None:
        """Fetch a blob into `path`; checked against its digest."""
        if touched(path):
            return
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            await self._patiently(lambda: self._download(digest, part), 60.0)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)

    async def _download(self, digest: str, part: Path) -> httpx.Response:
        """Into `part` as it comes: a value may be larger than memory. Raises Broken when it is not what was asked for."""
        async with self._http.stream("GET", f"{self.blobs}/{digest}") as answer:
            if answer.is_success:
                seen = blake3()
                with part.open("wb") as file:
                    async for piece in answer.aiter_bytes(PIECE_BYTES):
                        seen.update(piece)
                        file.write(piece)
                if seen.hexdigest() != digest:
                    raise Broken(f"The blob {digest[:12]} arrived damaged.")
            else:
                await answer.aread()
        return answer

    async def put_blob(self, digest: str, body: bytes) -> None:
        await self._patiently(lambda: self._http.put(f"{self.blobs}/{digest}", content=body), RESULT_RETRY_S)

    async def put_file(self, digest: str, path: Path) -> None:
        """Store a file under its digest; a large one is sent as it is read."""
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        if size_bytes <= PIECE_BYTES:
            await self.put_blob(digest, await asyncio.to_thread(path.read_bytes))
            return

        async def pieces() -> AsyncIterator[bytes]:
            with path.open("rb") as file:
                while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                    yield piece

        headers = {"content-length": str(size_bytes)}
        await self._patiently(
            lambda: self._http.put(f"{self.blobs}/{digest}", content=pieces(), headers=headers), RESULT_RETRY_S
        )

    async def _patiently(self, ask: Callable[[], Awaitable[httpx.Response]], retry_s: float) -> httpx.Response:
        loop = asyncio.get_running_loop()
        until_s, wait_s = loop.time() + retry_s, 0.1
        while True:
            try:
                answer = await ask()
                if answer.status_code == 409:
                    raise Lost(answer.text[:300])
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer.raise_for_status()
                failure: Exception = httpx.HTTPStatusError(answer.text[:300], request=answer.request, response=answer)
            except httpx.TransportError as error:
                failure, wait_s = error, min(wait_s, AWAY_WAIT_S)
            if loop.time() + wait_s > until_s:
                raise failure
            await asyncio.sleep(wait_s)
            wait_s = min(5.0, wait_s * 2)

    async def close(self) -> None:
        await self._http.aclose()


def touched(path: Path) -> bool:
    """Is it here? If so, it counts as used now."""
    with suppress(FileNotFoundError):
        os.utime(path)
        return True
    return False
