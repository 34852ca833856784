"""A file that is somewhere else, read by ranges: the server's, or a repository's."""

from __future__ import annotations

import io
from typing import Any

from noria.client.blocks import REQUEST_BYTES, Fetch, shared_cache

AHEAD_BYTES = 512 << 10  # asked for ahead of somebody who reads on; twice as much each time, up to one request


class Ranges(io.RawIOBase):
    """A file named `name` (its digest) of `size_bytes`, read by ranges: `fetch(start, end)` gives the bytes from start to before end.

    What was read is kept for a while; who reads on and on is read ahead of. Whatever `fetch` raises comes through. Reading past
    the end gives nothing, as files do.
    """

    def __init__(self, name: str, size_bytes: int, fetch: Fetch) -> None:
        self._name, self._size, self._fetch = name, size_bytes, fetch
        self._position = 0
        self._expected = -1  # where somebody who reads on would read next
        self._ahead = AHEAD_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size)
        if self._position >= end:
            return 0
        cache = shared_cache()
        if self._position == self._expected:
            cache.ahead(self._name, self._size, end, end + self._ahead, self._fetch)
            self._ahead = min(self._ahead * 2, REQUEST_BYTES)
        else:
            self._ahead = AHEAD_BYTES
        data = cache.read(self._name, self._size, self._position, end, self._fetch)
        buffer[: len(data)] = data
        self._position += len(data)
        self._expected = self._position
        return len(data)
