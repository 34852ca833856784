"""The profile of a table from the profiles of its fragments, each computed once.

Counts, extremes, means and deviations are exact. Quantiles and histograms are read off the quantiles of the parts, which are
kept every 0.5 %, and off by at most that in rank. Distinct values are exact when every part lists all of its own or the parts'
ranges do not overlap, else estimated (sketches.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from noria.datasets.model import ColumnProfile, FragmentProfile, Histogram, SketchedColumn, TableProfile, Value, ValueCount
from noria.datasets.profile import BINS, QUANTILES, TOP_MAX
from noria.datasets.sketches import estimate


def merge_profiles(parts: Sequence[FragmentProfile]) -> TableProfile:
    """One profile of all rows; the parts are of the same columns. A part that has none decides the state."""
    other = next((p for p in parts if p.state != "ready"), None)
    if other is not None:
        return TableProfile(path="", format=other.format, state=other.state, reason=other.reason)
    columns = [merge_columns(c) for c in zip(*(p.columns for p in parts), strict=True)]
    rows = sum(p.rows_count or 0 for p in parts)
    return TableProfile(path="", format="parquet", state="ready", reason=parts[0].reason, rows_count=rows, columns=columns)


def merge_columns(parts: Sequence[SketchedColumn]) -> ColumnProfile:
    """One column of all parts."""
    first = parts[0]
    found: dict[str, Any] = {n: getattr(first, n) for n in ("name", "type", "kind")}
    found |= {n: sum(getattr(p, n) for p in parts) for n in ("rows", "nulls", "nans")}
    if first.kind == "other":
        return ColumnProfile(**found, distinct=None)
    low = [p.min for p in parts if p.min is not None]
    high = [p.max for p in parts if p.max is not None]
    found |= {"min": min(low, default=None), "max": max(high, default=None)}
    top, is_complete = _top(parts)
    distinct, is_exact = (len(top), True) if is_complete else _distinct(parts)
    if first.kind in ("numeric", "time"):
        found |= _numbers(parts)
        if len(top) > TOP_MAX or not is_complete:
            top, is_complete = [], False
    found |= {"distinct": distinct, "distinct_is_exact": is_exact}
    return ColumnProfile(**found, top=top[:TOP_MAX], top_is_complete=is_complete and len(top) <= TOP_MAX)


def _top(parts: Sequence[SketchedColumn]) -> tuple[list[ValueCount], bool]:
    """The values that parts list, with their counts together; complete when every part lists all of its own."""
    counts: dict[Value, int] = {}
    for part in parts:
        for each in part.top:
            counts[each.value] = counts.get(each.value, 0) + each.count
    is_complete = all(p.top_is_complete for p in parts)
    listed = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return [ValueCount(value=v, count=n) for v, n in listed], is_complete


def _distinct(parts: Sequence[SketchedColumn]) -> tuple[int | None, bool]:
    known = [p for p in parts if p.distinct]
    ranges = sorted((p.min, p.max) for p in known if p.min is not None and p.max is not None)
    total = sum(p.distinct or 0 for p in known)
    apart = all(a[1] < b[0] for a, b in itertools.pairwise(ranges))  # type: ignore[operator]
    if apart and len(ranges) == len(known) and all(p.distinct_is_exact for p in known):
        return total, True
    if any(not p.sketch for p in known):
        return None, False
    least = max((p.distinct or 0 for p in known if p.distinct_is_exact), default=0)
    return min(max(estimate(p.sketch for p in known), least), total), False


def _numbers(parts: Sequence[SketchedColumn]) -> dict[str, Any]:
    known = [(p.rows - p.nulls - p.nans, p) for p in parts]
    known = [(n, p) for n, p in known if n and p.quantiles]
    total = sum(n for n, _ in known)
    if not total:
        return {}
    quantiles = merge_quantiles([(n, p.quantiles) for n, p in known])
    mean = None if any(p.mean is None for _, p in known) else sum(n * (p.mean or 0.0) for n, p in known) / total
    return {
        "mean": mean,
        "std": _std(known, mean, total),
        "quantiles": quantiles,
        "histogram": _histogram(known, quantiles, total),
    }


def _std(known: Sequence[tuple[int, ColumnProfile]], mean: float | None, total: int) -> float | None:
    if mean is None or total < 2 or any(p.std is None and n > 1 for n, p in known):
        return None
    squares = sum((n - 1) * (p.std or 0.0) ** 2 + n * ((p.mean or 0.0) - mean) ** 2 for n, p in known)
    found = math.sqrt(squares / (total - 1))
    return found if math.isfinite(found) else None


def merge_quantiles(parts: Sequence[tuple[int, Sequence[float]]]) -> list[float]:
    """The quantiles of all values together, from (count, quantiles) of each part."""
    points = np.unique(np.concatenate([np.asarray(q) for _, q in parts]))
    shares = _share_upto(parts, points)
    wanted = np.arange(QUANTILES + 1) / QUANTILES
    places = np.clip(np.searchsorted(shares, wanted - 1e-12), 0, len(points) - 1)
    return [float(points[0]), *(float(p) for p in points[places[1:]])]


def _share_upto(parts: Sequence[tuple[int, Sequence[float]]], points: Any) -> Any:
    """The share of values that are ≤ each point."""
    found = np.zeros(len(points))
    for count, quantiles in parts:
        q = np.asarray(quantiles)
        at = np.searchsorted(q, points, side="right") - 1
        inside = np.clip(at, 0, len(q) - 2)
        width = q[inside + 1] - q[inside]
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(width > 0, (points - q[inside]) / width, 0.0)
        share = (inside + np.clip(part, 0.0, 1.0)) / (len(q) - 1)
        found += count * np.where(at < 0, 0.0, np.where(points >= q[-1], 1.0, share))
    return found / sum(count for count, _ in parts)


def _histogram(known: Sequence[tuple[int, ColumnProfile]], quantiles: list[float], total: int) -> Histogram | None:
    low, high = quantiles[0], quantiles[-1]
    width = (high - low) / BINS
    if not math.isfinite(width):
        return None
    if width == 0 or low + width == low:
        return Histogram(edges=[low, high], counts=[total])
    edges = [low + i * width for i in range(BINS)] + [high]
    upto = _share_upto([(n, p.quantiles) for n, p in known], np.array(edges[1:]))
    ends = np.rint(upto * total).astype(int)
    return Histogram(edges=edges, counts=[int(n) for n in np.diff(ends, prepend=0)])


def without_sketches(part: FragmentProfile) -> TableProfile:
    """The profile of a table that is one fragment."""
    return msgspec.convert(msgspec.to_builtins(part), TableProfile)
