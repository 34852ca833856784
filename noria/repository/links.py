"""Versions of files that stay where they are: a folder or a bucket prefix, registered without copying.

A linked file is named by the hash of its address, its size and the tag its store gives it (an ETag; on disk the time of the last
write), since its bytes were never read. Reading compares again: what changed or went since fails loudly, and is never passed off
as the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from blake3 import blake3

from noria.datasets.manifest import Manifest, sort
from noria.datasets.model import FILES_PER_VERSION, VersionFile, check_path
from noria.kernel.errors import Invalid, NotFound, TooLarge, Unavailable
from noria.repository.lake import table_at
from noria.repository.objects import Found, open_objects
from noria.repository.tables.model import MANIFEST

READ_BYTES = 8 << 20


def link_files(uri: str, *, as_files: bool = False, at: str = "") -> tuple[Manifest, str]:
    """The files below `uri` as they are now, and '' or what table they are, such as `delta@12`: then its files at that version.

    `at`: the version of a table, the newest when left out. `as_files`: whatever lies there, even if it is a table. Raises Invalid
    when there is nothing, NotFound when the table has no such version.
    """
    objects = open_objects(uri, create=False)
    found: dict[str, Found] = {}
    for item in objects.list(""):
        found[item.key] = item
        if len(found) > FILES_PER_VERSION:
            raise TooLarge(f"A version holds at most {FILES_PER_VERSION:,} files.")
    if not found:
        raise Invalid(f"There are no files at {uri}.", where="uri")
    table = None if as_files else table_at(objects.url, found, at)
    if as_files and at:
        raise Invalid("Files have no version; leave out one of the two.", where="at")
    files: Manifest = {}
    for key in found if table is None else table.paths:
        path, item = check_path(key), found[key]
        if path.endswith(f"/{MANIFEST}"):
            raise Invalid(
                f"{path!r} at {uri} has a name that only tables of Noria have.", where="uri", hint="Link another folder."
            )
        files[path] = VersionFile(path=path, size_bytes=item.size_bytes, digest=_digest(uri, path, item))
    if not files:
        raise Invalid(f"The table at {uri} has no rows in this version.", where="at")
    return sort(files), table.mark if table else ""


def require_unchanged(uri: str, files: Iterable[VersionFile]) -> None:
    """Raises Unavailable when one of the files is not what was linked any more."""
    there = {item.key: item for item in open_objects(uri, create=False).list("")}
    for file in files:
        now = there.get(file.path)
        if now is None:
            raise Unavailable(f"{file.path!r} is gone from {uri}.", hint="Put it back, or link a new version.")
        if _digest(uri, file.path, now) != file.digest:
            raise Unavailable(f"{file.path!r} in {uri} changed since it was linked.", hint="Link a new version.")


def read_linked(uri: str, file: VersionFile, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Bytes of a linked file. Raises Unavailable when it is not what was linked any more, also on the way."""
    objects = open_objects(uri, create=False)
    end = file.size_bytes if end is None else min(end, file.size_bytes)

    def check() -> None:
        try:
            now = objects.look(file.path)
        except NotFound as cause:
            raise Unavailable(f"{file.path!r} is gone from {uri}.", hint="Put it back, or link a new version.") from cause
        if _digest(uri, file.path, now) != file.digest:
            raise Unavailable(f"{file.path!r} in {uri} changed since it was linked.", hint="Link a new version.")

    check()
    for at in range(start, end, READ_BYTES):
        yield objects.read_ranges(file.path, [(at, min(at + READ_BYTES, end))])[0]
    check()


def _digest(uri: str, path: str, item: Found) -> str:
    text = "\0".join(("link", uri.rstrip("/"), path, str(item.size_bytes), item.tag))
    return str(blake3(text.encode()).hexdigest())
