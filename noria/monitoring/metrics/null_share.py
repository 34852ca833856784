"""Share of missing values."""

from __future__ import annotations

from noria.monitoring.metrics.base import Estimate, metric, wilson


@metric("null_share", kind="quality", better="low", source="Wilson, JASA 22 (1927), for the interval")
def null_share(nulls: float, rows: float) -> Estimate:
    """Missing values by rows, with Wilson's interval; undefined without rows."""
    return wilson(nulls, rows)
