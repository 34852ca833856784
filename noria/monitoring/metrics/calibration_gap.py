"""Distance between what was promised and what happened."""

from __future__ import annotations

from noria.monitoring.metrics.base import UNDEFINED, Estimate, Floats, both, mean_interval, metric


@metric(
    "calibration_gap", kind="performance", better="low", takes=("score", "truth"),
    source="calibration in the large: Cox, Biometrika 45 (1958)",
)  # fmt: skip
def calibration_gap(score: Floats, truth: Floats) -> Estimate:
    """|mean score - share of positives|, with the normal interval of the paired difference, cut at 0. NaN rows are left out."""
    p, y = both(score, truth)
    gap = mean_interval(p - y)
    if gap is UNDEFINED:
        return UNDEFINED
    if gap.value < 0:
        gap = Estimate(-gap.value, -gap.high, -gap.low)
    return Estimate(gap.value, max(0.0, gap.low) if gap.low == gap.low else gap.low, gap.high)
