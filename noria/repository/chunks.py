"""From a big file to stored chunks: cut where the content decides (FastCDC), hashed, packed; and the hash of the whole.

Reading, the hash of the whole and the hashes of chunks are done by threads of their own, while this one cuts and packs: all of
them let go of the interpreter. Memory is bounded by four windows.

A file that resembles one that is stored (`like`) is not cut again: its old chunks are looked for where they should be, and only
from one that is not there up to the end of the window it is cut anew. That gives the same chunks, since where a chunk ends
depends on nothing but the bytes from its beginning to there. The last one, which the end of the file cut off, is no such chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from blake3 import blake3
from msgspec import Struct

from noria.repository.packs import RAW, ZSTD, Payload

if TYPE_CHECKING:
    from noria.repository.repository import Writing

CHUNK_BYTES_MIN, CHUNK_BYTES_MEAN, CHUNK_BYTES_MAX = 64 << 10, 256 << 10, 1 << 20
WINDOW_BYTES = 8 << 20
WINDOWS = 4  # one is cut, one is hashed, two are read ahead
Say = Callable[[str], None]
Fill = Callable[[memoryview], int]  # reads into a buffer; returns how much, 0 at the end
Chunk = tuple[bytes, int]  # digest and size


def store_stream(
    fill: Fill, writing: Writing, squeeze: Squeeze, say: Say = lambda _: None, *, like: Sequence[Chunk] = ()
) -> tuple[list[Chunk], bytes]:
    """Cut a stream and store its chunks; returns them and the digest of the whole. `like`: the chunks of what it was before."""
    store, first = _Store(writing, squeeze), _Window()
    data = first.read(fill)
    if first.is_last:  # not worth any thread
        views = _anew(data, is_last=True)
        store.add(views, _digests(views))
        return store.chunks, blake3(data).digest()
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as hashing, ThreadPoolExecutor(2) as digesting:
        windows, cutter = _Windows(fill, first, reading, hashing), _Cutter(digesting, like)
        carried, waiting, total = b"", list[tuple[_Parts, _Window]](), 0
        for window in windows:
            view = window.after(carried)
            parts = cutter.cut(view, is_last=window.is_last)
            carried = bytes(view[sum(len(v) for v in parts.views) :])
            waiting.append((parts, window))
            if len(waiting) > 1:  # meanwhile the digests of this one are computed
                _settle(*waiting.pop(0), store, windows)
            total += window.size
            say(f"{total >> 20:,} MiB of a big file read")
        _settle(*waiting.pop(), store, windows)
        return store.chunks, windows.digest()


def _settle(parts: _Parts, window: _Window, store: _Store, windows: _Windows) -> None:
    store.add(parts.views, [digest for future in parts.digests for digest in future.result()])
    windows.release(window)


def filling(pieces: Iterator[bytes]) -> Fill:
    """Pieces of any size as something that fills buffers."""
    left = memoryview(b"")

    def fill(buffer: memoryview) -> int:
        nonlocal left
        while not left:
            piece = next(pieces, None)
            if piece is None:
                return 0
            left = memoryview(piece)
        size = min(len(left), len(buffer))
        buffer[:size] = left[:size]
        left = left[size:]
        return size

    return fill


class _Window:
    """A buffer with room in front for what the window before left over."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(CHUNK_BYTES_MAX + WINDOW_BYTES))
        self.size = 0
        self.hashed: Future[Any] | None = None

    def read(self, fill: Fill) -> memoryview:
        """Fill it as far as the stream goes."""
        room = self._buffer[CHUNK_BYTES_MAX:]
        self.size = 0
        while self.size < WINDOW_BYTES and (size := fill(room[self.size :])):
            self.size += size
        return room[: self.size]

    @property
    def is_last(self) -> bool:
        return self.size < WINDOW_BYTES

    def after(self, carried: bytes) -> memoryview:
        start = CHUNK_BYTES_MAX - len(carried)
        self._buffer[start:CHUNK_BYTES_MAX] = carried
        return self._buffer[start : CHUNK_BYTES_MAX + self.size]


class _Windows:
    """The windows of a stream, read ahead and hashed in order."""

    def __init__(self, fill: Fill, first: _Window, reading: ThreadPoolExecutor, hashing: ThreadPoolExecutor) -> None:
        self._fill, self._first, self._reading, self._hashing = fill, first, reading, hashing
        self._whole = blake3()
        self._free = [_Window() for _ in range(WINDOWS - 1)]

    def __iter__(self) -> Iterator[_Window]:
        ahead = deque([self._reading.submit(self._hash, self._first)])
        while True:
            while self._free:
                ahead.append(self._reading.submit(self._read, self._free.pop()))
            window = ahead.popleft().result()
            yield window
            if window.is_last:
                return

    def _read(self, window: _Window) -> _Window:
        window.read(self._fill)
        return self._hash(window)

    def _hash(self, window: _Window) -> _Window:
        window.hashed = self._hashing.submit(self._whole.update, window.after(b""))
        return window

    def release(self, window: _Window) -> None:
        """It may be read into again as soon as it is hashed."""
        assert window.hashed is not None
        window.hashed.result()
        self._free.append(window)

    def digest(self) -> bytes:
        """Of all that was read."""
        return self._hashing.submit(self._whole.digest).result()


class _Parts(Struct, frozen=True):
    """Chunks of one window, with their digests as they become known."""

    views: list[memoryview]
    digests: list[Future[list[bytes]]]


class _Cutter:
    """Where chunks end."""

    def __init__(self, digesting: ThreadPoolExecutor, like: Sequence[Chunk]) -> None:
        self._digesting = digesting
        self._like = like
        self._after = {digest: i + 1 for i, (digest, _) in enumerate(like)}
        self._next = 0  # the old chunk that should come now; beyond the last one when nobody knows

    def cut(self, view: memoryview, *, is_last: bool) -> _Parts:
        """The chunks of a window that begins where a chunk does; what is left over belongs to the next one."""
        views = self._expected(view, is_last=is_last)
        digests = self._digest(views)
        if views:
            found = [digest for future in digests for digest in future.result()]
            same = next((i for i, d in enumerate(found) if d != self._like[self._next + i][0]), len(found))
            self._next += same
            views, digests = views[:same], [_done(found[:same])]
            if same == len(found) and not is_last and len(view) - sum(map(len, views)) <= CHUNK_BYTES_MAX:
                return _Parts(views, digests)
        new = _anew(view[sum(map(len, views)) :], is_last=is_last)
        hashed = self._digest(new)
        if self._like:
            last = hashed[-1].result()[-1:] if hashed else []
            self._next = self._after.get(last[0], len(self._like)) if last else self._next
        return _Parts(views + new, digests + hashed)

    def _expected(self, view: memoryview, *, is_last: bool) -> list[memoryview]:
        """Where the old chunks should be."""
        found, at = list[memoryview](), 0
        for i in range(self._next, len(self._like)):
            end = at + self._like[i][1]
            if self._like[i][1] > CHUNK_BYTES_MAX:
                break  # cut by somebody else
            if end > len(view) or (i == len(self._like) - 1 and not (is_last and end == len(view))):
                break
            found.append(view[at:end])
            at = end
        return found

    def _digest(self, views: list[memoryview]) -> list[Future[list[bytes]]]:
        half = (len(views) + 1) // 2
        return [self._digesting.submit(_digests, part) for part in (views[:half], views[half:]) if part]


def _anew(view: memoryview, *, is_last: bool) -> list[memoryview]:
    from pyfastcdc import FastCDC

    chunker = FastCDC(avg_size=CHUNK_BYTES_MEAN, min_size=CHUNK_BYTES_MIN, max_size=CHUNK_BYTES_MAX)
    found = [chunk.data for chunk in chunker.cut_buf(view)] if view else []
    # The last chunk of a window may be cut short by its end, so it belongs to the next one.
    return found if is_last else found[:-1]


def _digests(views: list[memoryview]) -> list[bytes]:
    return [blake3(view).digest() for view in views]


def _done(digests: list[bytes]) -> Future[list[bytes]]:
    future = Future[list[bytes]]()
    future.set_result(digests)
    return future


class _Store:
    """Packs the chunks that are not stored."""

    def __init__(self, writing: Writing, squeeze: Squeeze) -> None:
        self._writing, self._squeeze = writing, squeeze
        self.chunks: list[Chunk] = []

    def add(self, views: list[memoryview], digests: list[bytes]) -> None:
        known = self._writing.has_many(digests)
        self._writing.writer.add_many(
            self._squeeze.payload(digest, view)
            for digest, view, is_known in zip(digests, views, known, strict=True)
            if not is_known
        )
        self.chunks += zip(digests, map(len, views), strict=True)


class Squeeze:
    """Compresses what becomes smaller by a tenth, and soon stops trying where nothing does."""

    def __init__(self) -> None:
        import zstandard

        self._compressor = zstandard.ZstdCompressor(level=1)
        self._misses, self._turn = 0, 0

    def add(self, writing: Writing, digest: bytes, data: Any) -> None:
        writing.writer.add_many([self.payload(digest, data)])

    def payload(self, digest: bytes, data: Any) -> Payload:
        """What is to be stored under this digest."""
        packed = self._try(data)
        return (digest, data, RAW, len(data)) if packed is None else (digest, packed, ZSTD, len(data))

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
