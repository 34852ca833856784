"""What is made of models and environments before a worker starts: ONNX files, and the compiled form of packages."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from noria.kernel.ids import new_id
from noria.registry.model import ModelFile, digest_of
from noria.serving import bounds
from noria.serving.bounds import Limits, Watch
from noria.serving.fetched import Fetch, described_files, fetch_model
from noria.serving.launch import Launcher, Wish
from noria.serving.logs import open_log
from noria.serving.model import Conversion, DesiredRevision, RevisionConfig

log = logging.getLogger("noria.node")

PRIME_TIMEOUT_S = 180.0
CONVERT_TIMEOUT_S = 120.0
WATCH_S = 0.05
Limiting = Callable[[RevisionConfig], Limits]
# Stores the bytes, registers them, and says what is registered: another node may have been quicker.
Register = Callable[[Conversion, Path], Awaitable[Conversion]]


class Primer:
    """Compiles what models import in a new environment; without it each worker would, for it may not write there."""

    def __init__(self, home: Path, launcher: Launcher, limits: Limiting) -> None:
        self._home = home
        self._launcher, self._limits = launcher, limits

    async def prime(self, python: Path, modules: list[str]) -> None:
        scratch = self._home / "serving" / "scratch" / str(os.getpid()) / new_id()
        limits = self._limits(RevisionConfig())
        wish = Wish(python=str(python), is_own=True, scratch=scratch, reads=(), writes=(python.parents[1],), limits=limits)
        output_path = self._home / "serving" / "logs" / "prime.log"
        with open_log(output_path) as output:
            process = self._launcher.start(wish, "noria.serving.prime", modules, output)
        how = await ended(process, PRIME_TIMEOUT_S, Watch(process.pid, limits, scratch, output_path, time.monotonic))
        if how:
            log.warning("what models import in %s is not compiled: it %s", python.parents[2].name, how)
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


async def ended(process: subprocess.Popen[bytes], timeout_s: float, watch: Watch) -> str:
    """Wait until it ended well; else how it ended."""
    try:
        async with asyncio.timeout(timeout_s):
            while process.poll() is None:
                await asyncio.sleep(WATCH_S)
                if found := await watch.look():
                    return f"was ended: {found}"
    except TimeoutError:
        return f"took longer than {timeout_s:.0f} s"
    finally:
        bounds.end(process.pid)
        process.wait()
    return f"ended with code {process.returncode}" if process.returncode else ""


class Converter:
    """ONNX files of models: made one at a time, each once, registered by digest so that all nodes answer with the same bytes."""

    def __init__(self, home: Path, launcher: Launcher, limits: Limiting, register: Register, fetch: Fetch) -> None:
        self._folder, self._logs = home / "serving" / "onnx", home / "serving" / "logs"
        self._launcher, self._limits, self._register, self._fetch = launcher, limits, register, fetch
        self._turn = asyncio.Lock()

    async def converted(self, folder: Path, revision: DesiredRevision) -> tuple[str, str]:
        """The folder of the converted model, named by its digest (empty: it stays as it is), and what became of it in words."""
        if any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "skl2onnx")):
            return "", "as it was saved: ONNX is not installed; pip install 'noria[onnx]'."
        note = self._folder / f"{revision.digest}.json"
        async with self._turn:
            known = revision.onnx
            if known is None and note.is_file():
                known = msgspec.json.decode(note.read_bytes(), type=Conversion)
            if known is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                known = await self._convert(folder, revision)
                if known is None:
                    return (
                        "",
                        "as it was saved: the conversion to ONNX gave no verdict; serving/logs/convert.log has the reason.",
                    )
                note.write_bytes(msgspec.json.encode(known))
            if not known.files:
                return "", known.words
            label = f"the ONNX form of {revision.model}@{revision.model_version}"
            made = await asyncio.to_thread(fetch_model, self._folder, label, known.made_digest, known.files, self._fetch)
            return str(made), known.words

    async def _convert(self, folder: Path, revision: DesiredRevision) -> Conversion | None:
        """Convert, and register what passed; None when there is no verdict."""
        made, scratch = self._folder / f"{new_id()}.tmp", self._folder / f"{new_id()}.scratch"
        made.mkdir()
        try:
            limits = self._limits(revision.config)
            wish = Wish(python=sys.executable, is_own=False, scratch=scratch, reads=(folder,), writes=(made,), limits=limits)
            output_path = self._logs / "convert.log"
            with open_log(output_path) as output:
                args = [str(folder), str(made), revision.digest]
                process = self._launcher.start(wish, "noria.serving.convert", args, output)
            how = await ended(process, CONVERT_TIMEOUT_S, Watch(process.pid, limits, scratch, output_path, time.monotonic))
            if how:
                log.warning("the conversion of %s@%d %s", revision.model, revision.model_version, how)
                return None
            verdict = msgspec.json.decode(await asyncio.to_thread((made / "verdict.json").read_bytes))
            files = await asyncio.to_thread(described_files, made) if verdict["is_accepted"] else []
            digest = digest_of([ModelFile(path=f.path, size_bytes=f.size_bytes, digest=f.digest) for f in files])
            found = Conversion(
                digest=revision.digest, revision_id=revision.id, made_digest=digest if files else "", files=files,
                words=str(verdict["words"])[:2000],
            )  # fmt: skip
            if not files:
                return found
            registered = await self._register(found, made)
            if registered.made_digest == digest and not (self._folder / digest).exists():
                made.rename(self._folder / digest)
            return registered
        finally:
            for left in (made, scratch):
                await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
