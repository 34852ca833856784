"""Values that the reference does not have: new words, numbers outside its range, another type."""

from __future__ import annotations

from noria.monitoring.metrics.base import Estimate, metric, wilson


@metric(
    "new_categories", kind="quality", better="low", takes=("reference",), source="Wilson, JASA 22 (1927), for the interval"
)
def new_categories(new: float, known: float) -> Estimate:
    """Share of rows whose word the reference does not have, of those with a word."""
    return wilson(new, new + known)


@metric(
    "out_of_range", kind="quality", better="low", takes=("reference",), source="Wilson, JASA 22 (1927), for the interval"
)
def out_of_range(outside: float, inside: float) -> Estimate:
    """Share of numbers below the reference's smallest or above its largest, to half a percent of the value."""
    return wilson(outside, outside + inside)


@metric(
    "type_changes", kind="quality", better="low", takes=("reference",), source="Wilson, JASA 22 (1927), for the interval"
)
def type_changes(changed: float, same: float) -> Estimate:
    """Share of values that are words where the reference has numbers only, or the reverse."""
    return wilson(changed, changed + same)
