"""Trees: the files of a version, in columns, whole or as what differs from another tree.

A tree is named by the root digest of the manifest that it gives back (noria/datasets/manifest.py), whichever way it is
written. A small change writes only its rows; after sixteen such steps, or when they add up to a tenth, a whole one is written.

    magic, length of head, head (JSON), paths · modes · sizes · digests (zstd), BLAKE3-256 of all that
"""

from __future__ import annotations

import array
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from blake3 import blake3
from msgspec import Struct

from noria.datasets.manifest import Manifest, sort
from noria.datasets.model import EXECUTABLE_MODE, FILE_MODE, FileChange, VersionFile
from noria.kernel.errors import Unavailable

MAGIC = b"NORIATR1"
DEPTH_MAX = 16
SHARE_MAX = 0.1  # of the rows of a tree that the steps towards it may add up to
assert sys.byteorder == "little", "columns are written as they lie in memory"


class Head(Struct, frozen=True, kw_only=True):
    """What a tree says about itself."""

    rows: int  # files here: all of them, or those that came or changed
    base: str = ""  # the tree that this one changes
    removed: int = 0
    depth: int = 0
    steps_rows: int = 0  # rows of all steps since the last whole tree
    columns: list[int] = []  # the packed sizes of the four columns and the removed paths


def encode_whole(files: Mapping[str, VersionFile]) -> bytes:
    return _encode(Head(rows=len(files)), files.values(), [])


def encode_step(
    files: Mapping[str, VersionFile], base_root: str, base: Mapping[str, VersionFile], head: Head
) -> bytes | None:
    """`files` as what differs from `base`, whose head is given; None when a whole tree is due."""
    new = [f for path, f in files.items() if base.get(path) != f]
    removed = [path for path in base if path not in files] if len(files) < len(base) + len(new) else []
    rows = head.steps_rows + len(new) + len(removed)
    if head.depth >= DEPTH_MAX or rows > SHARE_MAX * len(files):
        return None
    step = Head(rows=len(new), base=base_root, removed=len(removed), depth=head.depth + 1, steps_rows=rows)
    return _encode(step, new, removed)


def _encode(head: Head, files: Iterable[VersionFile], removed: list[str]) -> bytes:
    import zstandard

    rows = list(files)
    columns = (
        "\n".join(f.path for f in rows).encode(),
        bytes(f.mode == EXECUTABLE_MODE for f in rows),
        array.array("Q", [f.size_bytes for f in rows]).tobytes(),
        bytes.fromhex("".join(f.digest for f in rows)),
        "\n".join(removed).encode(),
    )
    squeeze = zstandard.ZstdCompressor(level=3)
    packed = [column if i == 3 else squeeze.compress(column) for i, column in enumerate(columns)]
    text = msgspec.json.encode(msgspec.structs.replace(head, columns=[len(p) for p in packed]))
    data = b"".join((MAGIC, len(text).to_bytes(4, "little"), text, *packed))
    return data + blake3(data).digest()


def read_head(data: bytes, root: str) -> Head:
    """Raises Unavailable when the tree is damaged."""
    if data[:8] != MAGIC or blake3(memoryview(data)[:-32]).digest() != data[-32:]:
        raise Unavailable(f"The list of files {root[:12]} is damaged.", hint="Repair it from a remote: noria data repair.")
    return msgspec.json.decode(data[12 : 12 + int.from_bytes(data[8:12], "little")], type=Head)


def decode(root: str, read: Callable[[str], bytes]) -> tuple[Manifest, Head]:
    """The files of a tree; `read` gives the bytes of the trees it is built on."""
    steps = _chain(root, read)
    files: Manifest = {}
    for head, data in reversed(steps):
        rows, removed = _columns(head, data)
        if not head.base:
            files = {f.path: f for f in rows}
            continue
        for path in removed:
            files.pop(path, None)
        has_new_path = any(f.path not in files for f in rows)
        files.update((f.path, f) for f in rows)
        if has_new_path:
            files = sort(files)
    return files, steps[0][0]


def _chain(root: str, read: Callable[[str], bytes]) -> list[tuple[Head, bytes]]:
    """A tree and those that it is built on, down to a whole one."""
    found, name = list[tuple[Head, bytes]](), root
    while name:
        data = read(name)
        found.append((read_head(data, name), data))
        name = found[-1][0].base
    return found


def compare(a: str, b: str, read: Callable[[str], bytes]) -> list[FileChange] | None:
    """What leads from `a` to `b`, told by the steps between them; None when they have no tree in common.

    Of the tree in common only the files are made that a step names.
    """
    if a == b:
        return []
    ours, theirs = _chain(a, read), _chain(b, read)
    names_a, names_b = [a, *(h.base for h, _ in ours)], [b, *(h.base for h, _ in theirs)]
    common = next((name for name in names_b if name and name in names_a), "")
    if not common:
        return None
    rest = ours[names_a.index(common) :]
    before, after = _touched(ours[: names_a.index(common)]), _touched(theirs[: names_b.index(common)])
    found = _pick({*before, *after}, rest)
    changes = [
        FileChange(path=p, before=before.get(p, found.get(p)), after=after.get(p, found.get(p)))
        for p in sorted({*before, *after})
    ]
    return [c for c in changes if c.before != c.after]


def _touched(steps: Sequence[tuple[Head, bytes]]) -> dict[str, VersionFile | None]:
    """The files that steps (the latest first) brought or, as None, removed."""
    found: dict[str, VersionFile | None] = {}
    for head, data in reversed(steps):
        rows, removed = _columns(head, data)
        found.update(dict.fromkeys(removed))
        found.update((f.path, f) for f in rows)
    return found


def _pick(paths: set[str], chain: Sequence[tuple[Head, bytes]]) -> dict[str, VersionFile | None]:
    """Some files of a tree."""
    found, (head, data) = _touched(chain[:-1]), chain[-1]
    wanted = [p for p in paths if p not in found]
    columns = _unpack(head, data)
    places = {path: i for i, path in enumerate(columns[0].decode().split("\n"))} if wanted else {}
    for path in wanted:
        if (i := places.get(path)) is not None:
            found[path] = VersionFile(
                path=path,
                size_bytes=int.from_bytes(columns[2][8 * i : 8 * i + 8], "little"),
                digest=columns[3][32 * i : 32 * i + 32].hex(),
                mode=EXECUTABLE_MODE if columns[1][i] else FILE_MODE,
            )
    return found


def has_path_like(root: str, text: str, read: Callable[[str], bytes]) -> bool:
    """May a path of this tree, or of one that it is built on, contain `text`?"""
    return any(text.encode() in _unpack(head, data)[0] for head, data in _chain(root, read))


def _unpack(head: Head, data: bytes) -> list[bytes]:
    import zstandard

    at, parts = 12 + int.from_bytes(data[8:12], "little"), list[bytes]()
    for i, size in enumerate(head.columns):
        part = data[at : at + size]
        parts.append(part if i == 3 else zstandard.ZstdDecompressor().decompress(part))
        at += size
    return parts


def _columns(head: Head, data: bytes) -> tuple[list[VersionFile], list[str]]:
    parts = _unpack(head, data)
    paths = parts[0].decode().split("\n") if head.rows else []
    sizes = array.array("Q", parts[2])
    digests = parts[3].hex()
    rows = [
        VersionFile(path=path, size_bytes=size, digest=digests[at : at + 64], mode=EXECUTABLE_MODE if mode else FILE_MODE)
        for path, mode, size, at in zip(paths, parts[1], sizes, range(0, 64 * head.rows, 64), strict=True)
    ]
    return rows, parts[4].decode().split("\n") if head.removed else []


def tree_key(root: str) -> str:
    return f"trees/{root[:2]}/{root}"
