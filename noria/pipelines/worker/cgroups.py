"""Memory limits by Linux control groups: version 2 where it has the memory controller, else version 1.

A group is a folder below the worker's own. A step's process enters it before it runs the user's code, and everything it starts
is born in it. Where no group can be made, `find` gives None, and the worker watches the memory itself (`limits.py`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import time
from pathlib import Path

log = logging.getLogger("noria.worker")

REMOVE_WAIT_S = 2.0  # killed processes leave their group only when the kernel has buried them


class Group:
    """One group. `procs` is the file that a process writes itself into."""

    def __init__(self, folder: Path, *, version: int) -> None:
        self._folder, self._version = folder, version
        self.procs = folder / "cgroup.procs"

    def limit(self, memory_bytes: int) -> None:
        """Raises OSError where the kernel refuses."""
        if self._version == 2:
            (self._folder / "memory.max").write_text(str(memory_bytes))
            with contextlib.suppress(OSError):  # a kernel without swap has no such file
                (self._folder / "memory.swap.max").write_text("0")
            with contextlib.suppress(OSError):
                (self._folder / "memory.oom.group").write_text("1")  # a step that lost one process is of no use
            return
        (self._folder / "memory.limit_in_bytes").write_text(str(memory_bytes))
        with contextlib.suppress(OSError):
            (self._folder / "memory.memsw.limit_in_bytes").write_text(str(memory_bytes))

    @property
    def peak_bytes(self) -> int:
        """The most memory that was used at once; 0 when the kernel does not tell."""
        name = "memory.peak" if self._version == 2 else "memory.max_usage_in_bytes"
        with contextlib.suppress(OSError, ValueError):
            return int((self._folder / name).read_text())
        return 0

    @property
    def kills_count(self) -> int:
        """How many processes the kernel ended because the limit was reached."""
        name = "memory.events" if self._version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError, ValueError):
            lines = dict(line.split(maxsplit=1) for line in (self._folder / name).read_text().splitlines())
            return int(lines.get("oom_kill", 0))
        return 0

    def pids(self) -> list[int]:
        with contextlib.suppress(OSError):
            return [int(line) for line in self.procs.read_text().split()]
        return []

    def close(self) -> None:
        """End whatever is left in it, and remove it."""
        until_s = time.monotonic() + REMOVE_WAIT_S
        while True:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            try:
                self._folder.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError as error:
                if time.monotonic() > until_s:
                    log.warning("the control group %s could not be removed: %s", self._folder, error)
                    return
                time.sleep(0.01)


class Groups:
    """A folder of the worker's own in which groups can be made."""

    def __init__(self, folder: Path, *, version: int) -> None:
        self._folder, self.version = folder, version

    def make(self) -> Group:
        """Raises OSError."""
        folder = self._folder / f"step-{secrets.token_hex(6)}"
        folder.mkdir()
        return Group(folder, version=self.version)

    def close(self) -> None:
        """Remove the folder with what is left in it; of version 2 the worker itself moves back."""
        for left in self._folder.glob("step-*"):
            Group(left, version=self.version).close()
        with contextlib.suppress(OSError):
            if self.version == 2:
                (self._folder.parent / "cgroup.procs").write_text(str(os.getpid()))
                (self._folder / "worker").rmdir()
            self._folder.rmdir()


def find(*, mounts: str | None = None, own: str | None = None) -> Groups | None:
    """Where groups with a memory limit can be made; None where they cannot."""
    try:
        mounts = Path("/proc/self/mounts").read_text() if mounts is None else mounts
        own = Path("/proc/self/cgroup").read_text() if own is None else own
    except OSError:
        return None
    for version, folder in _places(mounts, own):
        try:
            found = _prepared(folder, version)
        except OSError as error:
            log.debug("no control groups in %s: %s", folder, error)
            continue
        return found
    return None


def _places(mounts: str, own: str) -> list[tuple[int, Path]]:
    """The folders of this process in the two hierarchies, version 2 first."""
    found: list[tuple[int, Path]] = []
    paths = {}
    for line in own.splitlines():
        number, controllers, path = line.split(":", 2)
        paths["" if number == "0" else controllers] = path
    for line in mounts.splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup2" and "" in paths:
            found.append((2, Path(mount + paths[""])))
        if kind == "cgroup" and "memory" in options.split(","):
            path = next((p for c, p in paths.items() if "memory" in c.split(",")), "/")
            found.append((1, Path(mount + path)))
            found.append((1, Path(mount)))  # in a container the path may be one that only the host knows
    return sorted(found, key=lambda place: -place[0])


def _prepared(folder: Path, version: int) -> Groups:
    """A folder of our own below `folder`, with a memory limit that works. Raises OSError."""
    if version == 2 and "memory" not in (folder / "cgroup.controllers").read_text().split():
        raise OSError("it has no memory controller")
    _remove_left(folder, version)
    top = folder / f"noria-{os.getpid()}"
    top.mkdir()
    groups = Groups(top, version=version)
    try:
        if version == 2:
            # A group that has processes cannot have groups with limits. So the worker, if it is alone in its group, moves
            # into a leaf first; where others share the group this fails, and the memory is watched instead.
            leaf = top / "worker"
            leaf.mkdir()
            (leaf / "cgroup.procs").write_text(str(os.getpid()))
            for each in (folder, top):
                (each / "cgroup.subtree_control").write_text("+memory")
        probe = groups.make()
        try:
            probe.limit(64 << 20)
        finally:
            probe.close()
    except OSError:
        groups.close()
        raise
    return groups


def _remove_left(folder: Path, version: int) -> None:
    """Folders of workers that were killed."""
    for left in folder.glob("noria-*"):
        pid = left.name.removeprefix("noria-")
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            Groups(left, version=version).close()
