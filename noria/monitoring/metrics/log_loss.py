"""Logarithmic loss."""

from __future__ import annotations

import numpy as np

from noria.monitoring.metrics.base import Estimate, Floats, both, mean_interval, metric

SCORE_MIN = 1e-15  # a score of exactly 0 or 1 that is wrong costs 34.5, not infinity


@metric("log_loss", kind="performance", better="low", takes=("score", "truth"), source="Good, JRSS B 14 (1952)")
def log_loss(score: Floats, truth: Floats) -> Estimate:
    """Mean of -ln(probability given to what happened); `score` is the probability of truth = 1. NaN rows are left out."""
    p, y = both(score, truth)
    p = np.clip(p, SCORE_MIN, 1 - SCORE_MIN)
    return mean_interval(-(y * np.log(p) + (1 - y) * np.log1p(-p)))
