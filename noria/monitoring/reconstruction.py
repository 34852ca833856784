"""Drift of columns together: how badly rows of now are rebuilt from the main directions of the reference.

Columns can each look as before while their relation changed. The reference's standardised columns (words as how often each occurs,
missing numbers as the mean) are projected on the fewest principal components that hold 65 % of the variance; the mean length of
what is lost rises or falls when the relations change. Source: the method of NannyML's DataReconstructionDriftCalculator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.monitoring.significance import normal_two_sided

Floats = NDArray[np.float64]
VARIANCE_KEPT = 0.65
SAMPLE_MAX = 20_000  # rows of a reference that are kept while it is read
COLUMNS_MIN, WORDS_MAX = 2, 500


class Shape(Struct, frozen=True, kw_only=True):
    """The directions of a reference and how well they rebuild it."""

    names: list[str]
    counts: dict[str, dict[str, float]]  # of a column of words: how often each occurs
    means: list[float]  # per column, of what is not missing
    centre: list[float]
    spread: list[float]
    components: list[list[float]]
    error_mean: float
    error_spread: float
    rows: int


class Reconstruction(Struct, frozen=True, kw_only=True):
    """The mean error of some rows, beside the reference's."""

    value: float
    reference: float
    shift: float  # (value - reference) in standard deviations of one row's error
    p_value: float
    rows: int
    components: int


class Sample:
    """A uniform sample of rows, filled batch by batch."""

    def __init__(self, size: int = SAMPLE_MAX) -> None:
        self._size, self._draw = size, np.random.default_rng(0)
        self._keys = np.empty(0)
        self.columns: dict[str, Any] = {}

    def add(self, columns: dict[str, Any], rows: int) -> None:
        """Take rows; columns are NumPy arrays of numbers or of objects, the same names each time."""
        self.add_from(set(columns), rows, lambda chosen: {n: v[chosen] for n, v in columns.items()})

    def add_from(self, names: set[str], rows: int, take: Callable[[NDArray[np.int64]], dict[str, Any]]) -> None:
        """The same where columns cost something to make: `take` is asked for those rows that may stay."""
        if self.columns and names != set(self.columns):
            return  # another table of the same version: what it shares is not known row by row
        fresh = self._draw.random(rows)
        if len(self._keys) >= self._size:
            chosen = np.flatnonzero(fresh <= self._keys[-1])
        else:
            chosen = np.sort(np.argsort(fresh, kind="stable")[: self._size])
        columns = take(chosen)
        keys = np.concatenate([self._keys, fresh[chosen]])
        kept = np.argsort(keys, kind="stable")[: self._size]
        self.columns = {
            name: (np.concatenate([self.columns[name], values]) if name in self.columns else values)[kept]
            for name, values in columns.items()
        }
        self._keys = keys[kept]


def shape_of(columns: dict[str, Any]) -> Shape | None:
    """The shape of a sample; None with fewer than two columns that vary, or fewer rows than columns."""
    names = sorted(columns)
    rows = len(columns[names[0]]) if names else 0
    counts = {n: _counts(columns[n]) for n in names if columns[n].dtype == object}
    raw = np.column_stack([_numbers(columns[n], counts.get(n)) for n in names]) if names else np.empty((0, 0))
    varies = np.array([np.isfinite(c).any() and np.nanstd(c) > 0 for c in raw.T], dtype=bool)
    names = [n for n, v in zip(names, varies, strict=True) if v]
    if len(names) < COLUMNS_MIN or rows <= len(names):
        return None
    raw = raw[:, varies]
    means = np.nanmean(raw, axis=0)
    filled = np.where(np.isfinite(raw), raw, means)
    centre, spread = filled.mean(axis=0), filled.std(axis=0)
    scaled = (filled - centre) / spread
    _, sizes, directions = np.linalg.svd(scaled, full_matrices=False)
    shares = np.cumsum(sizes**2) / np.sum(sizes**2)
    components = directions[: int(np.searchsorted(shares, VARIANCE_KEPT)) + 1]
    errors = _errors(scaled, components)
    return Shape(
        names=names, counts={n: c for n, c in counts.items() if n in names}, means=means.tolist(), centre=centre.tolist(),
        spread=spread.tolist(), components=components.tolist(), error_mean=float(errors.mean()),
        error_spread=float(errors.std()), rows=rows,
    )  # fmt: skip


def reconstruct(shape: Shape, columns: dict[str, Any]) -> Reconstruction | None:
    """How some rows are rebuilt; None without rows or when a column is missing altogether."""
    rows = len(next(iter(columns.values()))) if columns else 0
    if not rows or not set(shape.names) <= set(columns):
        return None
    raw = np.column_stack([_numbers(columns[n], shape.counts.get(n)) for n in shape.names])
    scaled = (np.where(np.isfinite(raw), raw, shape.means) - np.asarray(shape.centre)) / np.asarray(shape.spread)
    value = float(_errors(scaled, np.asarray(shape.components)).mean())
    shift = (value - shape.error_mean) / shape.error_spread if shape.error_spread else 0.0
    z = shift * math.sqrt(rows * shape.rows / (rows + shape.rows))
    return Reconstruction(
        value=value, reference=shape.error_mean, shift=shift, p_value=normal_two_sided(z), rows=rows,
        components=len(shape.components),
    )  # fmt: skip


def _errors(scaled: Floats, components: Floats) -> Floats:
    found: Floats = np.linalg.norm(scaled - (scaled @ components.T) @ components, axis=1)
    return found


def _counts(values: Any) -> dict[str, float]:
    words, counts = np.unique(np.asarray([str(v) for v in values if v is not None], dtype=str), return_counts=True)
    order = np.argsort(counts)[::-1][:WORDS_MAX]
    return {str(words[i]): float(counts[i]) for i in order}


def _numbers(values: Any, counts: dict[str, float] | None) -> Floats:
    """Numbers as they are; words as how often the reference has them: 0 for a new one, NaN for a missing one."""
    if counts is None:
        if values.dtype == object:  # words where the reference has numbers
            return np.full(len(values), np.nan)
        found: Floats = np.where(np.isfinite(values), values, np.nan)
        return found
    if values.dtype != object:
        values = np.asarray([None if v != v else str(v) for v in values.tolist()], dtype=object)
    return np.asarray([np.nan if v is None else counts.get(str(v), 0.0) for v in values.tolist()])
