"""Processes that help for a moment: one that walks, one that reads small files. Without them all goes on, at half the speed."""

from __future__ import annotations

import contextlib
import marshal
import mmap
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from noria.repository import reader
from noria.repository.walker import Row

if TYPE_CHECKING:
    import subprocess

SLOTS = 2  # one is read into while the other is stored

Small = tuple[bytes, memoryview | bytes]  # digest and bytes


def begin(module: ModuleType, *words: str, shared: Sequence[int] = ()) -> subprocess.Popen[bytes] | None:
    """Run a module as a script that loads nothing else; None where that cannot be."""
    import subprocess

    script = Path(module.__file__ or "")
    if not Path(sys.executable or "").name.startswith("python") or not script.is_file():
        return None  # Python is part of another program here
    with contextlib.suppress(OSError):
        return subprocess.Popen(
            [sys.executable, "-I", "-S", script, *words], pass_fds=shared,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    return None


class Reading:
    """A process that reads small files of `folder`, which ends in a slash. Call `end`.

    At most SLOTS lists of files are asked for and not released; the files of one take at most `slot_bytes`.
    """

    def __init__(self, folder: str, *, slot_bytes: int, small_bytes: int) -> None:
        self._folder, self._slot_bytes, self._small_bytes = folder, slot_bytes, small_bytes
        self._free = list(range(SLOTS))
        self._pool = ThreadPoolExecutor(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_broken = False
        if not hasattr(os, "memfd_create"):
            return
        import blake3

        memory = os.memfd_create("noria-reading")
        try:
            os.ftruncate(memory, SLOTS * slot_bytes)
            self._memory = memoryview(mmap.mmap(memory, SLOTS * slot_bytes))
            libraries = str(Path(blake3.__file__).parents[1])
            self._process = begin(reader, str(memory), libraries, shared=[memory])
        finally:
            os.close(memory)

    def can_read(self) -> bool:
        return self._process is not None and not self._is_broken and bool(self._free)

    def read(self, rows: list[Row]) -> tuple[int, Future[list[Small | None]]]:
        """The slot that is taken until it is released, and what the files hold: None for each that was not read."""
        slot = self._free.pop()
        return slot, self._pool.submit(self._read, slot, rows)

    def release(self, slot: int) -> None:
        self._free.append(slot)

    def _read(self, slot: int, rows: list[Row]) -> list[Small | None]:
        process, at = self._process, slot * self._slot_bytes
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(marshal.dumps((self._folder, at, rows, self._small_bytes)))
            process.stdin.flush()
            digests = marshal.load(process.stdout)  # noqa: S302 - written by a process of ours, through a pipe
        except (OSError, EOFError):
            self._is_broken = True
            return [None] * len(rows)
        found = list[Small | None]()
        for row, digest in zip(rows, digests, strict=True):
            if digest is None:
                found.append(None)
            else:
                found.append((digest, self._memory[at : at + row[1]]))
                at += row[1]
        return found

    def end(self) -> None:
        """Nobody will ask any more, and nobody waits for what was asked."""
        if self._process is not None:
            self._process.kill()
            self._pool.shutdown(wait=True)
            end(self._process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, and close what led to it."""
    process.kill()
    with contextlib.suppress(OSError), process:  # what it was told may never have reached it
        pass
