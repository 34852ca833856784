"""Wrong passwords make the next try wait: by account and address, and, much later, by account alone.

The wait doubles from a second, up to a minute, and is forgotten a quarter of an hour after the last wrong try. It is short, so that
nobody can lock somebody else out; at a try a minute a password of twelve letters is not found. In this process alone, and bounded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from noria.kernel.clock import Clock
from noria.kernel.errors import TooMuch

FREE = 5  # wrong tries from one address before it waits
FREE_ANYWHERE = 30  # from all of them together
WAIT_S_MAX = 60.0
FORGET_S = 900.0
KEPT_MAX = 20_000
ANYWHERE = "*"  # no address


class Attempts:
    """What went wrong lately, the latest last."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._wrong: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()  # (times, when last)

    def check(self, name: str, address: str) -> None:
        """Raises TooMuch while this account has to wait."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            wait_s = max(self._wait_s((name, address), FREE, now_s), self._wait_s((name, ANYWHERE), FREE_ANYWHERE, now_s))
        if wait_s > 0:
            raise TooMuch("Too many wrong sign-ins; wait a moment.", retry_after_s=wait_s)

    def wrong(self, name: str, address: str) -> None:
        """It was wrong once more."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            for key in ((name, address), (name, ANYWHERE)):
                times, at_s = self._wrong.get(key, (0, now_s))
                self._wrong[key] = (times + 1 if now_s - at_s < FORGET_S else 1, now_s)
                self._wrong.move_to_end(key)
            while len(self._wrong) > KEPT_MAX:
                self._wrong.popitem(last=False)

    def right(self, name: str, address: str) -> None:
        """It was right: this address starts anew. What came from others still counts."""
        with self._lock:
            self._wrong.pop((name, address), None)

    def _wait_s(self, key: tuple[str, str], free: int, now_s: float) -> float:
        times, at_s = self._wrong.get(key, (0, 0.0))
        if times < free or now_s - at_s >= FORGET_S:
            return 0.0
        return at_s + min(WAIT_S_MAX, 2.0 ** min(times - free, 10)) - now_s
