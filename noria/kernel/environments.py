"""Environments of their own, for steps and for models: built by uv from a lock, once per lock, kept until many newer ones are used.

An environment holds exactly what its lock lists. Noria is found in it through a line in a `.pth` file that names a folder with links
to it and to the few packages that the process there needs; that folder comes last on the path, so the environment's own packages
win, and it has no metadata, so it is not counted among what is installed.

uv is started without a shell, and asks the indexes that this machine is configured for: a lock names none.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

from blake3 import blake3

import noria
from noria import __version__
from noria.kernel.errors import Invalid
from noria.kernel.linking import CLIENT_NEEDS, link, link_packages

BUILD_TIMEOUT_S = 1800.0
ENVIRONMENTS_MAX = 12
LOCK_LOOK_S = 0.2
Say = Callable[[str], None]


class Environments:
    """Those that this machine has built, below `folder`; what each is lent lies below `links`."""

    def __init__(
        self, folder: Path, links: Path, environ: Mapping[str, str], *, needs: tuple[str, ...] = CLIENT_NEEDS
    ) -> None:
        self._folder, self._links, self._needs = folder, links, needs
        self._uv = Uv(environ)
        self._building: dict[str, asyncio.Lock] = {}

    async def python(
        self, key: str, python: str, lock: Callable[[], Awaitable[bytes]], say: Say, *, about: str,
        options: tuple[str, ...] = (),
    ) -> Path:  # fmt: skip
        """The interpreter of the environment `key`, which is built from what `lock` gives when it is not there. Raises Invalid.

        `python`: its version, such as 3.12; `about`: what is in it, for people; `options`: more of uv's.
        """
        turn = self._building.setdefault(key, asyncio.Lock())
        if turn.locked():
            say("── waiting for the environment, which another one builds ──\n")
        async with turn, _locked(self._folder / f"{key}.lock"):
            folder = self._folder / key
            ready = folder / "ready"
            if not ready.exists():
                say(f"── building the environment: {about}, Python {python} ──\n")
                await self._build(await lock(), python, folder, say, options)
                ready.touch()
            os.utime(ready)
        return folder / "venv" / "bin" / "python"

    def prune(self, in_use: Iterable[str]) -> None:
        """Remove those that were used longest ago, until there are few enough; never one of `in_use`."""
        found = []
        for folder in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found.append(((folder / "ready").stat().st_mtime, folder))
        busy = {*in_use, *(key for key, turn in self._building.items() if turn.locked())}
        for _, folder in sorted(found, reverse=True)[ENVIRONMENTS_MAX:]:
            if folder.name not in busy:
                (folder / "ready").unlink()  # first, so that a process that dies here builds it anew
                shutil.rmtree(folder, ignore_errors=True)

    async def _build(self, lock: bytes, python: str, folder: Path, say: Say, options: tuple[str, ...]) -> None:
        began_s = asyncio.get_running_loop().time()
        venv, listed = folder / "venv", folder / "requirements.txt"
        await asyncio.to_thread(_begin, folder, lock)
        await self._uv.run(["venv", "--no-project", "--quiet", "--python", interpreter(python), str(venv)], folder, say)
        args = ["pip", "sync", "--python", str(venv / "bin" / "python"), "--no-progress", *options]
        hashed = ["--require-hashes"] if b"--hash=" in lock else []
        await self._uv.run([*args, *hashed, str(listed)], folder, say)
        site = next(venv.glob("lib/python3.*/site-packages"))
        lent = await self._lent(venv / "bin" / "python", site.parent.name, folder, say)
        (site / "zz_noria_client.pth").write_text(f"{lent}\n")
        say(f"── built in {asyncio.get_running_loop().time() - began_s:.1f} s ──\n")

    async def _lent(self, python: Path, version: str, folder: Path, say: Say) -> Path:
        """The folder with Noria and what it needs for a version of Python."""
        lent = self._links / f"{version}-{__version__}"
        if version == f"python{sys.version_info[0]}.{sys.version_info[1]}":
            await asyncio.to_thread(link_packages, lent, self._needs)
        elif not (lent / "noria").exists():
            needs = [f"{name}=={metadata.version(name)}" for name in self._needs]
            args = ["pip", "install", "--python", str(python), "--target", str(lent), "--no-progress", "--quiet"]
            await self._uv.run([*args, *needs], folder, say)
            for info in lent.glob("*.dist-info"):
                shutil.rmtree(info)
            link(lent / "noria", Path(noria.__file__).parent)
        return lent


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """One process at a time: several may share a home."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        async with asyncio.timeout(BUILD_TIMEOUT_S):
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(LOCK_LOOK_S)
        yield


def interpreter(python: str) -> str:
    """What uv is told to find a version of Python by: our own where it is the same."""
    return sys.executable if python == f"{sys.version_info[0]}.{sys.version_info[1]}" else python


def uv_program() -> str:
    """Where uv is; it is one of Noria's dependencies."""
    from uv import find_uv_bin

    return str(find_uv_bin())


class Uv:
    """The program, with the variables of this machine and none of Noria's."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        hidden = ("VIRTUAL_ENV", "PYTHONPATH")
        self._environ = {k: v for k, v in environ.items() if not k.startswith("NORIA_") and k not in hidden}

    async def run(self, args: list[str], folder: Path, say: Say, *, text: str = "") -> str:
        """Run it in `folder` on `text`, and pass on what it says; gives what it printed. Raises Invalid with its reason."""
        process = await asyncio.create_subprocess_exec(
            uv_program(), *args, env=self._environ, cwd=folder, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(text.encode())
        process.stdin.close()
        printed = asyncio.ensure_future(process.stdout.read())
        said: list[str] = []
        try:
            async with asyncio.timeout(BUILD_TIMEOUT_S):
                async for line in process.stderr:
                    said.append(line.decode("utf-8", "replace"))
                    say(said[-1])
                found = (await printed).decode("utf-8", "replace")
                code = await process.wait()
        except TimeoutError as cause:
            raise Invalid(f"The environment could not be built within {BUILD_TIMEOUT_S:.0f} s.") from cause
        finally:
            printed.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code:
            raise Invalid(f"The environment could not be built: {_reason(said)}")
        return found


def _reason(said: list[str]) -> str:
    """What uv says went wrong, in one line: its lines from the first that is marked as an error."""
    first = next((i for i, line in enumerate(said) if line.lstrip().startswith(("×", "error"))), max(0, len(said) - 1))
    return " ".join(re.sub(r"[×╰─▶│├]", " ", "".join(said[first:])).split())[:1500] or "uv gave no reason."


def _begin(folder: Path, lock: bytes) -> None:
    """An empty folder with the lock; what a build that was broken off left is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_bytes(lock)


def key_of(*parts: str) -> str:
    """The name of an environment: of all that decides what is in it, and of the Noria that it is linked to."""
    return blake3(" ".join([*parts, __version__]).encode()).hexdigest()[:20]
