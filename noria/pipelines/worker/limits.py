"""What a step may use: memory, processor threads, disk. One object per attempt.

Memory: a control group where one can be made, else a watch over the memory of every process of the step. Disk: a watch over
the attempt's own folder, which is its working directory, its temporary folder and where its results are written. A step that
goes beyond is ended, alone, with an error that names the limit and the peak.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil

from noria.pipelines.model.steps import Outcome
from noria.pipelines.model.work import Assignment
from noria.pipelines.worker.cgroups import Group, Groups

log = logging.getLogger("noria.worker")

MEMORY_LOOK_S = 0.1
DISK_LOOK_S = 0.5
DISK_LOOK_SHARE = 0.05  # of the time may be spent on walking a folder with very many files
DISK_FREE_SHARE = 0.5  # what a step that asks for nothing may write: half of what is free when it starts
# Read by OpenMP, BLAS libraries, numexpr, Polars, Rayon and joblib when they are loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "LOKY_MAX_CPU_COUNT",
)  # fmt: skip

Stop = Callable[[Outcome, str], None]


class Limits:
    """Of one attempt: from before its process starts until after it ended."""

    def __init__(self, given: Assignment, folder: Path, groups: Groups | None, stop: Stop) -> None:
        self._memory_bytes, self._folder, self._stop = given.memory_bytes, folder, stop
        self._disk_asked = bool(given.disk_bytes)
        self._disk_bytes = given.disk_bytes or int(shutil.disk_usage(folder.parent).free * DISK_FREE_SHARE)
        self._group = self._grouped(groups)
        self._peak_bytes = 0
        self._watches: list[asyncio.Task[None]] = []
        self._kills_count = 0

    def _grouped(self, groups: Groups | None) -> Group | None:
        if not self._memory_bytes or groups is None:
            return None
        group: Group | None = None
        try:
            group = groups.make()
            group.limit(self._memory_bytes)
        except OSError as error:
            log.warning("no control group for a step (%s); its memory is watched", error)
            if group:
                group.close()
            return None
        return group

    @property
    def procs(self) -> str:
        """The file through which the step's process enters its group; '' without one."""
        return str(self._group.procs) if self._group else ""

    @property
    def peak_bytes(self) -> int | None:
        """The most memory it used at once, where it was measured."""
        return max(self._peak_bytes, self._group.peak_bytes if self._group else 0) or None

    def watch(self, pid: int) -> None:
        """From now on: `pid` is the step's first process."""
        self._watches.append(asyncio.create_task(self._watch_disk()))
        if self._memory_bytes and not self._group:
            self._watches.append(asyncio.create_task(self._watch_memory(pid)))

    async def close(self) -> None:
        """The step ended; what is left of it in its group is ended too."""
        for task in self._watches:
            task.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        if self._group:
            self._peak_bytes, self._kills_count = max(self._peak_bytes, self._group.peak_bytes), self._group.kills_count
            group, self._group = self._group, None
            await asyncio.to_thread(group.close)

    @property
    def ran_out(self) -> str:
        """The error of a step whose processes the kernel ended for their memory; '' for all others. After `close`."""
        return self._too_much() if self._kills_count else ""

    def _too_much(self) -> str:
        return (
            f"It ran out of memory: its limit is {size(self._memory_bytes)} (memory=), "
            f"and it had used {size(self._peak_bytes)}."
        )

    async def _watch_memory(self, pid: int) -> None:
        while True:
            used = await asyncio.to_thread(tree_bytes, pid)
            self._peak_bytes = max(self._peak_bytes, used)
            if used > self._memory_bytes:
                self._stop("out_of_memory", self._too_much())
                return
            await asyncio.sleep(MEMORY_LOOK_S)

    async def _watch_disk(self) -> None:
        loop = asyncio.get_running_loop()
        wait_s = DISK_LOOK_S
        while True:
            await asyncio.sleep(wait_s)
            began_s = loop.time()
            used = await asyncio.to_thread(folder_bytes, self._folder)
            wait_s = max(DISK_LOOK_S, (loop.time() - began_s) / DISK_LOOK_SHARE)
            if used > self._disk_bytes:
                asked = "disk=" if self._disk_asked else "half of what was free when it started; disk= says otherwise"
                error = f"It filled its scratch folder: {size(used)} of the {size(self._disk_bytes)} it may use ({asked})."
                self._stop("failed", error)
                return


def threads(cpu: float) -> dict[str, str]:
    """The variables that keep numeric libraries to `cpu` threads; none when nothing was asked for."""
    return dict.fromkeys(THREAD_VARIABLES, str(max(1, math.ceil(cpu)))) if cpu else {}


def tree_bytes(pid: int) -> int:
    """The memory of a process and all that it started. Pages shared with the warm process count in part (PSS)."""
    try:
        first = psutil.Process(pid)
        family = [first, *first.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for process in family:
        with contextlib.suppress(psutil.Error, OSError):
            total += _process_bytes(process)
    return total


def _process_bytes(process: psutil.Process) -> int:
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass  # not Linux, or not ours to read
    return int(process.memory_info().rss)


def folder_bytes(folder: Path) -> int:
    """What the files below take on the disk; links are not followed."""
    total, folders = 0, [os.fspath(folder)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def size(count: int) -> str:
    """`1.5 GB`, for people."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {unit}"
    return f"{count} bytes"
