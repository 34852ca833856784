"""One column now and in the reference, as counts that can be drawn over each other."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from noria.monitoring.sketches import REST, Sketch, align, quantile

BARS = 30
WORDS_MAX = 20


class ColumnShape(Struct, frozen=True, kw_only=True):
    """Counts of one column. Numbers: between `edges`, with what lies outside in the first and the last; words: per label."""

    column: str
    kind: str  # number, word
    model_version: str
    start_ms: int
    end_ms: int
    edges: list[float]
    labels: list[str]
    reference: list[float]
    current: list[float]
    reference_nulls: float
    current_nulls: float


def shape_of_column(
    column: str, reference: Sketch, current: Sketch, *, version: str, start_ms: int, end_ms: int
) -> ColumnShape:
    """The counts of both over the same bars: equal ones over what lies between the outermost half percents, or the most frequent words."""
    edges, labels = list[float](), list[str]()
    if reference.labels or current.labels:
        labels, then, now = _words(reference, current)
    else:
        edges, then, now = _bars(reference, current)
    return ColumnShape(
        column=column, kind="word" if labels else "number", model_version=version, start_ms=start_ms, end_ms=end_ms, edges=edges,
        labels=labels, reference=then, current=now, reference_nulls=reference.nulls, current_nulls=current.nulls,
    )  # fmt: skip


def _bars(reference: Sketch, current: Sketch) -> tuple[list[float], list[float], list[float]]:
    both = [s for s in (reference, current) if s.bins]
    if not both:
        return [], [], []
    low, high = min(quantile(s, 0.005) for s in both), max(quantile(s, 0.995) for s in both)
    aligned = align(reference, current, bins=None)
    values = np.clip(aligned.values, low, high)
    edges = np.linspace(low, high if high > low else low + 1.0, BARS + 1)
    then, now = (np.histogram(values, edges, weights=counts[:-1])[0] for counts in (aligned.reference, aligned.current))
    return edges.tolist(), then.tolist(), now.tolist()


def _words(reference: Sketch, current: Sketch) -> tuple[list[str], list[float], list[float]]:
    """The words that are most frequent in either, and the rest as one."""
    a, b = reference.count or 1, current.count or 1
    words = sorted(
        {*reference.labels, *current.labels} - {REST},
        key=lambda w: -max(reference.labels.get(w, 0) / a, current.labels.get(w, 0) / b),
    )[:WORDS_MAX]
    then, now = ([float(s.labels.get(w, 0)) for w in words] for s in (reference, current))
    rest = (reference.count - sum(then), current.count - sum(now))
    return ([*words, REST], [*then, rest[0]], [*now, rest[1]]) if any(rest) else (words, then, now)
