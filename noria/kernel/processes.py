"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1  # prctl(2)
POLL_S = 1.0


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Send this process `number` when its parent is gone: at once on Linux, within a second elsewhere."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number))
    thread = threading.Thread(target=_watch, args=(parent, number), name="die-with-parent", daemon=True)
    thread.start()


def _watch(parent: int, number: signal.Signals) -> None:
    wait = threading.Event()
    while not wait.wait(POLL_S):
        if os.getppid() != parent:
            os.kill(os.getpid(), number)
            return


def kept_environment(*names: str) -> dict[str, str]:
    """These variables, as far as they are set: all of the environment that a process which may do little is given."""
    return {name: value for name in names if (value := os.environ.get(name))}
