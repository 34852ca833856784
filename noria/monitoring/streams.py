"""Detectors of change in a stream of numbers, one value after the other: ADWIN and Page-Hinkley.

Both are a function of the values in their order and of nothing else, so that a window which late truth opens again is judged as if
the truth had always been there. Checked against river (tests/monitoring/peers/make_river.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BUCKETS_PER_ROW = 5
LOOK_EVERY = 32  # values between two looks for a cut: a look costs as much as the window has buckets
HALF_MIN = 5  # values on either side of a cut
GRACE = 10


class Change(Struct, frozen=True, kw_only=True):
    """A change was noticed at value `at`; the mean before and after, as the detector saw them."""

    at: int
    before: float
    after: float


class Adwin:
    """A window that grows while its mean holds and loses its oldest part when the mean of the rest differs from it.

    The window is an exponential histogram: row i holds buckets of 2^i values, at most BUCKETS_PER_ROW and one, as (sum, squared
    deviations). Source: Bifet & Gavaldà, "Learning from Time-Changing Data with Adaptive Windowing", SDM 2007. `delta` is how
    often, at most, a cut is made without a change. Values should lie in a range of 1.
    """

    def __init__(self, delta: float = 0.002) -> None:
        self._delta = delta
        self._rows: list[list[tuple[float, float]]] = [[]]  # in each the oldest bucket first
        self.width, self._total, self._deviation = 0, 0.0, 0.0
        self._added = 0

    @property
    def mean(self) -> float:
        return self._total / self.width if self.width else 0.0

    def add(self, x: float) -> Change | None:
        """Take a value; what changed, if it did."""
        if self.width:
            self._deviation += self.width / (self.width + 1) * (x - self.mean) ** 2
        self._rows[0].append((x, 0.0))
        self.width += 1
        self._total += x
        self._compress()
        self._added += 1
        if self._added % LOOK_EVERY or self.width <= GRACE:
            return None
        before = self.mean
        return Change(at=self._added - 1, before=before, after=self.mean) if self._cut() else None

    def _compress(self) -> None:
        """Two buckets of a row that is full become one of the next."""
        for i, row in enumerate(self._rows):
            if len(row) <= BUCKETS_PER_ROW:
                return
            (u, a), (v, b) = row[0], row[1]
            size = 1 << i
            del row[:2]
            if i + 1 == len(self._rows):
                self._rows.append([])
            self._rows[i + 1].append((u + v, a + b + size / 2 * (u / size - v / size) ** 2))

    def _cut(self) -> bool:
        is_cut = False
        while self._has_change():
            self._drop_oldest()
            is_cut = True
        return is_cut

    def _has_change(self) -> bool:
        """Do the means on the two sides of some border of buckets differ by more than chance?"""
        log_term = math.log(2 * math.log(self.width) / self._delta) if self.width > 1 else 0.0
        variance = self._deviation / self.width
        n0, u0 = 0, 0.0
        for i in range(len(self._rows) - 1, -1, -1):
            for total, _ in self._rows[i]:
                n0, u0 = n0 + (1 << i), u0 + total
                n1 = self.width - n0
                if n1 < HALF_MIN:
                    return False
                if n0 < HALF_MIN:
                    continue
                m = 1 / (n0 - HALF_MIN + 1) + 1 / (n1 - HALF_MIN + 1)
                epsilon = math.sqrt(2 * m * variance * log_term) + 2 / 3 * log_term * m
                if abs(u0 / n0 - (self._total - u0) / n1) > epsilon:
                    return True
        return False

    def _drop_oldest(self) -> None:
        while not self._rows[-1]:
            self._rows.pop()
        total, deviation = self._rows[-1].pop(0)
        size = 1 << (len(self._rows) - 1)
        self.width -= size
        self._total -= total
        if self.width:
            between = size * self.width / (size + self.width) * (total / size - self.mean) ** 2
            self._deviation = max(0.0, self._deviation - deviation - between)
        else:
            self._deviation = 0.0
        while len(self._rows) > 1 and not self._rows[-1]:
            self._rows.pop()


class PageHinkley:
    """A running sum of how far values lie from their mean so far; it tells when the sum leaves its extreme by `threshold`.

    Source: Page, "Continuous Inspection Schemes", Biometrika 41 (1954), with Hinkley's test (1971). `tolerance` is a change that
    does not count; older values fade by `fade` per value. It begins anew after each change.
    """

    def __init__(self, threshold: float, *, tolerance: float = 0.005, fade: float = 0.9999, warm_up: int = 30) -> None:
        self._threshold, self._tolerance, self._fade, self._warm_up = threshold, tolerance, fade, warm_up
        self._added = 0
        self._begin()

    def _begin(self) -> None:
        self._n, self._mean = 0, 0.0
        self._up = self._down = 0.0
        self._low, self._high = math.inf, -1.0
        self.value = 0.0

    def add(self, x: float) -> Change | None:
        """Take a value; what changed, if it did. `value` is how far the sum has left its extreme."""
        if self.value > self._threshold:
            self._begin()
        before = self._mean
        self._n += 1
        self._mean += (x - self._mean) / self._n
        step = x - self._mean
        self._up = self._fade * self._up + step - self._tolerance
        self._down = self._fade * self._down + step + self._tolerance
        self._low, self._high = min(self._low, self._up), max(self._high, self._down)
        self._added += 1
        if self._n < self._warm_up:
            return None
        self.value = max(self._up - self._low, self._high - self._down)
        if self.value <= self._threshold:
            return None
        return Change(at=self._added - 1, before=before, after=x)


def adwin_changes(values: Iterable[float], delta: float = 0.002) -> list[Change]:
    """Every change that ADWIN notices; values are scaled to a range of 1 first. NaN must have been taken out."""
    given = np.asarray(list(values) if not isinstance(values, np.ndarray) else values, dtype=np.float64)
    if not len(given):
        return []
    low, high = float(given.min()), float(given.max())
    scale = (high - low) or 1.0
    detector, found = Adwin(delta), list[Change]()
    for x in ((given - low) / scale).tolist():
        change = detector.add(x)
        if change is not None:
            found.append(Change(at=change.at, before=change.before * scale + low, after=change.after * scale + low))
    return found


def page_hinkley_peaks(values: Floats, threshold: float) -> tuple[list[Change], Floats]:
    """Every change, and after each value how far the sum has left its extreme."""
    detector = PageHinkley(threshold)
    found, peaks = list[Change](), np.empty(len(values))
    for i, x in enumerate(values.tolist()):
        change = detector.add(x)
        peaks[i] = detector.value
        if change is not None:
            found.append(change)
    return found, peaks
