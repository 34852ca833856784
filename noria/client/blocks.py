"""Parts of files that were fetched, kept for a while: in blocks, at most so many bytes of them, the longest unused go first.

What is not there is fetched in as few requests as its gaps allow, several at once; who asks for a block that somebody else is
fetching waits for it. Invariant: a block is kept only when it is whole.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from noria.kernel.errors import Unavailable

BLOCK_BYTES = 256 << 10  # the size up to which files are stored whole
REQUEST_BYTES = 4 << 20  # of one request; what is longer is fetched in parts, at the same time
REQUESTS_AT_ONCE = 8
WAIT_S = 600.0  # for a block that another thread is fetching
Fetch = Callable[[int, int], Iterable[bytes]]
Key = tuple[str, int]


class BlockCache:
    """Blocks by the digest of their file and their place in it."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._coming: dict[Key, Future[bytes]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="noria-read")

    def read(self, name: str, size_bytes: int, start: int, end: int, fetch: Fetch) -> bytes:
        """Bytes from `start` to before `end` of the file `name`, which has `size_bytes`. Raises what `fetch` raises."""
        end = min(end, size_bytes)
        if start >= end:
            return b""
        first, last = start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        there, coming, mine = self._sort(name, range(first, last + 1))
        parts = _parts(sorted(mine))
        for part in parts[1:]:
            self._pool.submit(self._fetch, name, size_bytes, part, mine, fetch)
        for part in parts[:1]:
            self._fetch(name, size_bytes, part, mine, fetch)
        for i, future in (coming | mine).items():
            there[i] = future.result(WAIT_S)
        data = b"".join(there[i] for i in range(first, last + 1))
        at = first * BLOCK_BYTES
        return data[start - at : end - at]

    def ahead(self, name: str, size_bytes: int, start: int, end: int, fetch: Fetch) -> None:
        """Begin to fetch what will be asked for next; a failure is left to whoever asks."""
        end = min(end, size_bytes)
        if start < end:
            _there, _coming, mine = self._sort(name, range(start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1))
            for part in _parts(sorted(mine)):
                self._pool.submit(self._fetch, name, size_bytes, part, mine, fetch)

    def _sort(self, name: str, blocks: range) -> tuple[dict[int, bytes], dict[int, Future[bytes]], dict[int, Future[bytes]]]:
        """Of `blocks`: those that are there, those that somebody is fetching, and the rest, which is now ours to fetch."""
        there, coming, mine = dict[int, bytes](), dict[int, Future[bytes]](), dict[int, Future[bytes]]()
        with self._lock:
            for i in blocks:
                key = (name, i)
                if key in self._kept:
                    self._kept.move_to_end(key)
                    there[i] = self._kept[key]
                elif key in self._coming:
                    coming[i] = self._coming[key]
                else:
                    mine[i] = self._coming[key] = Future()
        return there, coming, mine

    def _fetch(
        self, name: str, size_bytes: int, part: tuple[int, int], mine: dict[int, Future[bytes]], fetch: Fetch
    ) -> None:
        """Fetch the blocks from part[0] to before part[1] in one request; what goes wrong is told to those who wait for them."""
        low, high = part[0] * BLOCK_BYTES, min(part[1] * BLOCK_BYTES, size_bytes)
        try:
            data = b"".join(fetch(low, high))
            if len(data) != high - low:
                raise Unavailable(f"{len(data)} bytes arrived instead of {high - low}.", hint="Try again.")
        except BaseException as error:
            self._end(dict.fromkeys(range(*part), error), name, mine)
            return
        self._end({i: data[(i - part[0]) * BLOCK_BYTES : (i - part[0] + 1) * BLOCK_BYTES] for i in range(*part)}, name, mine)

    def _end(self, found: dict[int, bytes] | dict[int, BaseException], name: str, mine: dict[int, Future[bytes]]) -> None:
        with self._lock:
            for i, block in found.items():
                del self._coming[name, i]
                if isinstance(block, bytes):
                    self._kept[name, i] = block
                    self._bytes += len(block)
            while self._bytes > self._bytes_max and self._kept:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        for i, block in found.items():
            if isinstance(block, bytes):
                mine[i].set_result(block)
            else:
                mine[i].set_exception(block)


def _parts(blocks: list[int]) -> list[tuple[int, int]]:
    """Neighbouring blocks together, as many as fit one request: (first, one past the last)."""
    most = REQUEST_BYTES // BLOCK_BYTES
    found, at = list[tuple[int, int]](), 0
    while at < len(blocks):
        upto = at + 1
        while upto < len(blocks) and blocks[upto] == blocks[at] + upto - at and upto - at < most:
            upto += 1
        found.append((blocks[at], blocks[upto - 1] + 1))
        at = upto
    return found


_caches: dict[int, BlockCache] = {}  # by process: threads and locks do not survive a fork


def shared_cache() -> BlockCache:
    """The one of this process; NORIA_READ_CACHE_MB bounds it (64)."""
    pid = os.getpid()
    if pid not in _caches:
        megabytes = os.environ.get("NORIA_READ_CACHE_MB", "")
        _caches.clear()
        _caches[pid] = BlockCache((int(megabytes) if megabytes.isdigit() else 64) << 20)
    return _caches[pid]
