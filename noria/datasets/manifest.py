"""The manifest: which files a version has. Pure: paths, the root digest, and the algebra of differences.

The canonical form is one JSON line `[path, mode, size, digest]` per file, sorted by the bytes of the path; its BLAKE3-256 is
the version's root digest, and the blob with that name holds it. How a file is cut into chunks is not part of it, so cutting
differently never changes an id. Invariant: a path in a manifest stays inside whatever folder it is joined to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from noria.datasets.model import (
    EXECUTABLE_MODE,
    FILE_MODE,
    FILES_PER_VERSION,
    FileChange,
    FileEntry,
    VersionFile,
    check_path,
)
from noria.kernel.errors import Invalid, TooLarge

_ENCODER = msgspec.json.Encoder()
_DIGEST = re.compile(r"[0-9a-f]{64}")

Manifest = dict[str, VersionFile]  # by path, sorted


def check_files(entries: Iterable[FileEntry | VersionFile]) -> Manifest:
    """The manifest of these files. Raises Invalid for a bad path, digest, size or mode, and for two files in one place."""
    found: Manifest = {}
    for entry in entries:
        path = check_path(entry.path)
        if path in found:
            raise Invalid(f"The path {path!r} occurs twice.", where="files")
        if not _DIGEST.fullmatch(entry.digest):
            raise Invalid(f"The digest of {path!r} is not 64 lower-case hex digits (BLAKE3-256).", where="files")
        if entry.size_bytes < 0:
            raise Invalid(f"The size of {path!r} is negative.", where="files")
        if entry.mode not in (FILE_MODE, EXECUTABLE_MODE):
            raise Invalid(
                f"The mode of {path!r} is {entry.mode:#o}.", where="files", hint="Modes are 0o644, or 0o755 for a program."
            )
        found[path] = VersionFile(path=path, size_bytes=entry.size_bytes, digest=entry.digest, mode=entry.mode)
        if len(found) > FILES_PER_VERSION:
            raise TooLarge(f"A version holds at most {FILES_PER_VERSION:,} files.", hint="Pack small files into archives.")
    if not found:
        raise Invalid("There is no file to commit.", where="files")
    _check_no_file_is_a_folder(found)
    return sort(found)


def _check_no_file_is_a_folder(files: Mapping[str, VersionFile]) -> None:
    for path in files:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in files:
                raise Invalid(f"{parent!r} is a file, and {path!r} needs it to be a folder.", where="files")
            parent = parent.rpartition("/")[0]


def sort(files: Mapping[str, VersionFile]) -> Manifest:
    """By the bytes of the path, which is the order of code points too, whatever the locale."""
    return {path: files[path] for path in sorted(files)}


def encode(files: Mapping[str, VersionFile]) -> bytes:
    """The canonical form."""
    return _ENCODER.encode_lines([(f.path, f.mode, f.size_bytes, f.digest) for f in sort(files).values()])


class _Line(Struct, frozen=True, array_like=True):
    path: str
    mode: int
    size_bytes: int
    digest: str


_LINES = msgspec.json.Decoder(_Line)


def decode(data: bytes) -> Manifest:
    """The manifest whose canonical form this is."""
    lines = _LINES.decode_lines(data)
    return {n.path: VersionFile(path=n.path, size_bytes=n.size_bytes, digest=n.digest, mode=n.mode) for n in lines}


def root_digest(files: Mapping[str, VersionFile]) -> str:
    """The identity of a version's content; the order of `files` does not matter."""
    from blake3 import blake3

    return str(blake3(encode(files)).hexdigest())


def changes(a: Mapping[str, VersionFile], b: Mapping[str, VersionFile]) -> list[FileChange]:
    """What leads from `a` to `b`, by path."""
    differing = [path for path in sort({**a, **b}) if a.get(path) != b.get(path)]
    return [FileChange(path=path, before=a.get(path), after=b.get(path)) for path in differing]


def apply(a: Mapping[str, VersionFile], to_do: Iterable[FileChange]) -> Manifest:
    """`a` after these changes: `apply(a, changes(a, b)) == b`."""
    files = dict(a)
    for change in to_do:
        if change.after is None:
            files.pop(change.path, None)
        else:
            files[change.path] = change.after
    return sort(files)


def invert(to_do: Iterable[FileChange]) -> list[FileChange]:
    """The way back: `invert(changes(a, b)) == changes(b, a)`."""
    return [FileChange(path=c.path, before=c.after, after=c.before) for c in to_do]
