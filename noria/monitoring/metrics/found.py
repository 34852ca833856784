"""Of what was called positive, how much was; of what was positive, how much was found."""

from __future__ import annotations

import numpy as np

from noria.monitoring.metrics.base import UNDEFINED, Estimate, Floats, both, mean_interval, metric, wilson


@metric(
    "precision", kind="performance", better="high", takes=("hit", "truth"), source="Wilson, JASA 22 (1927), for the interval"
)
def precision(hit: Floats, truth: Floats) -> Estimate:
    """Share of right ones among the answers that said 1. Truth is 0 or 1; other truths, and none that said 1: undefined."""
    cells = _cells(hit, truth)
    return UNDEFINED if cells is None else wilson(cells[0], cells[0] + cells[1])


@metric(
    "recall", kind="performance", better="high", takes=("hit", "truth"), source="Wilson, JASA 22 (1927), for the interval"
)
def recall(hit: Floats, truth: Floats) -> Estimate:
    """Share of found ones among the true 1s. Truth is 0 or 1; other truths, and none that is 1: undefined."""
    cells = _cells(hit, truth)
    return UNDEFINED if cells is None else wilson(cells[0], cells[0] + cells[2])


@metric(
    "f1", kind="performance", better="high", takes=("hit", "truth"), source="van Rijsbergen, Information Retrieval (1979)"
)
def f1(hit: Floats, truth: Floats) -> Estimate:
    """Harmonic mean of precision and recall: 2J / (1 + J) of the share J of hits among all that are or were said to be 1, whose
    Wilson interval is taken through."""
    cells = _cells(hit, truth)
    if cells is None:
        return UNDEFINED
    found = wilson(cells[0], sum(cells))
    return UNDEFINED if found is UNDEFINED else Estimate(*(2 * j / (1 + j) for j in (found.value, found.low, found.high)))


@metric(
    "average_precision",
    kind="performance",
    better="high",
    takes=("score", "truth"),
    source="Zhu, Univ. of Waterloo TR 2004-09",
)
def average_precision(score: Floats, truth: Floats) -> Estimate:
    """Area under the steps of precision over recall as the threshold falls; undefined without a true 1."""
    s, y = both(score, truth)
    positive = y > 0.5
    if not positive.any():
        return UNDEFINED
    order = np.argsort(-s, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(s[order]) != 0, True))
    found = np.cumsum(positive[order])[ends]
    steps = np.diff(np.concatenate([[0], found])) / positive.sum()
    return Estimate(float(np.sum(steps * found / (ends + 1))))


@metric(
    "mape",
    kind="performance",
    better="low",
    takes=("score", "truth"),
    source="Hyndman & Koehler, Int. J. Forecasting 22 (2006)",
)
def mape(score: Floats, truth: Floats) -> Estimate:
    """Mean of |answer - truth| / |truth|; rows whose truth is 0 are left out."""
    p, y = both(score, truth)
    some = y != 0
    return mean_interval(np.abs((p[some] - y[some]) / y[some]))


def _cells(hit: Floats, truth: Floats) -> tuple[float, float, float] | None:
    """True positives, false positives, false negatives; None when a truth is neither 0 nor 1 or there is none."""
    h, y = both(hit, truth)
    if not len(h) or not np.isin(y, (0.0, 1.0)).all():
        return None
    said = np.where(h > 0.5, y, 1 - y)
    return float(np.sum(said * y)), float(np.sum(said * (1 - y))), float(np.sum((1 - said) * y))
