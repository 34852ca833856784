"""What a worker keeps on its disk: code and values by digest, the folders of attempts, environments. All of it can be had again."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from pathlib import Path

from noria.client.environment import unpack_code
from noria.pipelines.model.values import Value, stored
from noria.pipelines.model.work import Assignment
from noria.pipelines.worker.server import Server

CACHE_BYTES_MAX = 4 << 30


class Home:
    """The folder of one worker."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self._server = folder, server
        self.blobs, self.tries, self.context = folder / "blobs", folder / "tries", folder / "context"
        self.environments, self.client = folder / "environments", folder / "client"

    def prepare(self) -> None:
        """Make it, and remove what a worker that was killed left behind."""
        for each in (self.folder / "code", self.blobs, self.tries, self.context, self.environments, self.client):
            each.mkdir(parents=True, exist_ok=True)
        for left in self.tries.iterdir():
            shutil.rmtree(left, ignore_errors=True)
        _write_entry_point(self.context)

    async def code(self, digest: str) -> Path:
        """The captured files, unpacked once per digest."""
        target = self.folder / "code" / digest
        if target.exists():
            return target
        archive = self.blobs / digest
        await self._server.get_blob(digest, archive)
        part = target.with_name(f"{digest}.{secrets.token_hex(4)}")
        await asyncio.to_thread(unpack_code, archive.read_bytes(), part)
        with contextlib.suppress(OSError):
            part.rename(target)  # another step was quicker: its copy is the same
        shutil.rmtree(part, ignore_errors=True)
        return target

    async def inputs(self, given: Assignment) -> None:
        """Fetch the stored values that a step takes."""
        for value in given.inputs.values():
            for kept in stored(value):
                await self._server.get_blob(kept.digest, self.blobs / kept.digest)

    async def outputs(self, value: Value, folder: Path) -> None:
        """Store the values that a step left in `folder`. One that is there twice is one blob."""
        for digest in dict.fromkeys(kept.digest for kept in stored(value)):
            await self._server.put_file(digest, folder / digest)
            (folder / digest).rename(self.blobs / digest)

    async def prune(self) -> None:
        """Remove the values that were used longest ago, until the rest fits."""
        await asyncio.to_thread(_prune, self.blobs, CACHE_BYTES_MAX)


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
