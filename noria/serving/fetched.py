"""A model's directory on this machine: fetched once under its digest, every file checked."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from blake3 import blake3

from noria.kernel.errors import Invalid, Unavailable
from noria.kernel.ids import new_id
from noria.serving.model import ModelFileInfo

log = logging.getLogger("noria.serving")

Fetch = Callable[[ModelFileInfo, IO[bytes]], Any]


def fetch_model(models: Path, label: str, digest: str, files: Sequence[ModelFileInfo], fetch: Fetch) -> Path:
    """The model's directory below `models`, with every file checked against its digest; fetched when it is not here."""
    folder = models / digest
    if folder.is_dir():
        if all(_is_right(folder, f) for f in files):
            return folder
        log.warning("the copy of %s is damaged; fetching it again", label)
        shutil.rmtree(folder)
    temporary = folder.with_name(f"{digest}.{new_id()}.tmp")
    try:
        for file in files:
            path = _inside(temporary, file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as into:
                fetch(file, into)
            if not _is_right(temporary, file):
                raise Unavailable(f"{file.path} of {label} arrived damaged.")
        with contextlib.suppress(FileExistsError, OSError):
            temporary.rename(folder)  # somebody else may have been quicker
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if not folder.is_dir():
        raise Unavailable(f"The files of {label} could not be put in place.")
    return folder


def _inside(folder: Path, path: str) -> Path:
    """`path` under `folder`; a path that leaves it is refused."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts or "\\" in path:
        raise Invalid(f"The model has a file at {path!r}, outside its directory.")
    return folder.joinpath(*parts.parts)


def _is_right(folder: Path, file: ModelFileInfo) -> bool:
    path = _inside(folder, file.path)
    if path.is_symlink() or not path.is_file():
        return False
    return _digest(path) == file.digest


def described_files(folder: Path) -> list[ModelFileInfo]:
    """The files that lie in a folder, with their digests."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        name = path.relative_to(folder).as_posix()
        found.append(ModelFileInfo(path=name, size_bytes=path.stat().st_size, digest=_digest(path)))
    return found


def _digest(path: Path) -> str:
    hasher = blake3()
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            hasher.update(chunk)
    digest: str = hasher.hexdigest()
    return digest
