"""Versions of files that stay where they are: a folder or a bucket prefix, registered without copying.

A linked file is named by the hash of its address, its size and the tag its store gives it (an ETag; on disk the time of the last
write), since its bytes were never read. Reading compares again: what changed or went since fails loudly, and is never passed off
as the version.
"""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3

from noria.datasets.manifest import Manifest, sort
from noria.datasets.model import FILES_PER_VERSION, VersionFile, check_path
from noria.kernel.errors import Invalid, NotFound, TooLarge, Unavailable
from noria.repository.objects import Found, open_objects

READ_BYTES = 8 << 20
_TABLES = {"_delta_log/": "a Delta table", "_versions/": "a Lance table", "metadata/version-hint.text": "an Iceberg table"}


def link_files(uri: str, *, as_files: bool = False) -> Manifest:
    """The files below `uri` as they are now. Raises Invalid for nothing, and for a table whose format has versions of its own,
    unless `as_files`: today's files of it are meant."""
    objects = open_objects(uri, create=False)
    files: Manifest = {}
    for item in objects.list(""):
        path = check_path(item.key)
        for part, what in _TABLES.items():
            if path.startswith(part) and not as_files:
                raise Invalid(
                    f"{uri} holds {what}; linking one at a fixed version is not supported.",
                    where="uri",
                    hint="Commit a copy of it, or link the files it has today with --as-files.",
                )
        files[path] = VersionFile(path=path, size_bytes=item.size_bytes, digest=_digest(uri, path, item))
        if len(files) > FILES_PER_VERSION:
            raise TooLarge(f"A version holds at most {FILES_PER_VERSION:,} files.")
    if not files:
        raise Invalid(f"There are no files at {uri}.", where="uri")
    return sort(files)


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
