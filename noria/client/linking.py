"""Noria's client for an environment that has not got it: a folder of links to it, and to the few packages that it needs.

The folder is meant for the end of a path, so that an environment's own packages win. It has no metadata, so that nothing of it is
counted among what is installed.
"""

from __future__ import annotations

import contextlib
import os
from importlib import metadata
from pathlib import Path

import noria

# What the client imports; all of it is among Noria's own dependencies.
CLIENT_NEEDS = (
    "msgspec", "blake3", "cloudpickle", "httpx", "httpcore", "h11", "anyio", "idna", "certifi", "typing_extensions", "psutil",
    "stamina", "tenacity",
)  # fmt: skip


def link_client(folder: Path) -> None:
    """Fill `folder` with links to Noria and to what its client needs, without their metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    link(folder / "noria", Path(noria.__file__).parent)
    for name in CLIENT_NEEDS:
        found = metadata.distribution(name)
        tops = {file.parts[0] for file in found.files or () if not file.parts[0].startswith(("..", "__pycache__"))}
        for top in tops:
            if not top.endswith(".dist-info"):
                link(folder / top, Path(str(found.locate_file(top))))


def link(name: Path, target: Path) -> None:
    """Point `name` at `target`; several workers may do so at once."""
    if name.is_symlink() and name.readlink() == target:
        return
    new = name.with_name(f".{name.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    new.symlink_to(target)
    new.replace(name)
