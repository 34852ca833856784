"""What small files hold, by a process beside the one that asks: `python reader.py`, rows to it, digests from it.

The bytes go through memory that both see. It loads nothing but what Python has built in, and BLAKE3, so that it starts in
twenty milliseconds. A file that is not as its row says is left to who asked.
"""

from __future__ import annotations

import marshal
import mmap
import os
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noria.repository.walker import Row

# Not blocking: something may have put a pipe there since the folder was looked at.
OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def small_file(place: str, row: Row) -> bytes | None:
    """The bytes of a file that is, after it was read, as it was when the folder was looked at; None for every other."""
    _, size, written_ns, changed_ns, inode, is_program = row
    try:
        descriptor = os.open(place, OPEN_FLAGS)
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
    return data


def serve(memory: int, libraries: str) -> None:
    """Read what is asked for until nobody asks: (folder, where in the memory, rows, size of a small file) each time."""
    sys.path.append(libraries)
    from blake3 import blake3

    with mmap.mmap(memory, 0) as shared:
        while True:
            try:
                folder, at, rows, small_bytes = marshal.load(sys.stdin.buffer)  # noqa: S302 - from the process that began this one
            except EOFError:
                return
            digests = list[bytes | None]()
            for row in rows:
                data = small_file(folder + row[0], row) if row[1] <= small_bytes else None
                if data is not None:
                    shared[at : at + len(data)] = data
                    at += len(data)
                digests.append(None if data is None else blake3(data).digest())
            marshal.dump(digests, sys.stdout.buffer)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
