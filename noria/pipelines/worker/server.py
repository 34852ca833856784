"""The worker's connection to the control plane."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
from blake3 import blake3

REQUEST_TIMEOUT_S = 60.0
AWAY_WAIT_S = 0.5  # a server that is not there costs nothing to ask; once it is back, work goes on within a second
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
        return await self._patiently(
            lambda: self._http.post(f"{self.work}/{what}", content=content, headers={"content-type": "application/json"}),
            retry_s,
        )

    async def get_blob(self, digest: str, path: Path) -> None:
        """Fetch a blob into `path`; checked against its digest."""
        if touched(path):
            return
        body = await self._patiently(lambda: self._http.get(f"{self.blobs}/{digest}"), 60.0)
        if blake3(body).hexdigest() != digest:
            raise Broken(f"The blob {digest[:12]} arrived damaged.")
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        part.write_bytes(body)
        part.rename(path)

    async def put_blob(self, digest: str, body: bytes) -> None:
        await self._patiently(lambda: self._http.put(f"{self.blobs}/{digest}", content=body), RESULT_RETRY_S)

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
