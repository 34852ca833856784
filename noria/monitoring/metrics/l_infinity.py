"""Largest change of one share."""

from __future__ import annotations

import math

import numpy as np

from noria.monitoring.metrics.base import Floats, metric


@metric("l_infinity", kind="drift", better="low", source="Chebyshev distance; Vertex AI's measure of categorical drift")
def l_infinity(reference: Floats, current: Floats) -> float:
    """The largest difference of the shares of one bin (for words: of one word), in [0, 1]. nan when either is empty."""
    n, m = float(reference.sum()), float(current.sum())
    if not n or not m:
        return math.nan
    return float(np.max(np.abs(reference / n - current / m)))
