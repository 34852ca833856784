"""Packs: small files, chunks and recipes, one behind the other, with an index beside them.

    packs/ab/<id>.pack   a magic word, then payloads in the order they were added
    packs/ab/<id>.idx    a magic word, a count, a salt, then columns sorted by digest: digests, offsets, stored and real sizes, kinds

The id is the BLAKE3-256 of the index, which names every byte of the pack. The salt keeps two packs of the same bytes apart:
one that is written anew must not take the name of one that is being removed. Every payload is checked against its digest
whenever it is read. A pack without an index belongs to nobody: the index is written after it, so a crash leaves only orphans.
"""

from __future__ import annotations

import array
import mmap
import os
import secrets
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blake3 import blake3
from msgspec import Struct

from noria.kernel.crash import crash_here
from noria.kernel.errors import NotFound, Unavailable
from noria.repository.objects import CLOSE_BYTES, Objects

PACK_MAGIC, INDEX_MAGIC = b"NORIAPK1", b"NORIAIX1"
PACK_BYTES = 64 << 20
RAW, ZSTD, RECIPE = 0, 1, 2  # kinds: the bytes, the bytes compressed, the digests and sizes of the chunks they consist of
RECIPE_ROW = 36  # a digest and four bytes of size
BUFFER_BYTES = 4 << 20
TIERS_MAX = 16  # new packs are searched one by one until there are this many; then all become one list
REPAIR = "Repair it from a remote: noria data repair."
_HEAD_BYTES = 32  # of an index: magic, count, salt
_ALIGN = 4096
SINGLE_MAX = 20_000  # digests that are looked for one by one before the indexes are joined for many
assert sys.byteorder == "little", "indexes are read as they lie in memory"


class Place(Struct, frozen=True, gc=False):
    """Where a payload is. `size_bytes` is its size when unpacked; of a recipe, that of the recipe itself."""

    pack: str
    offset: int
    stored_bytes: int
    size_bytes: int
    kind: int


class Entry(Struct, frozen=True, gc=False):
    """One row of an index."""

    digest: bytes
    offset: int
    stored_bytes: int
    size_bytes: int
    kind: int


Payload = tuple[bytes, Any, int, int]  # digest, stored bytes, kind, size when unpacked

# --- writing ----------------------------------------------------------------------------------------------------------


class PackWriter:
    """Collects payloads into packs of `pack_bytes`. Safe to use from several threads. Call `finish`, or `abandon`.

    Bytes go to a draft past the page cache where the file system can, in whole buffers, by a thread of its own; at most
    three buffers wait. A full pack is made durable and named by another thread while the next one is begun; at most one is.
    `added` holds what was written so far and is in no index yet.
    """

    def __init__(self, objects: Objects, *, pack_bytes: int = PACK_BYTES) -> None:
        self._objects, self._pack_bytes = objects, pack_bytes
        self._lock = threading.Lock()
        self._draft: _Draft | None = None
        self._entries: list[Entry] = []
        self._buffers: list[mmap.mmap] = []  # of drafts that are finished
        self._pool: ThreadPoolExecutor | None = None
        self._publishing: Future[str] | None = None
        self.added: dict[bytes, int] = {}  # digest: kind
        self.packs: list[str] = []
        self.stored_bytes = 0

    def add(self, digest: bytes, data: Any, *, kind: int = RAW, size_bytes: int | None = None) -> bool:
        """Store a payload under its digest; False when it was added before. `data` may be reused afterwards."""
        return self.add_many([(digest, data, kind, len(data) if size_bytes is None else size_bytes)]) == 1

    def add_many(self, payloads: Iterable[Payload]) -> int:
        """Store several; returns how many were not added before."""
        count, pieces, pieces_bytes = 0, list[Any](), 0
        with self._lock:
            for digest, data, kind, size_bytes in payloads:
                if digest in self.added:
                    continue
                if self._draft is None:
                    self._draft = _Draft(self._objects.scratch(), self._buffers)
                size = len(data)
                at = self._draft.size + pieces_bytes
                self._entries.append(Entry(digest, at, size, size_bytes, kind))
                self.added[digest] = kind
                self.stored_bytes += size
                count += 1
                pieces.append(data)
                pieces_bytes += size
                if pieces_bytes >= BUFFER_BYTES or at + size >= self._pack_bytes:
                    self._write(pieces)
                    pieces, pieces_bytes = [], 0
            self._write(pieces)
        return count

    def _write(self, pieces: list[Any]) -> None:
        if not pieces:
            return
        assert self._draft is not None
        self._draft.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._draft.size >= self._pack_bytes:
            self._close()

    def finish(self) -> list[str]:
        """Make everything durable; returns the ids of the packs."""
        with self._lock:
            if self._draft is not None:
                self._close()
            self._wait()
            self._end()
            return self.packs

    def abandon(self) -> None:
        """Throw the open draft away."""
        with self._lock:
            if self._draft is not None:
                self._draft.abandon()
                self._draft = None
            self._end()

    def _close(self) -> None:
        assert self._draft is not None
        draft, entries = self._draft, self._entries
        self._draft, self._entries = None, []
        try:
            self._wait()
        except BaseException:
            draft.abandon()
            raise
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1)
        self._publishing = self._pool.submit(lambda: publish(self._objects, draft.finish(), encode_index(entries)))

    def _wait(self) -> None:
        """Until the pack that is being published is there. Raises what went wrong with it."""
        publishing, self._publishing = self._publishing, None
        if publishing is not None:
            self.packs.append(publishing.result())

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None


def publish(objects: Objects, file: Path, index: bytes) -> str:
    """Give a durable pack file its name, and write its index after it."""
    name = blake3(index).hexdigest()
    crash_here("pack.drafted")
    objects.write_file(_key(name, "pack"), file)
    crash_here("pack.published")
    objects.write(_key(name, "idx"), index)
    crash_here("index.published")
    return name


class _Draft:
    """A file that grows by aligned buffers, written by a thread of its own."""

    def __init__(self, folder: Path, buffers: list[mmap.mmap]) -> None:
        self.path = folder / f"{secrets.token_hex(8)}.pack"
        self._given_back = buffers
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        try:
            self._fd, self._is_direct = (
                os.open(self.path, flags | getattr(os, "O_DIRECT", 0), 0o644),
                hasattr(os, "O_DIRECT"),
            )
        except OSError:  # tmpfs and others refuse
            self.path.unlink(missing_ok=True)
            self._fd, self._is_direct = os.open(self.path, flags, 0o644), False
        self._free = [buffers.pop() if buffers else mmap.mmap(-1, BUFFER_BYTES) for _ in range(3)]
        self._buffer, self._filled = self._free.pop(), 0
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[tuple[Future[None], mmap.mmap]] = []
        self.size = 0
        self.write(PACK_MAGIC)

    def write(self, data: Any) -> None:
        view, at = memoryview(data).cast("B"), 0
        while at < len(view):
            part = min(len(view) - at, BUFFER_BYTES - self._filled)
            self._buffer[self._filled : self._filled + part] = view[at : at + part]
            self._filled += part
            at += part
            if self._filled == BUFFER_BYTES:
                self._flush()
        self.size += len(view)

    def _flush(self) -> None:
        if not self._free:
            future, buffer = self._waiting.pop(0)
            future.result()
            self._free.append(buffer)
        self._waiting.append((self._pool.submit(self._write_all, self._buffer, BUFFER_BYTES), self._buffer))
        self._buffer, self._filled = self._free.pop(), 0

    def _write_all(self, buffer: mmap.mmap, size: int) -> None:
        view, at = memoryview(buffer), 0
        while at < size:
            at += os.write(self._fd, view[at:size])

    def finish(self) -> Path:
        try:
            for future, _ in self._waiting:
                future.result()
            if self._filled:
                if self._is_direct and self._filled % _ALIGN:  # the tail cannot go past the page cache
                    import fcntl

                    fcntl.fcntl(self._fd, fcntl.F_SETFL, fcntl.fcntl(self._fd, fcntl.F_GETFL) & ~os.O_DIRECT)
                self._write_all(self._buffer, self._filled)
            os.fsync(self._fd)
        except OSError as cause:
            self.abandon()
            import errno

            if cause.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Unavailable(
                    f"There is no space left in {self.path.parent}.", hint="Free some (noria data gc), and try again."
                ) from cause
            raise
        self._end()
        return self.path

    def abandon(self) -> None:
        self._end()
        self.path.unlink(missing_ok=True)

    def _end(self) -> None:
        self._pool.shutdown(wait=True)
        os.close(self._fd)
        self._given_back += [self._buffer, *self._free, *(buffer for _, buffer in self._waiting)]
        self._waiting = []


# --- the index of one pack --------------------------------------------------------------------------------------------


def encode_index(entries: Iterable[Entry]) -> bytes:
    rows = sorted(entries, key=lambda e: e.digest)
    columns = (
        array.array("Q", [e.offset for e in rows]),
        array.array("I", [e.stored_bytes for e in rows]),
        array.array("I", [e.size_bytes for e in rows]),
        array.array("B", [e.kind for e in rows]),
    )
    head = INDEX_MAGIC + len(rows).to_bytes(8, "little") + secrets.token_bytes(16)
    return b"".join((head, *(e.digest for e in rows), *(c.tobytes() for c in columns)))


class PackIndex:
    """The index of one pack, opened."""

    def __init__(self, name: str, data: bytes) -> None:
        if blake3(data).hexdigest() != name:
            raise IndexDamaged(f"The index of pack {name[:12]} is damaged.", hint=REPAIR)
        self.name = name
        self.count = n = int.from_bytes(data[8:16], "little")
        self.data = data
        self.digests = memoryview(data)[_HEAD_BYTES : _HEAD_BYTES + 32 * n]
        at = _HEAD_BYTES + 32 * n
        self.offsets = memoryview(data)[at : at + 8 * n].cast("Q")
        self.stored = memoryview(data)[at + 8 * n : at + 12 * n].cast("I")
        self.sizes = memoryview(data)[at + 12 * n : at + 16 * n].cast("I")
        self.kinds = memoryview(data)[at + 16 * n : at + 17 * n]

    def keys(self) -> Any:
        """The first eight bytes of every digest."""
        import numpy as np

        return np.frombuffer(self.digests, dtype=">u8")[::4].astype("u8") if self.count else np.empty(0, dtype="u8")

    def find(self, digest: bytes) -> Place | None:
        row = bisect_left(range(self.count), digest, key=self.digest)
        return self.place(row) if row < self.count and self.digest(row) == digest else None

    def digest(self, row: int) -> bytes:
        return bytes(self.digests[32 * row : 32 * row + 32])

    def place(self, row: int) -> Place:
        return Place(self.name, self.offsets[row], self.stored[row], self.sizes[row], self.kinds[row])

    def entries(self) -> Iterator[Entry]:
        for row in range(self.count):
            place = self.place(row)
            yield Entry(self.digest(row), place.offset, place.stored_bytes, place.size_bytes, place.kind)

    @property
    def stored_bytes(self) -> int:
        return sum(self.stored)


class _Tier(Struct, frozen=True):
    """Several indexes as one: the first eight bytes of every digest, sorted, with pack and row."""

    keys: Any
    packs: Any
    rows: Any
    indexes: list[PackIndex]

    def find(self, digest: bytes, key: Any, start: int, hidden: frozenset[str]) -> Place | None:
        while start < len(self.keys) and self.keys[start] == key:
            index: PackIndex = self.indexes[self.packs[start]]
            row = int(self.rows[start])
            if index.digest(row) == digest and index.name not in hidden:
                return index.place(row)
            start += 1
        return None


def _tier(indexes: list[PackIndex]) -> _Tier:
    import numpy as np

    keys = np.concatenate([i.keys() for i in indexes])
    packs = np.repeat(np.arange(len(indexes), dtype="u4"), [i.count for i in indexes])
    rows = np.concatenate([np.arange(i.count, dtype="u4") for i in indexes])
    order = np.argsort(keys, kind="stable")
    return _Tier(keys[order], packs[order], rows[order], indexes)


# --- all packs together -----------------------------------------------------------------------------------------------


class Packs:
    """What is stored in all packs of a repository, and the way to read it.

    The indexes are loaded when first needed and kept; `refresh` looks for new ones. `hidden` packs are about to be collected:
    they are still read, but what they hold does not count as stored when something new is written.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._indexes: dict[str, PackIndex] | None = None
        self._lock = threading.RLock()
        self._tiers: list[_Tier] = []
        self._loose: list[PackIndex] = []  # in no tier yet
        self._singles = 0
        self.hidden: frozenset[str] = frozenset()
        self.damaged: list[str] = []  # packs whose index cannot be read; what they hold counts as missing

    def refresh(self) -> None:
        """Load the indexes that came, forget those that went."""
        with self._lock:
            known, found = self._indexes or {}, dict[str, PackIndex]()
            self.damaged = []
            for item in self._objects.list("packs"):
                if not item.key.endswith(".idx"):
                    continue
                name = item.key.rsplit("/", 1)[-1].removesuffix(".idx")
                try:
                    found[name] = known.get(name) or PackIndex(name, self._objects.read(item.key))
                except NotFound:
                    continue  # collected meanwhile
                except IndexDamaged:
                    self.damaged.append(name)
            self._indexes = found
            new = [index for name, index in found.items() if name not in known]
            if len(found) != len(known) + len(new):
                self._tiers, self._loose, self._singles = [], list(found.values()), 0
            else:
                self._loose += new

    def indexes(self) -> dict[str, PackIndex]:
        with self._lock:
            if self._indexes is None:
                self.refresh()
            assert self._indexes is not None
            return self._indexes

    def find_many(self, digests: Sequence[bytes], *, for_writing: bool = False) -> list[Place | None]:
        """Where each is; None where it is in no pack. `for_writing`: in none that is about to be collected."""
        if not digests:
            return []
        self.indexes()
        hidden = self.hidden if for_writing else frozenset[str]()
        with self._lock:
            self._singles += len(digests) * len(self._loose)
            if self._singles > SINGLE_MAX:
                self._join()
            tiers, loose = self._tiers, list(self._loose)
        found = self._find_in_tiers(digests, tiers, hidden)
        for index in loose:
            if index.name not in hidden:
                found = [place or index.find(digest) for place, digest in zip(found, digests, strict=True)]
        return found

    def _join(self) -> None:
        """What is in no tier becomes one; all become one when there are too many. A few lookups do not pay for it."""
        if not self._loose:
            return
        self._tiers = [*self._tiers, _tier(self._loose)]
        if len(self._tiers) > TIERS_MAX:
            self._tiers = [_tier([index for tier in self._tiers for index in tier.indexes])]
        self._loose, self._singles = [], 0

    def _find_in_tiers(self, digests: Sequence[bytes], tiers: list[_Tier], hidden: frozenset[str]) -> list[Place | None]:
        found: list[Place | None] = [None] * len(digests)
        if not digests or not tiers:
            return found
        import numpy as np

        wanted = np.frombuffer(b"".join(digests), dtype=">u8")[::4].astype("u8")
        for tier in tiers:
            if not len(tier.keys):
                continue
            starts = np.searchsorted(tier.keys, wanted)
            is_near = tier.keys[np.minimum(starts, len(tier.keys) - 1)] == wanted
            for i in np.flatnonzero(is_near).tolist():
                if found[i] is None:
                    found[i] = tier.find(digests[i], wanted[i], int(starts[i]), hidden)
        return found

    def has_many(self, digests: Sequence[bytes]) -> list[bool]:
        """Is each stored, for somebody who would otherwise write it?"""
        return [p is not None for p in self.find_many(digests, for_writing=True)]

    def find(self, digest: bytes) -> Place | None:
        return self.find_many([digest])[0]

    # --- reading --------------------------------------------------------------------------------------------------------

    def read(self, place: Place, digest: bytes) -> bytes:
        """One payload, unpacked and checked. Raises Unavailable when it is damaged or gone."""
        return self.read_many([(place, digest)])[0]

    def read_many(self, wanted: Sequence[tuple[Place, bytes]]) -> list[bytes]:
        """Several payloads, with as few requests as possible; each is checked. Keep the sum of their sizes bounded."""
        return [unpack(data, *want) for data, want in zip(self.read_stored([p for p, _ in wanted]), wanted, strict=True)]

    def read_stored(self, places: Sequence[Place]) -> list[bytes]:
        """The same as they are stored, unchecked. Raises PackGone."""
        found: list[bytes] = [b""] * len(places)
        by_pack: dict[str, list[int]] = {}
        for i, place in enumerate(places):
            by_pack.setdefault(place.pack, []).append(i)
        for pack, numbers in by_pack.items():
            ranges = [(places[i].offset, places[i].offset + places[i].stored_bytes) for i in numbers]
            try:
                parts = self._objects.read_ranges(_key(pack, "pack"), ranges)
            except NotFound as cause:
                raise PackGone(f"The pack {pack[:12]} is missing.", hint=REPAIR) from cause
            for i, part in zip(numbers, parts, strict=True):
                found[i] = part
        return found

    def read_pack(self, index: PackIndex, each: Callable[[Entry, bytes], None]) -> None:
        """Every payload of a pack in the order of the pack, unchecked and still packed."""
        batch, total = list[Entry](), 0
        for entry in sorted(index.entries(), key=lambda e: e.offset):
            batch.append(entry)
            total += entry.stored_bytes
            if total >= 8 * CLOSE_BYTES:
                self._read_batch(index, batch, each)
                batch, total = [], 0
        self._read_batch(index, batch, each)

    def _read_batch(self, index: PackIndex, batch: list[Entry], each: Callable[[Entry, bytes], None]) -> None:
        if batch:
            # The largest end: an empty payload may lie where another begins, before or behind it.
            start, end = batch[0].offset, max(e.offset + e.stored_bytes for e in batch)
            data = self._objects.read_ranges(_key(index.name, "pack"), [(start, end)])[0]
            for entry in batch:
                each(entry, data[entry.offset - start : entry.offset - start + entry.stored_bytes])


class IndexDamaged(Unavailable):
    """The index of a pack is not what its name says."""


class PackGone(Unavailable):
    """A pack that an index names is not there: it was collected after the index was read, or lost."""


def unpack(data: bytes, place: Place | Entry, digest: bytes) -> bytes:
    """The payload behind stored bytes. Raises Unavailable unless it is what its digest says."""
    if place.kind == ZSTD:
        data = _decompress(data, place.size_bytes, digest)
    named = blake3(data).digest() == digest if place.kind != RECIPE else blake3(data[:-32]).digest() == data[-32:]
    if len(data) != place.size_bytes or not named:
        raise Unavailable(f"The bytes of {digest.hex()[:12]} are damaged.", hint=REPAIR)
    return data


def _decompress(data: bytes, size: int, digest: bytes) -> bytes:
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except zstandard.ZstdError as cause:
        raise Unavailable(f"The bytes of {digest.hex()[:12]} are damaged.", hint=REPAIR) from cause


def encode_recipe(chunks: Sequence[tuple[bytes, int]]) -> bytes:
    """The chunks of a file, in order: digest and size each, then the hash of this list."""
    body = b"".join(digest + size.to_bytes(4, "little") for digest, size in chunks)
    return body + blake3(body).digest()


def decode_recipe(data: bytes) -> list[tuple[bytes, int]]:
    """Raises Unavailable when it is damaged."""
    body, check = data[:-32], data[-32:]
    if len(body) % RECIPE_ROW or blake3(body).digest() != check:
        raise Unavailable("A list of chunks is damaged.", hint=REPAIR)
    return [
        (body[i : i + 32], int.from_bytes(body[i + 32 : i + RECIPE_ROW], "little")) for i in range(0, len(body), RECIPE_ROW)
    ]


def _key(name: str, kind: str) -> str:
    return f"packs/{name[:2]}/{name}.{kind}"


def pack_key(name: str) -> str:
    return _key(name, "pack")


def index_key(name: str) -> str:
    return _key(name, "idx")
