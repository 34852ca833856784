"""Cutting files into chunks at places their content decides (FastCDC), so that an edit changes the chunks around it only.

Invariant: the chunks of a file, joined, are the file. The parameters belong to the layout: with other ones the same bytes
are cut elsewhere and would be stored twice. A test pins the boundaries of a known stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Any

from noria.datasets.model import SMALL_FILE_BYTES, Chunk, FileEntry

LAYOUT = 1
CHUNK_BYTES_MIN, CHUNK_BYTES_MEAN, CHUNK_BYTES_MAX = 64 << 10, 256 << 10, 1 << 20


def cut(file: IO[bytes]) -> Iterator[memoryview]:
    """The chunks of a stream, in order; each is valid until the next is asked for."""
    from pyfastcdc import FastCDC

    chunker = FastCDC(avg_size=CHUNK_BYTES_MEAN, min_size=CHUNK_BYTES_MIN, max_size=CHUNK_BYTES_MAX)
    for piece in chunker.cut_stream(file):
        yield piece.data


def describe(
    file: IO[bytes], path: str, size_bytes: int, *, mode: int, each: Callable[[Chunk], Any] | None = None
) -> FileEntry:
    """Read a file once: its entry, with chunks when it is big. `each` is told every blob the file consists of."""
    from blake3 import blake3

    whole, pieces, total = blake3(), list[Chunk](), 0
    if size_bytes <= SMALL_FILE_BYTES:
        data = file.read()
        entry = FileEntry(path=path, size_bytes=len(data), digest=blake3(data).hexdigest(), mode=mode)
        if each:
            each(Chunk(entry.digest, entry.size_bytes))
        return entry
    for piece in cut(file):
        whole.update(piece)
        chunk = Chunk(blake3(piece).hexdigest(), len(piece))
        pieces.append(chunk)
        total += len(piece)
        if each:
            each(chunk)
    return FileEntry(path=path, size_bytes=total, digest=whole.hexdigest(), chunks=pieces, mode=mode)
