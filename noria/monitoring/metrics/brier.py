"""Brier score."""

from __future__ import annotations

from noria.monitoring.metrics.base import Estimate, Floats, both, mean_interval, metric


@metric("brier", kind="performance", better="low", takes=("score", "truth"), source="Brier, Mon. Weather Rev. 78 (1950)")
def brier(score: Floats, truth: Floats) -> Estimate:
    """Mean squared distance between score and truth; `score` is the probability of truth = 1. NaN rows are left out."""
    p, y = both(score, truth)
    return mean_interval((p - y) ** 2)
