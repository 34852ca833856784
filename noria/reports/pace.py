"""At most so many a minute, for each of those who come: in this process alone, and bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict

from noria.kernel.clock import Clock
from noria.kernel.errors import TooMuch

KEPT_MAX = 20_000
MINUTE_S = 60.0


class Pace:
    """Counts by key within the running minute."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock, self._most, self._lock = clock, most, threading.Lock()
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()  # (when its minute began, how many)

    def check(self, key: str) -> None:
        """Raises TooMuch when there were enough."""
        with self._lock:
            began_s, count, now_s = self._of(key)
        if count >= self._most:
            raise TooMuch("Too many requests; wait a moment.", retry_after_s=max(1.0, began_s + MINUTE_S - now_s))

    def count(self, key: str) -> None:
        """One more."""
        with self._lock:
            began_s, count, _ = self._of(key)
            self._counts[key] = (began_s, count + 1)
            self._counts.move_to_end(key)
            while len(self._counts) > KEPT_MAX:
                self._counts.popitem(last=False)

    def _of(self, key: str) -> tuple[float, int, float]:
        now_s = self._clock.monotonic_s()
        began_s, count = self._counts.get(key, (now_s, 0))
        return (began_s, count, now_s) if now_s - began_s < MINUTE_S else (now_s, 0, now_s)
