"""Values of materialisers as blobs: one file as it is; several, or a folder, as a tar that depends on names and contents only."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from blake3 import blake3

from noria.client.materialisers import Registered, Unfit, chosen, named
from noria.kernel.errors import Invalid
from noria.pipelines.model.values import Saved


def save(value: Any, folder: Path) -> Saved | None:
    """`value` as its materialiser keeps it, in `folder` under its digest; None when there is none for it."""
    found = chosen(value)
    if found is None:
        return None
    place = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    try:
        try:
            found.made.save(value, place)
        except Unfit:
            return None
        return _kept(value, found, place, folder)
    finally:
        shutil.rmtree(place)


def _kept(value: Any, found: Registered, place: Path, folder: Path) -> Saved:
    written = sorted(place.iterdir())
    if not written:
        raise Invalid(f"The materialiser {found.name} saved nothing of a {type(value).__name__}: its folder is empty.")
    is_file = len(written) == 1 and written[0].is_file()
    body = written[0] if is_file else _tar(place, folder)
    digest = blake3().update_mmap(body).hexdigest()
    size_bytes = body.stat().st_size
    body.rename(folder / digest)
    return Saved(digest, size_bytes, type_of(value), found.name, found.version, written[0].name if is_file else "")


def load(value: Saved, blobs: Path, scratch: Path) -> Any:
    """What `save` kept, read from its blob. `scratch` is where its files are unpacked, and where they stay while the step runs."""
    found = named(value.materialiser, value.version, value.type)
    scratch.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=scratch))
    body = (blobs / value.digest).resolve()
    if not value.name:
        with tarfile.open(body, "r:") as tar:
            tar.extractall(place, filter="data")
    elif Path(value.name).name != value.name:
        raise Invalid(f"{value.name!r} is not the name of a file.")
    elif found.is_ours:
        (place / value.name).symlink_to(body)  # ours only read it
    else:
        shutil.copyfile(body, place / value.name)
    try:
        return found.made.load(place)
    except ImportError as error:
        needs = f" It needs {found.needs}: env=noria.uv(...) names what a step has." if found.needs else ""
        raise Invalid(
            f"A value of type {value.type} was saved by the materialiser {found.name}, version {value.version}, and "
            f"cannot be loaded here: {error}.{needs}"
        ) from error


def type_of(value: Any) -> str:
    """The name of a value's type, as it is shown to people."""
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _tar(place: Path, folder: Path) -> Path:
    target = Path(tempfile.mkstemp(prefix=".saving-", suffix=".tar", dir=folder)[1])
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(place.rglob("*")):
            tar.add(path, str(path.relative_to(place)), recursive=False, filter=_plain)
    return target


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without what differs from one machine or moment to the next. Two names of one file are two files."""
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
    return info
