"""Drift of the columns together."""

from __future__ import annotations

import math
from typing import Any

from noria.monitoring.metrics.base import metric
from noria.monitoring.reconstruction import Shape, reconstruct


@metric(
    "reconstruction", kind="together", better="low",
    source="NannyML's DataReconstructionDriftCalculator; Hotelling, J. Educ. Psychol. 24 (1933), for the components",
)  # fmt: skip
def reconstruction(shape: Shape, columns: dict[str, Any]) -> tuple[float, float]:
    """How far the mean error of rebuilding rows from the reference's components moved, in standard deviations of one row's error,
    and the chance of that. nan when it cannot be computed."""
    found = reconstruct(shape, columns)
    return (math.nan, 1.0) if found is None else (abs(found.shift), found.p_value)
