"""Mergeable summaries of columns: how often each value was seen, to half a percent of the value.

A number falls into bin k when gamma^(k-1) < |x| ≤ gamma^k, with gamma = (1 + a) / (1 - a): every value of a bin lies within a
relative error a of its middle. Source: Masson, Rim, Lee, "DDSketch", PVLDB 12 (2019). Unlike counts between the edges of one
reference, the bins depend on nothing but the value, so a monitor made tomorrow can read what was seen today.

Invariant: merging is adding counts. The sketch of a span is the sum of the sketches of its parts, in any order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from noria.kernel.errors import Invalid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ACCURACY = 0.005
_LN_GAMMA = math.log((1 + ACCURACY) / (1 - ACCURACY))
_SMALLEST, _LARGEST = 1e-12, 1e15  # |x| below counts as 0; above, as the largest
_SHIFT = 1 - math.ceil(math.log(_SMALLEST) / _LN_GAMMA)  # so that the smallest positive value has bin 1
BIN_LARGEST = math.ceil(math.log(_LARGEST) / _LN_GAMMA) + _SHIFT  # no bin is further from 0
LABELS_MAX = 500  # words kept apart in one sketch; the rest are counted together
REST = "…"


class Sketch(Struct, kw_only=True):
    """One column: numbers as bins and counts, ascending by bin; words as counts; what was missing apart from both."""

    bins: list[int] = []
    counts: list[int] = []
    labels: dict[str, int] = {}
    nulls: int = 0
    total: float = 0.0  # the sum of the numbers

    @property
    def count(self) -> int:
        """Values that were not missing."""
        return sum(self.counts) + sum(self.labels.values())


class Profile(Struct, kw_only=True):
    """The columns of `rows` answers."""

    rows: int = 0
    columns: dict[str, Sketch] = {}


def bins_of(values: Floats) -> Ints:
    """The bin of each number; ordered like the numbers. NaN and infinities must have been taken out."""
    work = np.abs(values)
    is_zero = work <= _SMALLEST
    np.clip(work, _SMALLEST, _LARGEST, out=work)
    np.log(work, out=work)
    work *= 1 / _LN_GAMMA
    work -= 5e-10  # so that an edge and an equal value always fall together, whatever the last bit of the logarithm
    np.ceil(work, out=work)
    found: Ints = work.astype(np.int64)
    found += _SHIFT
    np.negative(found, out=found, where=values < 0)
    if is_zero.any():
        found[is_zero] = 0
    return found


def middles(bins: Ints) -> Floats:
    """A value in each bin, within ACCURACY of all its values."""
    edge = np.exp((np.abs(bins) - _SHIFT) * _LN_GAMMA)
    size = np.where(bins == 0, 0.0, edge * (1 - ACCURACY))
    found: Floats = np.sign(bins) * size
    return found


def sketch_numbers(values: Floats) -> Sketch:
    """The sketch of a sample; NaN and infinities count as missing."""
    finite = values[np.isfinite(values)]
    bins, counts = _count_bins(bins_of(finite))
    return Sketch(bins=bins.tolist(), counts=counts.tolist(), nulls=len(values) - len(finite), total=float(finite.sum()))


def _count_bins(bins: Ints) -> tuple[Ints, Ints]:
    """The distinct bins, ascending, and how often each is there."""
    if len(bins) < 2_048:
        return np.unique(bins, return_counts=True)
    counts = np.bincount(bins + BIN_LARGEST, minlength=2 * BIN_LARGEST + 1)
    some = np.flatnonzero(counts)
    return some - BIN_LARGEST, counts[some]


def sketch_words(values: Iterable[Any]) -> Sketch:
    """The sketch of a column of words; None counts as missing."""
    found = Sketch(labels={})
    for value in values:
        if value is None:
            found.nulls += 1
        else:
            _count_word(found.labels, str(value), 1)
    return found


def sketch_counted(words: Iterable[Any], counts: Iterable[int]) -> Sketch:
    """The sketch of words that were counted already, in the order they first came."""
    found = Sketch(labels={})
    for word, count in zip(words, counts, strict=True):
        if word is None:
            found.nulls += count
        else:
            _count_word(found.labels, str(word), count)
    return found


def sketch_column(values: Any) -> Sketch:
    """The sketch of a NumPy column: numbers and booleans by value, everything else as words."""
    array = np.asarray(values)
    if array.dtype.kind in "fiub":
        return sketch_numbers(array.astype(np.float64))
    return sketch_words(array.tolist())


def merge(parts: Iterable[Sketch]) -> Sketch:
    """The sketch of all parts together."""
    found, bins, counts = Sketch(labels={}), list[int](), list[int]()
    for part in parts:
        bins += part.bins
        counts += part.counts
        found.nulls += part.nulls
        found.total += part.total
        for word, count in part.labels.items():
            _count_word(found.labels, word, count)
    if bins:
        unique, where = np.unique(np.asarray(bins, dtype=np.int64), return_inverse=True)
        sums = np.bincount(where, weights=np.asarray(counts, dtype=np.float64)).astype(np.int64)
        found.bins, found.counts = unique.tolist(), sums.tolist()
    return found


def merge_profiles(parts: Iterable[Profile]) -> Profile:
    """The profile of all parts together."""
    parts = list(parts)
    names = dict.fromkeys(name for part in parts for name in part.columns)
    columns = {name: merge(p.columns[name] for p in parts if name in p.columns) for name in names}
    return Profile(rows=sum(p.rows for p in parts), columns=columns)


def profiles_by_bucket(starts: Ints, columns: dict[str, Any]) -> dict[int, Profile]:
    """One profile per distinct start in `starts`; `columns` are NumPy arrays of the same length."""
    if not len(starts):
        return {}
    order = np.argsort(starts, kind="stable")
    unique, first, rows = np.unique(starts[order], return_index=True, return_counts=True)
    found = {int(s): Profile(rows=int(n), columns={}) for s, n in zip(unique, rows, strict=True)}
    cuts = first[1:].tolist()
    for name, values in columns.items():
        array = np.asarray(values)
        if array.dtype.kind in "fiub" and len(unique) == 1:
            found[int(unique[0])].columns[name] = sketch_numbers(array.astype(np.float64))
        elif array.dtype.kind in "fiub":
            _add_numbers(found, unique, rows, name, array.astype(np.float64)[order])
        else:
            for start, part in zip(unique.tolist(), np.split(array[order], cuts), strict=True):
                found[start].columns[name] = sketch_words(part.tolist())
    return found


def _add_numbers(found: dict[int, Profile], unique: Ints, rows: Ints, name: str, values: Floats) -> None:
    """Sketch one column of all buckets in one pass; `values` are sorted by bucket."""
    bucket = np.repeat(np.arange(len(unique)), rows)
    finite = np.isfinite(values)
    kept, bucket_kept = values[finite], bucket[finite]
    width = 1 << 20
    pairs, counts = np.unique(bucket_kept * width + (bins_of(kept) + width // 2), return_counts=True)
    which, bins = pairs // width, pairs % width - width // 2
    sums = np.bincount(bucket_kept, weights=kept, minlength=len(unique))
    nulls = np.bincount(bucket[~finite], minlength=len(unique))
    ends = np.searchsorted(which, np.arange(len(unique) + 1))
    bins_all, counts_all = bins.tolist(), counts.tolist()
    for i, start in enumerate(unique.tolist()):
        low, high = int(ends[i]), int(ends[i + 1])
        found[start].columns[name] = Sketch(
            bins=bins_all[low:high], counts=counts_all[low:high], nulls=int(nulls[i]), total=float(sums[i])
        )


class Aligned(Struct, kw_only=True):
    """Two columns counted over the same bins, in order; the last bin of both holds what was missing.

    `values`: a number in each bin but the last, when the bins are those of the sketch; else empty.
    """

    reference: Floats
    current: Floats
    values: Floats = field(default_factory=lambda: np.empty(0))


def align(reference: Sketch, current: Sketch, *, bins: int | None = 10) -> Aligned:
    """Count both over `bins` quantiles of the reference, or over every bin of the sketch (None). Words: one bin per word."""
    if reference.labels or current.labels:
        return _align_words(reference.labels, reference.nulls, current)
    a, b = np.asarray(reference.bins, dtype=np.int64), np.asarray(current.bins, dtype=np.int64)
    every = np.union1d(a, b) if bins is None else None
    cuts = quantile_cuts(reference, bins) if bins is not None else every[:-1]  # type: ignore[index]
    return Aligned(
        reference=_counted(cuts, a, reference.counts, reference.nulls),
        current=_counted(cuts, b, current.counts, current.nulls),
        values=np.empty(0) if every is None else middles(every),
    )


def align_edges(edges: list[float], counts: list[float], nulls: float, current: Sketch) -> Aligned:
    """Count `current` between the given edges, beside the given counts. Raises Invalid when they do not fit together."""
    if len(counts) != len(edges) + 1 or any(b <= a for a, b in itertools.pairwise(edges)):
        raise Invalid("A baseline has ascending edges and one count more than edges.", where="baseline")
    cuts = bins_of(np.asarray(edges, dtype=np.float64))
    mine = _counted(cuts, np.asarray(current.bins, dtype=np.int64), current.counts, current.nulls)
    return Aligned(reference=np.asarray([*counts, nulls], dtype=np.float64), current=mine)


def align_labels(labels: dict[str, float], nulls: float, current: Sketch) -> Aligned:
    """Count words beside given counts of words."""
    return _align_words(labels, nulls, current)


def quantile_cuts(sketch: Sketch, bins: int) -> Ints:
    """The upper bins of the inner quantiles of a sketch: at most bins - 1, fewer where values repeat."""
    if not sketch.bins:
        return np.empty(0, dtype=np.int64)
    upto = np.cumsum(np.asarray(sketch.counts, dtype=np.float64))
    at = np.searchsorted(upto, upto[-1] * np.arange(1, bins) / bins, side="left")
    return np.unique(np.asarray(sketch.bins, dtype=np.int64)[at])


def quantile(sketch: Sketch, q: float) -> float:
    """The q-quantile of the numbers, within ACCURACY; NaN when there are none."""
    if not sketch.bins:
        return math.nan
    upto = np.cumsum(np.asarray(sketch.counts, dtype=np.float64))
    at = min(int(np.searchsorted(upto, q * upto[-1])), len(upto) - 1)
    return float(middles(np.asarray([sketch.bins[at]], dtype=np.int64))[0])


def _counted(cuts: Ints, bins: Ints, counts: list[int], nulls: float) -> Floats:
    found = np.zeros(len(cuts) + 2)
    np.add.at(found, np.searchsorted(cuts, bins, side="left"), np.asarray(counts, dtype=np.float64))
    found[-1] = nulls
    return found


def _align_words(labels: dict[str, float] | dict[str, int], nulls: float, current: Sketch) -> Aligned:
    words = sorted({*labels, *current.labels})
    return Aligned(
        reference=np.asarray([*(labels.get(w, 0) for w in words), nulls], dtype=np.float64),
        current=np.asarray([*(current.labels.get(w, 0) for w in words), current.nulls], dtype=np.float64),
    )


def _count_word(labels: dict[str, int], word: str, count: int) -> None:
    name = word if word in labels or len(labels) < LABELS_MAX else REST
    labels[name] = labels.get(name, 0) + count
