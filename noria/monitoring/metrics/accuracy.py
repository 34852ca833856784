"""Share of right answers."""

from __future__ import annotations

from noria.monitoring.metrics.base import Estimate, Floats, both, metric, wilson


@metric("accuracy", kind="performance", better="high", takes=("hit",), source="Wilson, JASA 22 (1927), for the interval")
def accuracy(hit: Floats) -> Estimate:
    """Share of answers that equal the truth, with Wilson's interval. `hit` is 1, 0 or NaN (not known)."""
    (known,) = both(hit)
    return wilson(float(known.sum()), len(known))
