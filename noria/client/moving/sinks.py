"""Where an export is written: a folder, a .zip, or a .tar. It appears whole under its name, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from noria.kernel.errors import AlreadyExists, Invalid, Unavailable

SUMS = "SHA256SUMS"  # of every other file; `sha256sum -c SHA256SUMS` checks it
TARS = (".tar", ".tar.gz", ".tgz")


class Sink(ABC):
    """The common part: names, digests, and the end. Use as a context manager."""

    def __init__(self, target: Path) -> None:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise AlreadyExists(f"{target} exists already.", hint="Name a new folder or file with -o.")
        self.target = target
        target.parent.mkdir(parents=True, exist_ok=True)
        self._partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".partial", dir=target.parent))
        self.digests: dict[str, str] = {}
        self.size_bytes = 0

    def add(self, path: str, chunks: Iterable[bytes], size_bytes: int | None = None) -> None:
        """Write one file. `size_bytes`, if known, must be what comes. Raises Unavailable."""
        digest, count = hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            nonlocal count
            for chunk in chunks:
                digest.update(chunk)
                count += len(chunk)
                yield chunk

        try:
            self._write(path, counted(), size_bytes)
        except OSError as cause:
            raise Unavailable(
                f"{self.target} cannot be written: {cause.strerror or cause}.", hint="Is the disk full?"
            ) from cause
        if size_bytes is not None and count != size_bytes:
            raise Unavailable(
                f"{path} has {size_bytes} bytes, but {count} came.", hint="It changed meanwhile; export again."
            )
        self.digests[path] = digest.hexdigest()
        self.size_bytes += count

    def add_bytes(self, path: str, data: bytes) -> None:
        self.add(path, [data], len(data))

    def finish(self) -> None:
        sums = "".join(f"{digest}  {path}\n" for path, digest in sorted(self.digests.items()))
        self._write(SUMS, iter([sums.encode()]), len(sums.encode()))
        self._close()
        if self.target.is_dir():
            self.target.rmdir()  # an empty one was there
        self._made().rename(self.target)

    @abstractmethod
    def _write(self, path: str, chunks: Iterator[bytes], size_bytes: int | None) -> None:
        """One file, whole, into what is being made."""

    @abstractmethod
    def _close(self) -> None:
        """The last file was written."""

    def _made(self) -> Path:
        return self._partial

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)


class FolderSink(Sink):
    def __init__(self, target: Path) -> None:
        super().__init__(target)
        self._partial.chmod(0o755)

    def _write(self, path: str, chunks: Iterator[bytes], size_bytes: int | None) -> None:
        file = self._partial.joinpath(*PurePosixPath(path).parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as out:
            for chunk in chunks:
                out.write(chunk)

    def _close(self) -> None:
        """Every file was closed when it was written."""


class ZipSink(Sink):
    def __init__(self, target: Path) -> None:
        super().__init__(target)
        self._zip = zipfile.ZipFile(self._made(), "x", zipfile.ZIP_DEFLATED)

    def _made(self) -> Path:
        return self._partial / "export.zip"

    def _write(self, path: str, chunks: Iterator[bytes], size_bytes: int | None) -> None:
        with self._zip.open(path, "w", force_zip64=True) as out:
            for chunk in chunks:
                out.write(chunk)

    def _close(self) -> None:
        self._zip.close()


class TarSink(Sink):
    def __init__(self, target: Path) -> None:
        super().__init__(target)
        is_packed = target.name.endswith(("gz", "tgz"))
        self._tar = tarfile.open(self._made(), "x:gz" if is_packed else "x")  # noqa: SIM115

    def _made(self) -> Path:
        return self._partial / "export.tar"

    def _write(self, path: str, chunks: Iterator[bytes], size_bytes: int | None) -> None:
        if size_bytes is None:  # a tar says the size first
            with tempfile.TemporaryFile(dir=self._partial) as spool:
                for chunk in chunks:
                    spool.write(chunk)
                size = spool.tell()
                spool.seek(0)
                self._add(path, spool, size)
            return
        self._add(path, io.BufferedReader(_Reader(chunks)), size_bytes)

    def _add(self, path: str, file: IO[bytes] | io.BufferedReader, size: int) -> None:
        info = tarfile.TarInfo(path)
        info.size, info.mode = size, 0o644
        self._tar.addfile(info, file)

    def _close(self) -> None:
        self._tar.close()


class _Reader(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            try:
                self._rest = next(self._chunks)
            except StopIteration:
                return 0
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def open_sink(target: Path) -> Sink:
    """A folder, or an archive by the end of its name. Raises AlreadyExists, Invalid, Unavailable."""
    try:
        if target.name.endswith(".zip"):
            return ZipSink(target)
        if target.name.endswith(TARS):
            return TarSink(target)
        if target.suffix in (".bz2", ".xz", ".zst", ".7z", ".rar"):
            raise Invalid(f"Exports are not written as {target.suffix}.", hint="Use a folder, .zip, .tar or .tar.gz.")
        return FolderSink(target)
    except OSError as cause:
        raise Unavailable(f"{target} cannot be written: {os.strerror(cause.errno or 0)}.") from cause
