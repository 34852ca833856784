"""Drift of vectors."""

from __future__ import annotations

from typing import Any

from noria.monitoring.embeddings import Vectors, discrepancy, points_of
from noria.monitoring.metrics.base import metric


@metric("embedding", kind="embedding", better="low", source="Gretton et al., JMLR 13 (2012)")
def embedding(reference: Vectors, columns: dict[str, Any], names: list[str]) -> tuple[float, float, int]:
    """Maximum mean discrepancy of the points of some rows from the reference's, its chance, and how many points there were."""
    points = points_of(columns, names)
    return (*discrepancy(reference.points(), points), len(points))
