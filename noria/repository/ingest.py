"""From a folder to a list of files whose bytes are stored: scan, read what is not known, cut, hash, pack.

Memory is bounded: a small file is read whole, a big one through two buffers. A file is opened once; its status before and after
reading has to be the same, else it is read again, and a file that keeps changing is refused by name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blake3 import blake3
from msgspec import Struct

from noria.datasets import manifest
from noria.datasets.manifest import Manifest
from noria.datasets.model import EXECUTABLE_MODE, FILE_MODE, FILES_PER_VERSION, SMALL_FILE_BYTES, VersionFile, check_path
from noria.kernel.errors import Conflict, Invalid, TooLarge
from noria.repository.packs import RAW, RECIPE, ZSTD, encode_recipe
from noria.repository.repository import Writing
from noria.repository.scan import Row, Source, StatCache, known_digests, now_ns, place_of, row_of, scan

CHUNK_BYTES_MIN, CHUNK_BYTES_MEAN, CHUNK_BYTES_MAX = 64 << 10, 256 << 10, 1 << 20
READ_BYTES = 8 << 20
FILES_AT_ONCE = 256  # read before it is asked which of them are stored; at most 16 MiB of them wait
WAITING_BYTES = 16 << 20
TRIES = 3  # of reading a file that changes meanwhile
Say = Callable[[str], None]


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
    if base and seen and seen.root == base_root and seen.rows == rows and all(map(seen.is_settled, rows)):
        return Gathered(dict(base), base_root, 0, 0, 0)
    digests = known_digests(rows, seen)
    _forget_what_is_not_stored(writing, digests, base or {})
    reader = _Reader(writing, source, say)
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
    if seen and seen.root == base_root and seen.rows == rows and all(map(seen.is_settled, rows)):
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
    files: Manifest = {}
    for row, digest in zip(rows, digests, strict=True):
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

    def __init__(self, writing: Writing, root: Source, say: Say) -> None:
        self._writing, self._say = writing, say
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
            new, digest, data = self._read(row)
            if data is not None:
                waiting.append((digest, data))
                size += len(data)
            found.append((new, digest.hex()))
        self._store(waiting)
        return found

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
                    digest = self._store_big(file)
                if file.is_unchanged():
                    self.read_bytes += size
                    return row_of(row[0], file.status), digest, data
        raise Conflict(f"{place} changed while it was read.", hint="Wait until it is written, and commit again.")

    def _store_big(self, file: _Opened) -> bytes:
        chunks, whole = store_stream(file.pieces(), self._writing, self._squeeze, self._say)
        if not self._writing.has_many([whole])[0]:
            self._writing.writer.add(whole, encode_recipe(chunks), kind=RECIPE)
        return whole

    def _store(self, waiting: list[tuple[bytes, bytes]]) -> None:
        known = self._writing.has_many([digest for digest, _ in waiting])
        for (digest, data), is_known in zip(waiting, known, strict=True):
            if not is_known:
                self._squeeze.add(self._writing, digest, data)


def store_blob(writing: Writing, digest: bytes, data: Any) -> None:
    """Store bytes whose digest is known, compressed when that helps."""
    Squeeze().add(writing, digest, data)


def store_stream(
    pieces: Iterator[memoryview], writing: Writing, squeeze: Squeeze, say: Say = lambda _: None
) -> tuple[list[tuple[bytes, int]], bytes]:
    """Cut a stream where its content decides and store the chunks; returns them and the digest of the whole.

    `pieces` are buffers that stay valid until the next is asked for.
    """
    chunks: list[tuple[bytes, int]] = []
    whole, total = blake3(), 0
    with ThreadPoolExecutor(1) as pool:
        for view, parts in cut(pieces):
            hashing = pool.submit(whole.update, view)
            found = [(blake3(part).digest(), part) for part in parts]
            known = writing.has_many([d for d, _ in found])
            for (digest, part), is_known in zip(found, known, strict=True):
                if not is_known:
                    squeeze.add(writing, digest, part)
                chunks.append((digest, len(part)))
            total += len(view)
            hashing.result()
            say(f"{total >> 20:,} MiB of a big file read")
    return chunks, whole.digest()


def cut(pieces: Iterator[memoryview]) -> Iterator[tuple[memoryview, list[memoryview]]]:
    """The chunks of a stream (FastCDC), buffer by buffer: the bytes they cover, and they. Valid until the next is asked for.

    The last chunk of a buffer may be cut short by its end, so it is carried into the next buffer.
    """
    from pyfastcdc import FastCDC

    chunker = FastCDC(avg_size=CHUNK_BYTES_MEAN, min_size=CHUNK_BYTES_MIN, max_size=CHUNK_BYTES_MAX)
    buffer, filled = bytearray(READ_BYTES + 2 * CHUNK_BYTES_MAX), 0
    for piece in pieces:
        at = 0
        while at < len(piece):
            part = min(len(piece) - at, len(buffer) - filled)
            buffer[filled : filled + part] = piece[at : at + part]
            filled, at = filled + part, at + part
            if filled == len(buffer):
                view = memoryview(buffer)
                lengths = [c.length for c in chunker.cut_buf(view)][:-1]
                covered = sum(lengths)
                yield view[:covered], _slices(view, lengths)
                rest = bytes(view[covered:])
                buffer[: len(rest)] = rest
                filled = len(rest)
    if filled:
        view = memoryview(buffer)[:filled]
        yield view, _slices(view, [c.length for c in chunker.cut_buf(view)])


def _slices(view: memoryview, lengths: list[int]) -> list[memoryview]:
    found, at = [], 0
    for length in lengths:
        found.append(view[at : at + length])
        at += length
    return found


class Squeeze:
    """Compresses what becomes smaller by a tenth, and soon stops trying where nothing does."""

    def __init__(self) -> None:
        import zstandard

        self._compressor = zstandard.ZstdCompressor(level=1)
        self._misses, self._turn = 0, 0

    def add(self, writing: Writing, digest: bytes, data: Any) -> None:
        packed = self._try(data)
        if packed is None:
            writing.writer.add(digest, data, kind=RAW)
        else:
            writing.writer.add(digest, packed, kind=ZSTD, size_bytes=len(data))

    def _try(self, data: Any) -> bytes | None:
        self._turn += 1
        if len(data) < 512 or (self._misses > 16 and self._turn % 32):
            return None
        head = memoryview(data)[: 16 << 10]
        if len(self._compressor.compress(head)) > 0.9 * len(head):
            self._misses += 1
            return None
        packed: bytes = self._compressor.compress(data)
        self._misses = 0
        return packed if len(packed) < 0.9 * len(data) else None


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

    def pieces(self) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(READ_BYTES))
        while True:
            try:
                size = os.readv(self._descriptor, [buffer])
            except OSError as cause:
                raise Invalid(f"{self._place} cannot be read.", hint=f"The system says: {cause.strerror}.") from cause
            if not size:
                return
            yield buffer[:size]

    def is_unchanged(self) -> bool:
        now, was = os.fstat(self._descriptor), self.status
        return (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (was.st_size, was.st_mtime_ns, was.st_ctime_ns)

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _opened(place: str) -> _Opened:
    try:  # not blocking: something may have put a pipe there since the folder was looked at
        return _Opened(place, os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError as cause:
        raise Conflict(f"{place} vanished while the folder was read.", hint="Commit again.") from cause
    except OSError as cause:
        raise Invalid(f"{place} may not be read.", hint=f"The system says: {cause.strerror}.") from cause


def _hash(root: Source, row: Row) -> tuple[Row, str]:
    """The digest of one file, without storing it."""
    place = place_of(root, row[0])
    for _ in range(TRIES):
        with _opened(place) as file:
            whole = blake3()
            for piece in file.pieces():
                whole.update(piece)
            if file.is_unchanged():
                return row_of(row[0], file.status), whole.hexdigest()
    raise Conflict(f"{place} changed while it was read.", hint="Wait until it is written, and try again.")
