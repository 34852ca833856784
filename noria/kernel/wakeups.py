"""A signal inside one process: facts of these kinds were committed, look again. A hint; polling is the guarantee.

Whoever waits says for which kinds, so that a fact wakes those whom it concerns and nobody else: a dozen threads that look at
the database after each run would cost more than the run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Wakeups:
    """In-process signal after each commit that wrote facts. Lost signals cost at most POLL_S."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._last: dict[str, int] = {}  # kind → the count at its latest signal
        self._everybody = 0  # the count at the latest signal to everybody: also to whoever begins to wait right after it
        self._waiting: dict[threading.Event, frozenset[str] | None] = {}

    def signal(self, kinds: Iterable[str] | None = None) -> None:
        """Facts of `kinds` are there; None wakes everybody."""
        with self._lock:
            self._count += 1
            told = set(kinds or ())
            self._last |= dict.fromkeys(told, self._count)
            if kinds is None:
                self._everybody = self._count
            for event, wanted in self._waiting.items():
                if kinds is None or wanted is None or not told.isdisjoint(wanted):
                    event.set()

    @property
    def count(self) -> int:
        return self._count

    def wait(self, seen: int, timeout_s: float, kinds: frozenset[str] | None = None) -> int:
        """The count, once there was a signal (for one of `kinds`) after the count `seen`, or after `timeout_s`."""
        event = threading.Event()
        with self._lock:
            latest = self._count if kinds is None else max((self._last.get(kind, 0) for kind in kinds), default=0)
            latest = max(latest, self._everybody)
            if latest > seen:
                return self._count
            self._waiting[event] = kinds
        try:
            event.wait(timeout_s)
        finally:
            with self._lock:
                del self._waiting[event]
        return self._count
