"""What is in a folder, and what of it is known already: the walk, and the stat cache.

A file counts as unchanged when path, size, both times, inode and mode are those of the last look, and that look came late
enough after the last write for the clock of the file system to tell a later one. Anything else is read again. The cache may be
deleted at any time; it is only ever believed about what a file holds, never about what is stored.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from operator import eq, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from blake3 import blake3
from msgspec import Struct

from noria.datasets.model import check_path
from noria.kernel.errors import Conflict, Invalid
from noria.repository import walker
from noria.repository.walker import Row, plain_folder

BESIDE_FILES, BESIDE_FOLDERS = 4_000, 8  # from here on another process looks at half of the folders
TICK_NS = 20_000_000  # kernels stamp files with a clock that moves every 1 to 10 ms
COARSE_TICK_NS = 2_000_000_000  # FAT: two seconds; others: one. Told by times without a fraction
_CACHE_FORMAT = 1


if TYPE_CHECKING:
    import subprocess

Source = Path | Mapping[str, Path]  # a file or folder, or files by the path they shall have


def scan(root: Source) -> list[Row]:
    """Every file below `root` with its status, sorted by path; of a file, just itself.

    Raises Invalid for what cannot be committed (links to folders, devices, sockets, names that are not UTF-8, files that may not
    be read) and Conflict for what vanished on the way.
    """
    if not isinstance(root, Path):
        return sorted(row for path, place in root.items() for row in _scan_file(check_path(path), place))
    try:
        found = list(_scan(root))
    except FileNotFoundError as cause:
        if not root.exists():
            raise Invalid(f"There is no file or folder {str(root)!r}.", where="path") from cause
        raise Conflict(f"{cause.filename} vanished while the folder was read.", hint="Commit again.") from cause
    except PermissionError as cause:
        raise Invalid(
            f"{cause.filename} may not be read.", hint="Give yourself the right to read it, or leave it out."
        ) from cause
    if not found:
        raise Invalid(f"The folder {str(root)!r} has no files.", where="path")
    found.sort()
    return found


def _scan(root: Path) -> Iterator[Row]:
    top = root.stat()
    if stat.S_ISREG(top.st_mode):
        yield _row(check_path(root.name), top)
        return
    if not stat.S_ISDIR(top.st_mode):
        raise Invalid(f"{root} is neither a file nor a folder.", where="path")
    folder, prefixes = os.fspath(root), [""]
    count, beside = 0, None
    try:
        while prefixes:
            if beside is None and count >= BESIDE_FILES and len(prefixes) >= BESIDE_FOLDERS:
                beside, prefixes = _Beside(folder, prefixes[::2]), prefixes[1::2]
            prefix = prefixes.pop()
            found = plain_folder(folder, prefix)
            if found is None:
                yield from _folder(folder, prefix, prefixes)
                continue
            count += len(found[0])
            yield from found[0]
            prefixes += found[1]
            if not prefixes and beside is not None:
                rows, prefixes = beside.result()
                yield from rows
    finally:
        if beside is not None:
            beside.end()


class _Beside:
    """A process that looks at some of the folders meanwhile."""

    def __init__(self, top: str, prefixes: list[str]) -> None:
        self._prefixes: list[str] = prefixes
        self._process: subprocess.Popen[bytes] | None = None
        import subprocess

        script = Path(walker.__file__)
        if not Path(sys.executable or "").name.startswith("python") or not script.is_file():
            return  # Python is part of another program here
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(marshal.dumps((top, prefixes)))
            self._process.stdin.close()

    def result(self) -> tuple[list[Row], list[str]]:
        """What it found, and the folders that are left to look at: all of them if it failed."""
        process, self._process = self._process, None
        if process is None:
            left, self._prefixes = self._prefixes, []
            return [], left
        assert process.stdout is not None
        with process.stdout:
            data = process.stdout.read()
        self._prefixes, left = [], self._prefixes
        if process.wait() != 0:
            return [], left
        rows, odd = marshal.loads(data)  # noqa: S302 - written by a process of ours, through a pipe
        return rows, odd

    def end(self) -> None:
        """Nobody will ask."""
        if self._process is not None:
            self._process.kill()
            self.result()


def _folder(top: str, prefix: str, folders: list[str]) -> Iterator[Row]:
    """The files of a folder that is not plain; folders in it are added to `folders`. Raises what is wrong with it."""
    with os.scandir(f"{top}/{prefix}") as entries:
        for entry in entries:
            if entry.is_symlink():
                yield from _link(entry, prefix)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(f"{prefix}{entry.name}/")
            else:
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    raise Invalid(_not_a_file(entry.path), hint="Leave it out; only files can be committed.")
                yield _row(prefix + entry.name, status)


def _scan_file(path: str, place: Path) -> Iterator[Row]:
    try:
        status = place.stat()
    except OSError as cause:
        raise Invalid(f"There is no file {str(place)!r}.", where="path") from cause
    if not stat.S_ISREG(status.st_mode):
        raise Invalid(_not_a_file(str(place)), hint="Leave it out; only files can be committed.")
    yield _row(path, status)


def place_of(root: Source, path: str) -> str:
    """Where the file is that shall have this path."""
    if not isinstance(root, Path):
        return os.fspath(root[path])
    return os.fspath(root) if root.is_file() else f"{os.fspath(root)}/{path}"


def _link(entry: os.DirEntry[str], prefix: str) -> Iterator[Row]:
    try:
        status = entry.stat()
    except OSError as cause:
        raise Invalid(f"{entry.path!r} is a link that leads nowhere.", hint="Remove it, or mend it.") from cause
    if stat.S_ISDIR(status.st_mode):
        raise Invalid(f"{entry.path!r} is a link to a folder.", hint="Copy what it points to, or leave it out.")
    if not stat.S_ISREG(status.st_mode):
        raise Invalid(_not_a_file(entry.path), hint="Leave it out; only files can be committed.")
    yield _row(prefix + entry.name, status)


def _not_a_file(path: str) -> str:
    return f"{path!r} is not a file that can be read."


def _row(path: str, status: os.stat_result) -> Row:
    return (
        path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, int(bool(status.st_mode & stat.S_IXUSR)),
    )  # fmt: skip


def row_of(path: str, status: os.stat_result) -> Row:
    """As `scan` describes a file."""
    return _row(path, status)


class Seen(Struct, frozen=True, array_like=True):
    """What a look at a folder found: rows sorted by path, 32 bytes of digest for each, and the root digest of it all."""

    format: int
    looked_at_ns: int
    root: str
    rows: list[Row]
    digests: bytes

    def are_settled(self) -> bool:
        """Would any write after the look have changed a row?"""
        newest = max(max(map(itemgetter(at), self.rows), default=0) for at in (2, 3))
        return newest + COARSE_TICK_NS < self.looked_at_ns or all(map(self.is_settled, self.rows))

    def is_settled(self, row: Row) -> bool:
        """Would a write after the look have changed the row?"""
        newest = max(row[2], row[3])
        tick = TICK_NS if row[2] % 1_000_000_000 or row[3] % 1_000_000_000 else COARSE_TICK_NS
        return newest + tick < self.looked_at_ns


class StatCache:
    """Keeps one Seen for each folder that was committed, outside the folder."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._path = folder / f"{blake3(os.fsencode(root.absolute())).hexdigest(length=16)}.seen"

    def load(self) -> Seen | None:
        """None when there is none, or none that can be read."""
        try:
            found = msgspec.msgpack.decode(self._path.read_bytes(), type=Seen)
        except (OSError, msgspec.MsgspecError):
            return None
        return found if found.format == _CACHE_FORMAT and len(found.digests) == 32 * len(found.rows) else None

    def save(self, looked_at_ns: int, root: str, rows: list[Row], digests: bytes) -> None:
        """A cache that cannot be written costs time, nothing else."""
        seen = Seen(_CACHE_FORMAT, looked_at_ns, root, rows, digests)
        draft = self._path.with_name(f".{secrets.token_hex(6)}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.msgpack.encode(seen))
            draft.replace(self._path)


def known_digests(rows: list[Row], seen: Seen | None) -> list[str | None]:
    """The digest of each file that did not change since it was last read."""
    if seen is None:
        return [None] * len(rows)
    digests = seen.digests.hex()
    if len(rows) == len(seen.rows):  # the usual case: nothing came and nothing went
        same = list(map(eq, rows, seen.rows))
        if all(is_same or row[0] == old[0] for is_same, row, old in zip(same, rows, seen.rows, strict=True)):
            are_settled = seen.are_settled()
            return [
                digests[64 * i : 64 * i + 64] if is_same and (are_settled or seen.is_settled(rows[i])) else None
                for i, is_same in enumerate(same)
            ]
    at = {row[0]: i for i, row in enumerate(seen.rows)}
    found: list[str | None] = []
    for row in rows:
        i = at.get(row[0])
        is_known = i is not None and seen.rows[i] == row and seen.is_settled(row)
        found.append(digests[64 * i : 64 * i + 64] if i is not None and is_known else None)
    return found


def now_ns() -> int:
    """The clock that file systems stamp files with."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)
