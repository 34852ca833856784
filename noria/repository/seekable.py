"""Something that gives the bytes from one place to another, as a file that can be read and sought in."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

BUFFER_BYTES = 256 << 10


def seekable(size_bytes: int, read: Callable[[int, int], Iterable[bytes]]) -> io.BufferedReader:
    """A file of `size_bytes`; `read(start, end)` gives the bytes from start to before end."""
    return io.BufferedReader(_Ranges(size_bytes, read), buffer_size=BUFFER_BYTES)


class _Ranges(io.RawIOBase):
    def __init__(self, size_bytes: int, read: Callable[[int, int], Iterable[bytes]]) -> None:
        self._size, self._read = size_bytes, read
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        filled = 0
        for piece in self._read(self._at, end) if self._at < end else ():
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        self._at += filled
        return filled
