"""Jensen-Shannon distance."""

from __future__ import annotations

import math

import numpy as np

from noria.monitoring.metrics.base import Floats, metric


@metric("js", kind="drift", better="low", source="Lin, IEEE Trans. Inf. Theory 37 (1991); Endres & Schindelin (2003)")
def js(reference: Floats, current: Floats) -> float:
    """Jensen-Shannon distance (base 2) between two counts over the same bins: 0 when equal, 1 when nothing is shared.

    The square root of the divergence, which is a metric. nan when either is empty.
    """
    n, m = float(reference.sum()), float(current.sum())
    if not n or not m:
        return math.nan
    p, q = reference / n, current / m
    middle = (p + q) / 2
    return math.sqrt(max(0.0, (_divergence(p, middle) + _divergence(q, middle)) / 2))


def _divergence(p: Floats, q: Floats) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))
