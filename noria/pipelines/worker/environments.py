"""Environments of their own for steps: built by uv from a lock, once per lock, kept until many newer ones are used.

An environment holds exactly what its lock lists. Noria's client is found in it through a line in a `.pth` file that names a folder
with links to the client and to the few packages that it needs; that folder comes last on the path, so the environment's own
packages win, and it has no metadata, so it is not counted among what is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from blake3 import blake3

import noria
from noria import __version__
from noria.client.linking import CLIENT_NEEDS, link, link_client
from noria.client.packages import uv_program
from noria.pipelines.model.spec import EnvironmentSpec
from noria.pipelines.worker.server import Broken, Server

log = logging.getLogger("noria.worker")

BUILD_TIMEOUT_S = 1800.0
ENVIRONMENTS_MAX = 12
Say = Callable[[str], None]


class Environments:
    """Those that this worker has built, below its home."""

    def __init__(self, folder: Path, client: Path, blobs: Path, server: Server) -> None:
        self._folder, self._client, self._blobs, self._server = folder, client, blobs, server
        self._building: dict[str, asyncio.Lock] = {}

    async def python(self, spec: EnvironmentSpec, say: Say) -> Path:
        """The interpreter of an environment, which is built first when it is not there. Raises Broken."""
        key = key_of(spec)
        turn = self._building.setdefault(key, asyncio.Lock())
        if turn.locked():
            say("── waiting for the environment, which another step builds ──\n")
        async with turn:
            folder = self._folder / key
            ready = folder / "ready"
            if not ready.exists():
                await self._build(spec, folder, say)
                ready.touch()
            os.utime(ready)
        return folder / "venv" / "bin" / "python"

    def prune(self, in_use: Iterable[str]) -> None:
        """Remove those that were used longest ago, until there are few enough; never one of a warm process."""
        found = []
        for folder in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(((folder / "ready").stat().st_mtime, folder))
        busy = {*in_use, *(key for key, turn in self._building.items() if turn.locked())}
        for _, folder in sorted(found, reverse=True)[ENVIRONMENTS_MAX:]:
            if folder.name not in busy:
                (folder / "ready").unlink()  # first, so that a worker that dies here builds it anew
                shutil.rmtree(folder, ignore_errors=True)

    async def _build(self, spec: EnvironmentSpec, folder: Path, say: Say) -> None:
        began_s = asyncio.get_running_loop().time()
        say(f"── building the environment: {', '.join(spec.asked)}, Python {spec.python} ──\n")
        lock, venv = self._blobs / spec.lock_digest, folder / "venv"
        await self._server.get_blob(spec.lock_digest, lock)
        await asyncio.to_thread(_begin, folder, lock)
        own = f"{sys.version_info[0]}.{sys.version_info[1]}"
        python = sys.executable if spec.python == own else spec.python
        await self._uv(["venv", "--no-project", "--quiet", "--python", python, str(venv)], say)
        args = ["pip", "sync", "--python", str(venv / "bin" / "python"), "--no-progress"]
        hashed = ["--require-hashes"] if "--hash=" in (folder / "requirements.txt").read_text() else []
        await self._uv([*args, *hashed, str(folder / "requirements.txt")], say)
        site = next(venv.glob("lib/python3.*/site-packages"))
        client = await self._client_for(venv / "bin" / "python", site.parent.name, say)
        (site / "zz_noria_client.pth").write_text(f"{client}\n")
        say(f"── built in {asyncio.get_running_loop().time() - began_s:.1f} s ──\n")

    async def _client_for(self, python: Path, version: str, say: Say) -> Path:
        """The folder with Noria's client for a version of Python."""
        folder = self._client / f"{version}-{__version__}"
        if version == f"python{sys.version_info[0]}.{sys.version_info[1]}":
            await asyncio.to_thread(link_client, folder)
        elif not (folder / "noria").exists():
            needs = [f"{name}=={metadata.version(name)}" for name in CLIENT_NEEDS]
            args = ["pip", "install", "--python", str(python), "--target", str(folder), "--no-progress", "--quiet"]
            await self._uv([*args, *needs], say)
            for info in folder.glob("*.dist-info"):
                shutil.rmtree(info)
            link(folder / "noria", Path(noria.__file__).parent)
        return folder

    async def _uv(self, args: list[str], say: Say) -> None:
        """Run uv, and pass on what it says. Raises Broken."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_") and k not in ("VIRTUAL_ENV", "PYTHONPATH")}
        process = await asyncio.create_subprocess_exec(
            uv_program(), *args, env=env, cwd=self._folder, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        last = ""
        try:
            async with asyncio.timeout(BUILD_TIMEOUT_S):
                async for line in process.stdout:
                    text = line.decode("utf-8", "replace")
                    say(text)
                    last = text.strip() or last
                code = await process.wait()
        except TimeoutError as cause:
            raise Broken(f"The environment could not be built within {BUILD_TIMEOUT_S:.0f} s.") from cause
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code:
            raise Broken(f"The environment could not be built: {last.lstrip('×╰─▶ ')}")


def _begin(folder: Path, lock: Path) -> None:
    """An empty folder with the lock; what a build that was broken off left is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(lock, folder / "requirements.txt")


def key_of(spec: EnvironmentSpec) -> str:
    """The name of an environment: of its lock, its Python, and the client that it is linked to."""
    return blake3(f"{spec.lock_digest} {spec.python} {__version__}".encode()).hexdigest()[:20]
