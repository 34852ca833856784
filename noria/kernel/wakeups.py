"""A signal inside one process: something was committed, look again. A hint; polling is the guarantee."""

from __future__ import annotations

import threading


class Wakeups:
    """In-process signal after each commit that wrote facts. Lost signals cost at most POLL_S."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    def signal(self) -> None:
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    @property
    def count(self) -> int:
        return self._count

    def wait(self, seen: int, timeout_s: float) -> int:
        """Return the count once it differs from `seen`, or after `timeout_s`."""
        with self._condition:
            self._condition.wait_for(lambda: self._count != seen, timeout_s)
            return self._count
