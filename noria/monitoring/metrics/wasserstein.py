"""Wasserstein distance."""

from __future__ import annotations

import math

import numpy as np

from noria.monitoring.metrics.base import Floats, metric


@metric(
    "wasserstein", kind="drift", better="low", bins=None, takes=("values",), test="ks", of_words=False,
    source="Vallender, Theory Probab. Appl. 18 (1974); divided by the reference's spread as in Evidently",
)  # fmt: skip
def wasserstein(reference: Floats, current: Floats, values: Floats) -> float:
    """How far values moved on average, in standard deviations of the reference, from counts at `values`.

    `values` ascend and have one entry less than the counts, whose last ones (what is missing) are left out. nan when either is
    empty, when the reference does not vary but now differs, or for words. A sketch is exact to half a percent of the value, so a column far
    from 0 with little spread (a year, a time stamp) is measured coarsely.
    """
    p, q = reference[:-1], current[:-1]
    n, m = float(p.sum()), float(q.sum())
    if not n or not m:
        return math.nan
    gaps = np.abs(np.cumsum(p) / n - np.cumsum(q) / m)[:-1]
    moved = float(np.sum(gaps * np.diff(values)))
    mean = float(np.sum(p * values) / n)
    spread = math.sqrt(float(np.sum(p * (values - mean) ** 2) / n))
    return moved / spread if spread else (0.0 if not moved else math.nan)
