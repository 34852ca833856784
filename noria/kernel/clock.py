"""Time. The only module that asks the system what time it is; a test looks for others.

Times are integers: UTC milliseconds since 1970, named `*_at_ms`. Durations say their unit (`timeout_s`).
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What the kernel needs from a clock."""

    def now_ms(self) -> int:
        """UTC milliseconds since 1970."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock that moves only when told to; for tests. `sleep` advances it."""

    def __init__(self, at_ms: int = 1_750_000_000_000) -> None:
        self._at_ms = at_ms
        self._lock = threading.Lock()

    def now_ms(self) -> int:
        return self._at_ms

    def monotonic_s(self) -> float:
        return self._at_ms / 1000

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._at_ms += int(seconds * 1000)
