"""How much of the machine a model's processes may take: memory, files, processes. One watch per worker.

What the kernel can refuse at once, `confine.py` asks of it before the program starts: one huge file, one huge allocation, many open
files. The sums over all of a worker's processes are looked at from here, and a worker that is beyond one is ended, with all that it
started: they are one process group, which `confine.py` lets nobody leave, and a process whose parent died becomes the worker's.

Only the worker is ended. What it takes between two looks it can take; `MEMORY_FENCE` and the size of a file bound that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from noria.serving.model import RevisionConfig

LOOK_S, LOOK_MOST_S = 0.1, 1.0
LOOK_SHARE = 0.05  # of a processor may go into looking
DISK_LOOK_S, DISK_LOOK_MOST_S = 0.5, 5.0
DISK_LOOK_SHARE = 0.2  # of a processor, for a folder with very many files
MEMORY_SHARE, DISK_SHARE = (
    0.5,
    0.5,
)  # what a model may take that was given no limit: of the machine's memory, of the free disk
FILE_BYTES_LEAST = 4096  # an empty file is not free
OPEN_FILES = 4096
MEMORY_FENCE = (
    1 << 30
)  # bytes of private memory, above twice the limit, at which a process is refused more; libraries reserve much
TASKS_FENCE = 4096  # above those that the machine has; the kernel counts a user's, not a worker's

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Limits(Struct, frozen=True, kw_only=True):
    """Of one worker with all its processes."""

    memory_bytes: int
    disk_bytes: int
    tasks: int  # processes and threads


def limits_of(wanted: RevisionConfig, *, home: Path, memory_mb: int, disk_mb: int, tasks: int) -> Limits:
    """What a revision asks for, else what the node is set to, else a share of the machine."""
    memory_mb, disk_mb = wanted.memory_mb or memory_mb, wanted.disk_mb or disk_mb
    return Limits(
        memory_bytes=memory_mb << 20 or int(_machine_bytes() * MEMORY_SHARE),
        disk_bytes=disk_mb << 20 or int(shutil.disk_usage(home).free * DISK_SHARE),
        tasks=wanted.max_tasks or tasks,
    )


def fence(limits: Limits) -> dict[str, int]:
    """What the kernel is to refuse each process."""
    return {
        "data": 2 * limits.memory_bytes + MEMORY_FENCE, "file": limits.disk_bytes, "files": OPEN_FILES,
        "tasks": _tasks_count() + limits.tasks + TASKS_FENCE,
    }  # fmt: skip


class Watch:
    """Of one process and all that it starts."""

    def __init__(self, pid: int, limits: Limits, folder: Path, log: Path, now_s: Callable[[], float]) -> None:
        self.limits = limits
        self.memory_bytes = 0
        self._pid, self._folder, self._log, self._now_s = pid, folder, log, now_s
        self._disk_s = now_s() + DISK_LOOK_S
        self._next_s = now_s() + LOOK_S

    async def look(self) -> str:
        """What is too much, in words; empty: nothing, or it is too early to look again."""
        return await asyncio.to_thread(self._look) if self._now_s() >= self._next_s else ""

    def _look(self) -> str:
        # Of the processor's time, not the clock's: on a busy machine a look would seem long, and be rare when it is needed.
        began_s = time.thread_time()
        family = _family(self._pid, self.limits.tasks)
        found = self._tasks(family) or self._memory(family)
        ended_s = time.thread_time()
        self._next_s = self._now_s() + min(max(LOOK_S, (ended_s - began_s) / LOOK_SHARE), LOOK_MOST_S)
        if not found and self._now_s() >= self._disk_s:
            found = self._disk(family)
            took_s = time.thread_time() - ended_s
            self._disk_s = self._now_s() + min(max(DISK_LOOK_S, took_s / DISK_LOOK_SHARE), DISK_LOOK_MOST_S)
        return found

    def _tasks(self, family: list[int]) -> str:
        count = sum(_threads(pid) for pid in family)
        if count <= self.limits.tasks:
            return ""
        return f"it had {count} processes and threads, and its limit is {self.limits.tasks} (max_tasks)"

    def _memory(self, family: list[int]) -> str:
        """Pages that processes share count in part, which takes long to ask: only when it matters."""
        used = sum(_resident_bytes(pid) for pid in family)
        if used > self.limits.memory_bytes:
            used = sum(_own_bytes(pid) for pid in family)
        self.memory_bytes = used
        if used <= self.limits.memory_bytes:
            return ""
        return f"it used {_mb(used)} of memory, and its limit is {_mb(self.limits.memory_bytes)} (memory_mb)"

    def _disk(self, family: list[int]) -> str:
        """Its folder, what it printed, and files that have no name: those that it deleted and goes on writing, those in memory."""
        try:
            used = _folder_bytes(self._folder, self.limits.disk_bytes) + _nameless_bytes(family)
        except OSError as error:
            return f"its files could not be measured ({error.strerror})"
        with contextlib.suppress(FileNotFoundError):
            used += self._log.stat().st_size
        if used <= self.limits.disk_bytes:
            return ""
        return f"it kept {_mb(used)} in files, and its limit is {_mb(self.limits.disk_bytes)} (disk_mb)"


def end(pid: int) -> None:
    """The process and all that it started: they are one group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # on macOS a group of the dead is not permitted
        os.killpg(pid, signal.SIGKILL)


def _family(pid: int, most: int) -> list[int]:
    """The process and what came of it, `most` + 1 of them at the most."""
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        return _family_elsewhere(pid)
    found: list[int] = []
    coming = [pid]
    while coming and len(found) <= most:
        one = coming.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):  # noqa: PTH208 - ten times a second
                with contextlib.suppress(OSError), open(f"/proc/{one}/task/{task}/children") as file:  # noqa: PTH123
                    coming.extend(map(int, file.read().split()))
    return found


def _family_elsewhere(pid: int) -> list[int]:
    import psutil

    with contextlib.suppress(psutil.Error):
        return [pid, *(p.pid for p in psutil.Process(pid).children(recursive=True))]
    return [pid]


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the name; None when it has ended, or there is no such place."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - ten times a second
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def _threads(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[17]) if fields else 1


def _resident_bytes(pid: int) -> int:
    fields = _stat(pid)
    if fields is not None:
        return int(fields[21]) * _PAGE_BYTES
    if Path("/proc/self").exists():
        return 0
    import psutil

    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def _own_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass  # not Linux, or not ours to read
    return _resident_bytes(pid)


def _folder_bytes(folder: Path, most: int) -> int:
    """What the files below take on the disk, no further than beyond `most`. Raises OSError for a folder that cannot be read."""
    total, folders = 0, [os.fspath(folder)]
    while folders and total <= most:
        try:
            entries = os.scandir(folders.pop())
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    total += max(FILE_BYTES_LEAST, entry.stat(follow_symlinks=False).st_blocks * 512)
                except FileNotFoundError:
                    continue
    return total


def _nameless_bytes(family: list[int]) -> int:
    found: dict[tuple[int, int], int] = {}
    for pid in family:
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - often
                with contextlib.suppress(OSError):
                    one = os.stat(f"/proc/{pid}/fd/{number}")  # noqa: PTH116 - often
                    if stat.S_ISREG(one.st_mode) and not one.st_nlink:
                        found[one.st_dev, one.st_ino] = one.st_blocks * 512
    return sum(found.values())


def _machine_bytes() -> int:
    """Its memory, or what the control group has of it."""
    most = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            most = min(most, int(Path(path).read_text()))
    return most


def _tasks_count() -> int:
    """Of all the machine."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    return 0


def _mb(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MB"
