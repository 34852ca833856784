"""Curves: a series of any length in buckets, each with its lowest and highest value: a spike survives zooming out.

Reads are cached as NumPy arrays. `writes` of a series says whether anything came since; `disorder` whether it only went on,
in which case just the end is read. Invariant: the arrays are exactly the rows at the time of the last read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from msgspec import Struct

from noria.kernel.db import Read
from noria.tracking import store
from noria.tracking.store import Floats, Ints, SeriesHead

BUCKETS_DEFAULT = 1000
BUCKETS_MAX = 10_000
SERIES_PER_ANSWER = 200
CACHED_POINTS_MAX = 2_000_000  # 48 MB; the longest unused go first
POSITIONS_MAX = 1000  # of NaN and infinities that are named; the counts have them all


class Curve(Struct, frozen=True, kw_only=True):
    """A series, thinned. One entry per bucket; null where a bucket has no finite value.

    `step`, `at_ms`: of the bucket's first point. `nan`, `inf`, `minus_inf`: steps of the first so many points that are not finite.
    """

    step: list[int]
    at_ms: list[int]
    min: list[float | None]
    max: list[float | None]
    first: list[float | None]
    last: list[float | None]
    nan: list[int]
    inf: list[int]
    minus_inf: list[int]
    nan_count: int
    inf_count: int
    minus_inf_count: int
    count: int
    step_first: int | None
    step_last: int | None


def thin(step: Ints, at_ms: Ints, value: Floats, buckets: int) -> Curve:
    """At most `buckets` buckets of equally many points, in order. Extremes are over finite values only."""
    count = len(step)
    is_nan, is_inf, is_minus_inf = np.isnan(value), np.isposinf(value), np.isneginf(value)
    finite = np.where(is_inf | is_minus_inf, np.nan, value)
    size = max(1, -(-count // max(1, buckets)))
    starts = np.arange(0, count, size)
    ends = np.minimum(starts + size, count) - 1
    lowest = np.fmin.reduceat(finite, starts) if count else finite
    highest = np.fmax.reduceat(finite, starts) if count else finite
    return Curve(
        step=step[starts].tolist(), at_ms=at_ms[starts].tolist(), min=_nulls(lowest), max=_nulls(highest),
        first=_nulls(finite[starts]), last=_nulls(finite[ends]), nan=step[is_nan][:POSITIONS_MAX].tolist(),
        inf=step[is_inf][:POSITIONS_MAX].tolist(), minus_inf=step[is_minus_inf][:POSITIONS_MAX].tolist(),
        nan_count=int(is_nan.sum()), inf_count=int(is_inf.sum()), minus_inf_count=int(is_minus_inf.sum()), count=count,
        step_first=int(step[0]) if count else None, step_last=int(step[-1]) if count else None,
    )  # fmt: skip


def _nulls(values: Floats) -> list[float | None]:
    """As a list in which NaN is None."""
    listed: list[Any] = values.tolist()
    if np.isnan(values).any():
        return [None if v != v else v for v in listed]
    return listed


class _Cached(Struct):
    writes: int
    disorder: int
    step: Ints
    at_ms: Ints
    value: Floats


class SeriesCache:
    """The arrays of the series that were looked at last."""

    def __init__(self, *, points_max: int = CACHED_POINTS_MAX) -> None:
        self._kept: OrderedDict[int, _Cached] = OrderedDict()
        self._points_max = points_max
        self._lock = threading.Lock()

    def points(self, tx: Read, head: SeriesHead) -> tuple[Ints, Ints, Floats]:
        """All points of a series, in order."""
        with self._lock:
            kept = self._kept.get(head.id)
        if kept is not None and kept.writes == head.writes:
            found = kept
        elif kept is not None and kept.disorder == head.disorder and kept.writes < head.writes and len(kept.step):
            more = store.points_of(tx, head.id, (int(kept.step[-1]), int(kept.at_ms[-1])))
            step, at_ms, value = (
                np.concatenate(pair) for pair in zip((kept.step, kept.at_ms, kept.value), more, strict=True)
            )
            found = _Cached(head.writes, head.disorder, step, at_ms, value)
        else:
            found = _Cached(head.writes, head.disorder, *store.points_of(tx, head.id))
        self._keep(head.id, found)
        return found.step, found.at_ms, found.value

    def forget(self, series_id: int) -> None:
        """The series is gone; its id may be given out again."""
        with self._lock:
            self._kept.pop(series_id, None)

    def _keep(self, series_id: int, found: _Cached) -> None:
        with self._lock:
            self._kept[series_id] = found
            self._kept.move_to_end(series_id)
            total = sum(len(c.step) for c in self._kept.values())
            while total > self._points_max and len(self._kept) > 1:
                total -= len(self._kept.popitem(last=False)[1].step)


def between(step: Ints, at_ms: Ints, value: Floats, start: int | None, end: int | None) -> tuple[Ints, Ints, Floats]:
    """The points whose steps lie in [start, end]; steps are sorted."""
    low = 0 if start is None else int(np.searchsorted(step, start, "left"))
    high = len(step) if end is None else int(np.searchsorted(step, end, "right"))
    return step[low:high], at_ms[low:high], value[low:high]
