"""Kolmogorov-Smirnov distance."""

from __future__ import annotations

import math

import numpy as np

from noria.monitoring.metrics.base import Floats, metric


@metric("ks", kind="drift", better="low", bins=None, test="ks", source="Smirnov, Ann. Math. Statist. 19 (1948)")
def ks(reference: Floats, current: Floats) -> float:
    """Largest distance between two cumulative distributions, in [0, 1], from counts over the same ordered bins.

    What is missing stands last, as a value of its own. Over the bins of a sketch it is the two-sample statistic of values
    rounded to half a percent. For words, whose order means nothing, read js instead. nan when either is empty.
    """
    n, m = float(reference.sum()), float(current.sum())
    if not n or not m:
        return math.nan
    return float(np.max(np.abs(np.cumsum(reference) / n - np.cumsum(current) / m)))
