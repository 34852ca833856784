"""What was estimated, from the truth once it is there."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.monitoring.estimates import NUMBERS, is_positive, says_positive
from noria.monitoring.intervals import Floats
from noria.monitoring.metrics import METRICS, UNDEFINED, Estimate
from noria.monitoring.rows import Rows


def realised(metric: str, rows: Rows) -> Estimate:
    """The same metric from the truth, of the answers that have one; of several classes the mean over one against the rest."""
    rows = rows.take(np.isfinite(rows.hit))
    if metric == "accuracy":
        return _call(metric, rows.hit)
    if metric in NUMBERS:
        return _call(metric, rows.score, rows.truth)
    if len(rows.classes) <= 2:
        truth = is_positive(rows)
        return _of_one(metric, rows.score, says_positive(rows) == truth, truth)
    if rows.probability is None or not len(rows):
        return UNDEFINED
    said, actual = np.asarray(rows.predicted.tolist()), np.asarray(rows.actual.tolist())
    parts = [
        _of_one(metric, rows.probability[:, i], (said == name) == (actual == name), (actual == name).astype(float))
        for i, name in enumerate(rows.classes)
    ]
    return Estimate(float(np.mean([p.value for p in parts])))


def _of_one(metric: str, score: Floats, hit: Any, truth: Floats) -> Estimate:
    return _call(metric, score, truth) if metric == "auc" else _call(metric, hit.astype(float), truth)


def _call(metric: str, *columns: Floats) -> Estimate:
    found: Estimate = METRICS[metric].call(*columns)
    return found
