"""Environments of their own for steps: built from a lock that the server keeps as a blob."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from noria.kernel import environments
from noria.kernel.environments import Say
from noria.kernel.errors import Invalid
from noria.pipelines.model.spec import EnvironmentSpec
from noria.pipelines.worker.server import Broken, Server


class Environments:
    """Those that this worker has built, below its home."""

    def __init__(self, folder: Path, client: Path, blobs: Path, server: Server) -> None:
        self._built, self._blobs, self._server = environments.Environments(folder, client, os.environ), blobs, server

    async def python(self, spec: EnvironmentSpec, say: Say) -> Path:
        """The interpreter of an environment, which is built first when it is not there. Raises Broken."""
        lock = self._blobs / spec.lock_digest

        async def fetched() -> bytes:
            await self._server.get_blob(spec.lock_digest, lock)
            return await asyncio.to_thread(lock.read_bytes)

        try:
            return await self._built.python(key_of(spec), spec.python, fetched, say, about=", ".join(spec.asked))
        except Invalid as error:
            raise Broken(error.message) from error

    def prune(self, in_use: Iterable[str]) -> None:
        """Remove those that were used longest ago, until there are few enough; never one of a warm process."""
        self._built.prune(in_use)


def key_of(spec: EnvironmentSpec) -> str:
    """The name of an environment: of its lock, its Python, and the client that it is linked to."""
    return environments.key_of(spec.lock_digest, spec.python)
