"""The loss of each answer whose truth is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noria.monitoring.rows import Rows

Floats = NDArray[np.float64]


def loss_of(rows: Rows) -> tuple[str, Floats]:
    """The loss of each labelled answer and its name: brier for scores that are probabilities, error for classes, else absolute."""
    has = np.isfinite(rows.hit)
    scored = has & np.isfinite(rows.score) & np.isfinite(rows.truth)
    truths, scores = rows.truth[scored], rows.score[scored]
    if (
        scored.any()
        and np.isin(truths, (0.0, 1.0)).all()
        and ((scores >= 0) & (scores <= 1)).all()
        and len(rows.classes) <= 2
    ):
        return "brier", (rows.score - rows.truth) ** 2
    if rows.classes or not scored.any():
        return "error", 1 - rows.hit
    return "absolute error", np.abs(rows.score - rows.truth)
