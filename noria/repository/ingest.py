"""From a folder to a list of files whose bytes are stored: scan, read what is not known, cut, hash, pack.

Memory is bounded: a small file is read whole, a big one through two buffers. A file is opened once; its status before and after
reading has to be the same, else it is read again, and a file that keeps changing is refused by name.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from blake3 import blake3
from msgspec import Struct

from noria.datasets import manifest
from noria.datasets.manifest import Manifest
from noria.datasets.model import EXECUTABLE_MODE, FILE_MODE, FILES_PER_VERSION, SMALL_FILE_BYTES, VersionFile, check_path
from noria.kernel.errors import Conflict, Invalid, TooLarge
from noria.repository.beside import Reading, Small
from noria.repository.chunks import Squeeze, store_stream
from noria.repository.packs import RECIPE, Payload, encode_recipe
from noria.repository.reader import OPEN_FLAGS, small_file
from noria.repository.repository import Writing
from noria.repository.scan import Source, StatCache, known_digests, now_ns, place_of, row_of, scan
from noria.repository.walker import Row

READ_BYTES = 1 << 20
FILES_AT_ONCE = 1024  # read before it is asked which of them are stored; at most 16 MiB of them wait
WAITING_BYTES = 16 << 20
TRIES = 3  # of reading a file that changes meanwhile
Say = Callable[[str], None]
BESIDE_FILES = 4_000  # from here on another process reads some of them


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
    for at, row, digest in reader.read_all([(i, rows[i]) for i in to_read]):
        rows[at], digests[at] = row, digest
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

    def read_all(self, rows: list[tuple[int, Row]]) -> Iterator[tuple[int, Row, str]]:
        """Store these files; yields the number of each with its row as it was when read, and its digest. Raises Conflict, Invalid."""
        parts, done = deque(_parts(rows)), 0
        beside = None
        if self._folder and len(rows) >= BESIDE_FILES:
            beside = Reading(self._folder, slot_bytes=WAITING_BYTES, small_bytes=SMALL_FILE_BYTES)
        asked = deque[tuple[list[tuple[int, Row]], int, Future[list[Small | None]]]]()
        try:
            while parts or asked:
                self._say(f"{done:,} of {len(rows):,} changed files read")
                while beside and len(parts) > 1 and beside.can_read():
                    part = parts.popleft()
                    asked.append((part, *beside.read([row for _, row in part])))
                if asked and (not parts or asked[0][2].done()):
                    part, slot, small = asked.popleft()
                    found = self._store_all(part, small.result())
                    assert beside is not None
                    beside.release(slot)
                else:
                    part = parts.popleft()
                    found = self._store_all(part, map(self._small, part))
                yield from found
                done += len(part)
        finally:
            if beside:
                beside.end()

    def _store_all(self, part: list[tuple[int, Row]], found: Iterable[Small | None]) -> list[tuple[int, Row, str]]:
        """Store files of which some are read already."""
        done = list[tuple[int, Row, str]]()
        waiting = list[Small]()
        for (number, row), small in zip(part, found, strict=True):
            if small is not None:
                self.read_bytes += row[1]
                waiting.append(small)
                done.append((number, row, small[0].hex()))
                continue
            new, digest, data = self._read(row)
            if data is not None:
                waiting.append((digest, data))
            done.append((number, new, digest.hex()))
        self._store(waiting)
        return done

    def _small(self, numbered: tuple[int, Row]) -> Small | None:
        row = numbered[1]
        if row[1] > SMALL_FILE_BYTES or not self._folder:
            return None
        data = small_file(self._folder + row[0], row)
        return None if data is None else (blake3(data).digest(), data)

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

    def _store(self, waiting: list[Small]) -> None:
        known, new = self._writing.has_many([digest for digest, _ in waiting]), list[Payload]()
        for (digest, data), is_known in zip(waiting, known, strict=True):
            if not is_known:
                new.append(self._squeeze.payload(digest, data))
        self._writing.writer.add_many(new)


def _parts(rows: list[tuple[int, Row]]) -> Iterator[list[tuple[int, Row]]]:
    """In pieces of FILES_AT_ONCE files and WAITING_BYTES of small files at most."""
    part, size = list[tuple[int, Row]](), 0
    for numbered in rows:
        small = numbered[1][1] if numbered[1][1] <= SMALL_FILE_BYTES else 0
        if part and (len(part) == FILES_AT_ONCE or size + small > WAITING_BYTES):
            yield part
            part, size = [], 0
        part.append(numbered)
        size += small
    if part:
        yield part


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
        return _Opened(place, os.open(place, OPEN_FLAGS))
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
