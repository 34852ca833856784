"""Errors of a model that answers with a number."""

from __future__ import annotations

import math

import numpy as np

from noria.monitoring.metrics.base import UNDEFINED, Estimate, Floats, both, mean_interval, metric


@metric(
    "mae", kind="performance", better="low", takes=("score", "truth"), source="Willmott & Matsuura, Climate Res. 30 (2005)"
)
def mae(score: Floats, truth: Floats) -> Estimate:
    """Mean absolute difference of answer and truth. NaN rows are left out."""
    p, y = both(score, truth)
    return mean_interval(np.abs(p - y))


@metric(
    "rmse", kind="performance", better="low", takes=("score", "truth"), source="Willmott & Matsuura, Climate Res. 30 (2005)"
)
def rmse(score: Floats, truth: Floats) -> Estimate:
    """Root of the mean squared difference; the interval is that of the mean square, through the root. NaN rows are left out."""
    p, y = both(score, truth)
    square = mean_interval((p - y) ** 2)
    if square is UNDEFINED:
        return UNDEFINED
    return Estimate(*(math.sqrt(max(0.0, v)) if v == v else v for v in (square.value, square.low, square.high)))
