"""A window's columns beside the reference's: one number each, and whether chance alone explains it."""

from __future__ import annotations

import math

import msgspec

from noria.monitoring.baselines import Reference
from noria.monitoring.intervals import UNDEFINED
from noria.monitoring.metrics import Estimate, Metric
from noria.monitoring.model import PREDICTION, SCORE, Finding, MonitorSpec
from noria.monitoring.significance import benjamini_hochberg, chi2_test, ks_test
from noria.monitoring.sketches import REST, Aligned, Profile, Sketch

OUTPUTS = (SCORE, PREDICTION)


def compare(metric: Metric, profile: Profile, reference: Reference, spec: MonitorSpec) -> list[Finding]:
    """A drift or quality metric of every wanted column, in the order of the columns.

    A drift is over when it is over the limit *and* more than chance, at a false discovery rate of `spec.alpha` over the columns.
    """
    if metric.of != "features":
        names = [SCORE if metric.of == "score" else PREDICTION]
    elif spec.columns:
        names = spec.columns
    else:
        names = [n for n in (reference.names() if metric.needs_reference else profile.columns) if n not in OUTPUTS]
    found = [_finding(metric, name, profile, reference, spec.limit) for name in names]
    if metric.kind != "drift":
        return found
    tested = [f.p_value for f in found if f.p_value is not None]
    adjusted = iter(benjamini_hochberg(tested))
    return [f if f.p_value is None else _judged(f, next(adjusted), spec.alpha) for f in found]


def _judged(finding: Finding, q_value: float, alpha: float) -> Finding:
    return msgspec.structs.replace(finding, q_value=q_value, is_over=finding.is_over and q_value <= alpha)


def _finding(metric: Metric, name: str, profile: Profile, reference: Reference, limit: float) -> Finding:
    sketch = profile.columns.get(name)
    if sketch is None:
        return Finding(column=name, value=None, limit=limit, is_over=False)
    low, high, p_value, size = None, None, None, 0
    if metric.kind == "quality":
        estimate = quality(metric, sketch, reference.sketches.get(name))
        value, low, high = known(estimate.value), known(estimate.low), known(estimate.high)
    else:
        aligned = reference.align(name, sketch, metric.bins)
        value = None if aligned is None else known(distance(metric, aligned))
        if aligned is not None:
            size = int(aligned.reference.sum())
            p_value = None if value is None else chance(metric, aligned, has_words=bool(sketch.labels), value=value)
    return Finding(
        column=name, value=value, low=low, high=high, limit=limit, count=sketch.count + sketch.nulls, reference_count=size,
        p_value=p_value, is_over=value is not None and metric.is_over(value, limit),
    )  # fmt: skip


def distance(metric: Metric, aligned: Aligned) -> float:
    """A drift metric of two aligned columns; nan where it is not defined."""
    if "values" not in metric.takes:
        return float(metric.call(aligned.reference, aligned.current))
    if len(aligned.values) != len(aligned.current) - 1:  # words, or counts between given edges
        return math.nan
    return float(metric.call(aligned.reference, aligned.current, aligned.values))


def chance(metric: Metric, aligned: Aligned, *, has_words: bool, value: float | None = None) -> float:
    """The p-value of "both are draws of one population", by the test that fits the metric."""
    n, m = float(aligned.reference.sum()), float(aligned.current.sum())
    if metric.test == "ks" and not has_words:
        from noria.monitoring.metrics.ks import ks

        return ks_test(value if metric.name == "ks" and value is not None else ks(aligned.reference, aligned.current), n, m)
    return chi2_test(aligned.reference, aligned.current)[2]


def quality(metric: Metric, sketch: Sketch, reference: Sketch | None) -> Estimate:
    """A quality metric of a column."""
    counts: tuple[int, int] | None = (sketch.nulls, sketch.count + sketch.nulls)
    if metric.needs_reference:
        counts = None if reference is None else _COUNTED[metric.name](sketch, reference)
    found: Estimate = UNDEFINED if counts is None else metric.call(*counts)
    return found


def _new(sketch: Sketch, reference: Sketch) -> tuple[int, int] | None:
    if not reference.labels or REST in reference.labels:  # which words the rest were is not kept
        return None
    new = sum(count for word, count in sketch.labels.items() if word not in reference.labels)
    return new, sum(sketch.labels.values()) - new


def _outside(sketch: Sketch, reference: Sketch) -> tuple[int, int] | None:
    if not reference.bins:
        return None
    low, high = reference.bins[0], reference.bins[-1]
    outside = sum(count for bin_, count in zip(sketch.bins, sketch.counts, strict=True) if not low <= bin_ <= high)
    return outside, sum(sketch.counts) - outside


def _changed(sketch: Sketch, reference: Sketch) -> tuple[int, int] | None:
    numbers, words = sum(sketch.counts), sum(sketch.labels.values())
    if reference.bins and reference.labels:
        return 0, numbers + words
    if not reference.bins and not reference.labels:
        return None
    return (words, numbers) if reference.bins else (numbers, words)


_COUNTED = {"new_categories": _new, "out_of_range": _outside, "type_changes": _changed}


def known(value: float) -> float | None:
    """JSON and SQL know no NaN; None says the same."""
    return float(value) if math.isfinite(value) else None
