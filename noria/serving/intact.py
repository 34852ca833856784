"""The last look before a model is loaded: the files in the folder are those that were registered, and there is no other.

The node checks what it fetches; between then and now anybody with this disk could have changed it, and a pickle runs what it
names. The digest is that of the registry, which approvals are for and which the signed provenance names.
"""

from __future__ import annotations

from pathlib import Path

from blake3 import blake3

from noria.kernel.errors import Unavailable
from noria.registry.model import ModelFile, digest_of


def require_intact(folder: Path, digest: str, label: str) -> None:
    """Raises Unavailable when what lies in `folder` is not the content with this digest. Nothing of it was read until then."""
    files = []
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise _tampered(label, f"{path.relative_to(folder)} is a link")
        if path.is_file():
            hasher = blake3(max_threads=blake3.AUTO)
            hasher.update_mmap(path)
            name = path.relative_to(folder).as_posix()
            files.append(ModelFile(path=name, size_bytes=path.stat().st_size, digest=hasher.hexdigest()))
    if digest_of(files) != digest:
        raise _tampered(label, f"{len(files)} files give another digest than {digest[:12]}")


def _tampered(label: str, what: str) -> Unavailable:
    return Unavailable(
        f"The files of {label} on this machine are not those that were registered: {what}. They were not loaded.",
        hint="Look for who can write to serving in the home; the next start fetches them anew.",
    )
