"""Population stability index."""

from __future__ import annotations

import math

import numpy as np

from noria.monitoring.metrics.base import Floats, metric

SHARE_MIN = 1e-4  # an empty bin counts as this share; without it one unseen value would be infinitely far


@metric("psi", kind="drift", better="low", source="Siddiqi, Credit Risk Scorecards (Wiley, 2006)")
@metric(
    "prediction_psi", kind="drift", better="low", of="prediction", source="Siddiqi, Credit Risk Scorecards (Wiley, 2006)"
)
@metric("score_psi", kind="drift", better="low", of="score", source="Siddiqi, Credit Risk Scorecards (Wiley, 2006)")
def psi(reference: Floats, current: Floats, *, corrected: bool = True) -> float:
    """Population stability index between two counts over the same bins.

    Returns Σ (q - p) ln(q / p) ≥ 0 with shares floored at SHARE_MIN; 0 when equal; nan when either is empty. `corrected` takes
    off what two samples of one population are expected to show, (B - 1)(1/n + 1/m) for B bins that are not empty in both (to
    first order n·m/(n+m)·PSI is chi-square with B - 1 degrees of freedom; Yurdakul, PhD thesis, WMU 2018), and stops at 0. A
    limit then means the same for 300 rows and for 300,000.
    """
    n, m = float(reference.sum()), float(current.sum())
    if not n or not m:
        return math.nan
    used = (reference > 0) | (current > 0)
    p = np.maximum(reference[used] / n, SHARE_MIN)
    q = np.maximum(current[used] / m, SHARE_MIN)
    raw = float(np.sum((q - p) * np.log(q / p)))
    bias = (int(used.sum()) - 1) * (1 / n + 1 / m) if corrected else 0.0
    return max(0.0, raw - bias)
