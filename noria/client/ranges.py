"""A file that is somewhere else, read by ranges: the server's, or a repository's."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any


class Ranges(io.RawIOBase):
    """A file of `size_bytes` bytes that is read by ranges: `read(start, end)` gives the bytes from start to before end, in pieces.

    Whatever `read` raises comes through. Reading past the end gives nothing, as files do.
    """

    def __init__(self, size_bytes: int, read: Callable[[int, int], Iterable[bytes]]) -> None:
        self._size, self._read_range = size_bytes, read
        self._position = 0

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
        data = b"".join(self._read_range(self._position, end))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
