"""From a folder to a list of files whose bytes are stored: scan, read what is not known, cut, hash, pack.

Memory is bounded: a small file is read whole, a big one through two buffers. A file is opened once; its status before and after
reading has to be the same, else it is read again, and a file that keeps changing is refused by name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3
from msgspec import Struct

from noria.datasets import manifest
from noria.datasets.manifest import Manifest
from noria.datasets.model import EXECUTABLE_MODE, FILE_MODE, FILES_PER_VERSION, SMALL_FILE_BYTES, VersionFile, check_path
from noria.kernel.errors import Conflict, Invalid, TooLarge
from noria.repository.chunks import Squeeze, store_stream
from noria.repository.packs import RECIPE, Payload, encode_recipe
from noria.repository.repository import Writing
from noria.repository.scan import Source, StatCache, known_digests, now_ns, place_of, row_of, scan
from noria.repository.walker import Row

READ_BYTES = 1 << 20
FILES_AT_ONCE = 1024  # read before it is asked which of them are stored; at most 16 MiB of them wait
WAITING_BYTES = 16 << 20
TRIES = 3  # of reading a file that changes meanwhile
Say = Callable[[str], None]
# Not blocking: something may have put a pipe there since the folder was looked at.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Gathered(Struct, frozen=True):
    """Files, with what it took."""

    files: Manifest
    root: str
    read_count: int
    read_bytes: int
    stored_bytes: int


def gather(
    writing: Writing, source: Source, *, cache: StatCache | None = None, base: Mapping[str, VersionFile] | None = None,
    base_root: str = "", say: Say = lambda _: None,
) -> Gathered:  # fmt: skip
    """Store what `source` (a file or folder) holds. `base`: files that are stored for sure, with the root of that tree.

    Raises what `scan` raises, and Conflict for a file that keeps changing or vanishes while it is read.
    """
    looked_at_ns = now_ns()
    say("looking at files")
    rows = scan(source)
    if len(rows) > FILES_PER_VERSION:
        raise TooLarge(f"A version holds at most {FILES_PER_VERSION:,} files.", hint="Pack small files into archives.")
    seen = cache.load() if cache else None
    if base and seen and seen.root == base_root and seen.rows == rows and seen.are_settled():
        return Gathered(dict(base), base_root, 0, 0, 0)
    digests = known_digests(rows, seen)
    _forget_what_is_not_stored(writing, digests, base or {})
    reader = _Reader(writing, source, base or {}, say)
    to_read = [i for i, digest in enumerate(digests) if digest is None]
    for done in range(0, len(to_read), FILES_AT_ONCE):
        say(f"{done:,} of {len(to_read):,} changed files read")
        part = to_read[done : done + FILES_AT_ONCE]
        for i, (row, digest) in zip(part, reader.read([rows[i] for i in part]), strict=True):
            rows[i], digests[i] = row, digest
    files = _manifest(rows, digests, base or {})
    root = manifest.root_digest(files)
    if cache:
        cache.save(looked_at_ns, root, rows, bytes.fromhex("".join(d for d in digests if d)))
    return Gathered(files, root, len(to_read), reader.read_bytes, writing.writer.stored_bytes)


def look(
    source: Path, cache: StatCache | None, base: Mapping[str, VersionFile], base_root: str
) -> tuple[Manifest, str] | None:
    """The files of a folder without storing anything; None when they are exactly `base`, told by their status alone."""
    looked_at_ns = now_ns()
    rows = scan(source)
    seen = cache.load() if cache else None
    if seen and seen.root == base_root and seen.rows == rows and seen.are_settled():
        return None
    digests = known_digests(rows, seen)
    for i, digest in enumerate(digests):
        if digest is None:
            rows[i], digests[i] = _hash(source, rows[i])
    files = _manifest(rows, digests, base)
    root = manifest.root_digest(files)
    if cache:
        cache.save(looked_at_ns, root, rows, bytes.fromhex("".join(d for d in digests if d)))
    return files, root


def _forget_what_is_not_stored(writing: Writing, digests: list[str | None], base: Mapping[str, VersionFile]) -> None:
    stored = {f.digest for f in base.values()}
    doubtful = sorted({d for d in digests if d and d not in stored})
    there = writing.has_many([bytes.fromhex(d) for d in doubtful])
    gone = {d for d, is_there in zip(doubtful, there, strict=True) if not is_there}
    if gone:
        digests[:] = [None if d in gone else d for d in digests]


def _manifest(rows: list[Row], digests: list[str | None], base: Mapping[str, VersionFile]) -> Manifest:
    if len(rows) == len(base) and all(row[0] == path for row, path in zip(rows, base, strict=True)):
        files = dict(base)  # the usual case: most of it is as it was
        changed = [
            (row, digest)
            for row, digest, old in zip(rows, digests, base.values(), strict=True)
            if digest != old.digest or (row[5] == 1) != (old.mode == EXECUTABLE_MODE)
        ]
    else:
        files, changed = {}, list(zip(rows, digests, strict=True))
    for row, digest in changed:
        path, mode = row[0], EXECUTABLE_MODE if row[5] else FILE_MODE
        old = base.get(path)
        if old is not None and old.digest == digest and old.mode == mode:
            files[path] = old
        else:
            assert digest is not None
            files[check_path(path)] = VersionFile(path=path, size_bytes=row[1], digest=digest, mode=mode)
    return files


class _Reader:
    """Reads files and stores what is not stored yet."""

    def __init__(self, writing: Writing, root: Source, base: Mapping[str, VersionFile], say: Say) -> None:
        self._writing, self._base, self._say = writing, base, say
        # The usual case without a call for each file.
        self._folder = f"{os.fspath(root)}/" if isinstance(root, Path) and root.is_dir() else ""
        self._root = root
        self._squeeze = Squeeze()
        self.read_bytes = 0

    def read(self, rows: list[Row]) -> list[tuple[Row, str]]:
        """Store these files; returns the row of each as it was when read, and its digest. Raises Conflict, Invalid."""
        found: list[tuple[Row, str]] = []
        waiting: list[tuple[bytes, bytes]] = []
        size = 0
        for row in rows:
            if size + row[1] > WAITING_BYTES:
                self._store(waiting)
                waiting, size = [], 0
            new, digest, data = self._read_quickly(row) or self._read(row)
            if data is not None:
                waiting.append((digest, data))
                size += len(data)
            found.append((new, digest.hex()))
        self._store(waiting)
        return found

    def _read_quickly(self, row: Row) -> tuple[Row, bytes, bytes] | None:
        """A small file that is, after it was read, as it was when the folder was looked at; None for every other."""
        path, size, written_ns, changed_ns, inode, is_program = row
        if size > SMALL_FILE_BYTES or not self._folder:
            return None
        try:
            descriptor = os.open(self._folder + path, _FLAGS)
        except OSError:
            return None
        try:
            data, now = os.read(descriptor, size + 1), os.fstat(descriptor)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        if (
            len(data) != size or now.st_mtime_ns != written_ns or now.st_ctime_ns != changed_ns or now.st_ino != inode
            or bool(now.st_mode & stat.S_IXUSR) != is_program
        ):  # fmt: skip
            return None
        self.read_bytes += size
        return row, blake3(data).digest(), data

    def _read(self, row: Row) -> tuple[Row, bytes, bytes | None]:
        """Row, digest, and the bytes of a small file; a big one is stored already."""
        place = self._folder + row[0] if self._folder else place_of(self._root, row[0])
        for _ in range(TRIES):
            with _opened(place) as file:
                size, data = file.status.st_size, None
                if size <= SMALL_FILE_BYTES:
                    data = file.read(size + 1)
                    digest = blake3(data).digest()
                else:
                    digest = self._store_big(file, row[0])
                if file.is_unchanged():
                    self.read_bytes += size
                    return row_of(row[0], file.status), digest, data
        raise Conflict(f"{place} changed while it was read.", hint="Wait until it is written, and commit again.")

    def _store_big(self, file: _Opened, path: str) -> bytes:
        like = self._writing.chunks_of(self._base.get(path))
        chunks, whole = store_stream(file.fill, self._writing, self._squeeze, self._say, like=like)
        if not self._writing.has_many([whole])[0]:
            self._writing.writer.add(whole, encode_recipe(chunks), kind=RECIPE)
        return whole

    def _store(self, waiting: list[tuple[bytes, bytes]]) -> None:
        known, new = self._writing.has_many([digest for digest, _ in waiting]), list[Payload]()
        for (digest, data), is_known in zip(waiting, known, strict=True):
            if not is_known:
                new.append(self._squeeze.payload(digest, data))
        self._writing.writer.add_many(new)


def store_blob(writing: Writing, digest: bytes, data: Any) -> None:
    """Store bytes whose digest is known, compressed when that helps."""
    Squeeze().add(writing, digest, data)


class _Opened:
    """A file that is being read, with its status when it was opened."""

    def __init__(self, place: str, descriptor: int) -> None:
        self._place, self._descriptor = place, descriptor
        self.status = os.fstat(descriptor)
        if not stat.S_ISREG(self.status.st_mode):
            os.close(descriptor)
            raise Conflict(f"{place} is no file any more.", hint="Commit again.")

    def read(self, size: int) -> bytes:
        try:
            return os.read(self._descriptor, size)
        except OSError as cause:
            raise Invalid(f"{self._place} cannot be read.", hint=f"The system says: {cause.strerror}.") from cause

    def fill(self, buffer: memoryview) -> int:
        try:
            return os.readv(self._descriptor, [buffer])
        except OSError as cause:
            raise Invalid(f"{self._place} cannot be read.", hint=f"The system says: {cause.strerror}.") from cause

    def is_unchanged(self) -> bool:
        now, was = os.fstat(self._descriptor), self.status
        return (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (was.st_size, was.st_mtime_ns, was.st_ctime_ns)

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _opened(place: str) -> _Opened:
    try:
        return _Opened(place, os.open(place, _FLAGS))
    except FileNotFoundError as cause:
        raise Conflict(f"{place} vanished while the folder was read.", hint="Commit again.") from cause
    except OSError as cause:
        raise Invalid(f"{place} may not be read.", hint=f"The system says: {cause.strerror}.") from cause


def _hash(root: Source, row: Row) -> tuple[Row, str]:
    """The digest of one file, without storing it."""
    place = place_of(root, row[0])
    for _ in range(TRIES):
        with _opened(place) as file:
            whole, buffer = blake3(), memoryview(bytearray(min(READ_BYTES, row[1] + 1)))
            while size := file.fill(buffer):
                whole.update(buffer[:size])
            if file.is_unchanged():
                return row_of(row[0], file.status), whole.hexdigest()
    raise Conflict(f"{place} changed while it was read.", hint="Wait until it is written, and try again.")
