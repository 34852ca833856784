"""How good a classifier is before its labels arrive: what its own scores, calibrated on labelled answers, promise.

A reference of labelled answers gives the share of positives for each score (isotonic regression over at most BINS quantile bins). The
answers of a window are counted per bin and predicted class; expected true and false positives of each cell add up to every metric.
Right as long as P(truth | score) is that of the reference; a change of it (concept drift) is not seen. Source: CBPE, NannyML.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.monitoring.intervals import UNDEFINED, Estimate

Floats = NDArray[np.float64]
BINS = 1000
DRAWS = 200  # of the truth, for the interval


class Calibration(Struct, frozen=True, kw_only=True):
    """The share of positives at some scores, ascending in both; between them it is interpolated."""

    scores: list[float]
    shares: list[float]
    rows: int

    def of(self, scores: Floats) -> Floats:
        """The calibrated probability of each score."""
        found: Floats = np.interp(scores, self.scores, self.shares)
        return found


def calibrate(scores: Floats, positive: Floats) -> Calibration | None:
    """Isotonic regression of 0/1 truths on scores, over quantile bins; None without both kinds."""
    known = np.isfinite(scores) & np.isfinite(positive)
    scores, positive = scores[known], positive[known]
    if not len(scores) or positive.min() == positive.max():
        return None
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1]))
    where = np.searchsorted(edges, scores, side="left")
    counts = np.bincount(where, minlength=len(edges) + 1).astype(float)
    used = counts > 0
    at = np.bincount(where, weights=scores, minlength=len(counts))[used] / counts[used]
    share = np.bincount(where, weights=positive, minlength=len(counts))[used] / counts[used]
    fitted = isotonic(share, counts[used])
    return Calibration(scores=at.tolist(), shares=fitted.tolist(), rows=len(scores))


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The ascending sequence nearest to `values` (weighted least squares): pool adjacent violators.

    Source: Barlow et al., Statistical Inference under Order Restrictions (Wiley, 1972).
    """
    means, sizes, spans = list[float](), list[float](), list[int]()
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        sizes.append(weight)
        spans.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            size = sizes[-2] + sizes[-1]
            means[-2] = (means[-2] * sizes[-2] + means[-1] * sizes[-1]) / size
            sizes[-2], spans[-2] = size, spans[-2] + spans[-1]
            means.pop(), sizes.pop(), spans.pop()
    found: Floats = np.repeat(np.asarray(means), spans)
    return found


class Cells(Struct, frozen=True, kw_only=True):
    """Answers counted by score and predicted class: how many, and how likely each is positive. Ascending by score."""

    count: Floats
    chance: Floats
    said_positive: NDArray[np.bool_]
    order: NDArray[np.int64]  # cells of one score share a number

    def estimate(self, metric: str) -> Estimate:
        """The expected metric, with the interval in which the realised one lies in 95 % of the draws of the truth."""
        if not self.count.sum():
            return UNDEFINED
        value = _metric(metric, self, self.count * self.chance)
        if not math.isfinite(value):
            return UNDEFINED
        draw = np.random.default_rng(0)
        counts = self.count.astype(np.int64)
        some = [_metric(metric, self, draw.binomial(counts, self.chance).astype(float)) for _ in range(DRAWS)]
        low, high = np.nanquantile(some, [0.025, 0.975]) if np.isfinite(some).any() else (math.nan, math.nan)
        return Estimate(value, float(low), float(high))


def cells_of(scores: Floats, chances: Floats, said_positive: Any) -> Cells:
    """Count answers per quantile bin of their score and predicted class; `chances` are the calibrated probabilities."""
    if not len(scores):
        return Cells(count=scores, chance=scores, said_positive=scores > 0, order=scores.astype(np.int64))
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1]))
    keys = np.searchsorted(edges, scores, side="left") * 2 + np.asarray(said_positive, dtype=np.int64)
    counts = np.bincount(keys).astype(float)
    used = np.flatnonzero(counts)
    mean = np.bincount(keys, weights=chances)[used] / counts[used]
    return Cells(count=counts[used], chance=np.clip(mean, 0, 1), said_positive=used % 2 == 1, order=used // 2)


def _metric(name: str, cells: Cells, positives: Floats) -> float:
    """A metric if `positives` of each cell's answers are positive."""
    negatives, yes = cells.count - positives, cells.said_positive
    tp, fp, fn, tn = (float(x.sum()) for x in (positives[yes], negatives[yes], positives[~yes], negatives[~yes]))
    if name == "accuracy":
        return (tp + tn) / (tp + fp + fn + tn)
    if name == "precision":
        return tp / (tp + fp) if tp + fp else math.nan
    if name == "recall":
        return tp / (tp + fn) if tp + fn else math.nan
    if name == "f1":
        return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan
    _, first = np.unique(cells.order, return_index=True)
    up, down = np.add.reduceat(positives, first), np.add.reduceat(negatives, first)
    if not up.sum() or not down.sum():
        return math.nan
    below = np.cumsum(down) - down / 2
    return float(np.sum(up * below) / (up.sum() * down.sum()))
