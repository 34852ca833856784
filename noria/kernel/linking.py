"""Noria and a few packages for an environment that has not got them: a folder of links.

The folder is meant for the end of a path, so that an environment's own packages win. It has no metadata, so that nothing of it is
counted among what is installed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import noria

# What the client imports; all of it is among Noria's own dependencies.
CLIENT_NEEDS = (
    "msgspec", "blake3", "cloudpickle", "httpx", "httpcore", "h11", "anyio", "idna", "certifi", "typing_extensions", "psutil",
    "stamina", "tenacity",
)  # fmt: skip


def link_packages(folder: Path, needs: Iterable[str] = CLIENT_NEEDS) -> None:
    """Fill `folder` with links to Noria and to `needs`, without their metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    link(folder / "noria", Path(noria.__file__).parent)
    for name in needs:
        for top, target in tops_of(name):
            link(folder / top, target)


def tops_of(name: str) -> list[tuple[str, Path]]:
    """What an installed package puts on the path, and where it is, without its metadata."""
    found = metadata.distribution(name)
    tops = {file.parts[0] for file in found.files or () if not file.parts[0].startswith(("..", "__pycache__"))}
    return [(top, Path(str(found.locate_file(top)))) for top in sorted(tops) if not top.endswith(".dist-info")]


def link(name: Path, target: Path) -> None:
    """Point `name` at `target`; several workers may do so at once."""
    if name.is_symlink() and name.readlink() == target:
        return
    new = name.with_name(f".{name.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    new.symlink_to(target)
    new.replace(name)
