"""Area under the ROC curve."""

from __future__ import annotations

import math

import numpy as np

from noria.monitoring.metrics.base import UNDEFINED, Z95, Estimate, Floats, both, metric


@metric("auc", kind="performance", better="high", takes=("score", "truth"), source="Hanley & McNeil, Radiology 143 (1982)")
def auc(score: Floats, truth: Floats) -> Estimate:
    """Chance that a random positive (truth > 0.5) scores above a random negative; ties count half. NaN rows are left out.

    Undefined unless both kinds are there. The interval is Hanley and McNeil's, cut to [0, 1].
    """
    s, y = both(score, truth)
    positive = y > 0.5
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if not n1 or not n0:
        return UNDEFINED
    _values, where, counts = np.unique(s, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    area = (float(ranks[where][positive].sum()) - n1 * (n1 + 1) / 2) / (n1 * n0)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (n1 - 1) * (q1 - area**2) + (n0 - 1) * (q2 - area**2)
    half = Z95 * math.sqrt(max(0.0, spread) / (n1 * n0))
    return Estimate(area, max(0.0, area - half), min(1.0, area + half))
