"""Performance before labels arrive: CBPE for classes (calibration.py), a model of the loss for numbers (boosting.py).

An `Estimator` is made once from labelled answers and is small; a window needs only its answers.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.monitoring.boosting import Boosted, boost
from noria.monitoring.calibration import Calibration, calibrate, cells_of
from noria.monitoring.intervals import UNDEFINED, Z95, Estimate
from noria.monitoring.rows import Rows

Floats = NDArray[np.float64]
LABELS_MIN = 200  # labelled answers; fewer calibrate nothing
CLASSES = ("accuracy", "auc", "f1", "precision", "recall")
NUMBERS = ("mae", "rmse")
ESTIMATED = (*CLASSES, *NUMBERS)
_PREDICTED = "@predicted"  # the prediction is a feature of its own loss


class Estimator(Struct, frozen=True, kw_only=True):
    """What labelled answers teach: for two classes one calibration, for several one each, for numbers a model of each loss."""

    labels: int
    classes: list[str] = []
    calibrations: list[Calibration] = []
    absolute: Boosted | None = None
    squared: Boosted | None = None

    def estimate(self, metric: str, rows: Rows) -> Estimate:
        """A metric of answers without truth; undefined when it is not this kind of model's."""
        if metric in NUMBERS:
            return self._number(metric, rows)
        if not self.calibrations:
            return UNDEFINED
        return self._two(metric, rows) if len(self.calibrations) == 1 else self._several(metric, rows)

    def _two(self, metric: str, rows: Rows) -> Estimate:
        keep = np.isfinite(rows.score)
        scores = rows.score[keep]
        return cells_of(scores, self.calibrations[0].of(scores), says_positive(rows)[keep]).estimate(metric)

    def _several(self, metric: str, rows: Rows) -> Estimate:
        """One class against the rest, each calibrated and made to add up to 1; the mean over classes (accuracy: what was said)."""
        matrix = rows.probability
        if matrix is None or matrix.shape[1] != len(self.calibrations) or not len(rows):
            return UNDEFINED
        chances = np.column_stack([c.of(matrix[:, i]) for i, c in enumerate(self.calibrations)])
        chances = chances / np.maximum(chances.sum(axis=1, keepdims=True), 1e-12)
        said = np.asarray([self.classes.index(p) if p in self.classes else -1 for p in rows.predicted.tolist()])
        if metric == "accuracy":
            right = np.where(said >= 0, chances[np.arange(len(said)), said], 0.0)
            half = Z95 * math.sqrt(float(np.sum(right * (1 - right)))) / len(right)
            return Estimate(float(right.mean()), float(right.mean()) - half, float(right.mean()) + half)
        parts = [cells_of(matrix[:, i], chances[:, i], said == i).estimate(metric) for i in range(len(self.classes))]
        return Estimate(*(float(np.mean([getattr(p, f) for p in parts])) for f in ("value", "low", "high")))

    def _number(self, metric: str, rows: Rows) -> Estimate:
        model = self.absolute if metric == "mae" else self.squared
        keep = rows.take(np.isfinite(rows.score))
        if model is None or not len(keep):
            return UNDEFINED
        losses = np.maximum(0.0, model.predict({**keep.inputs, _PREDICTED: keep.score}, len(keep)))
        mean = float(losses.mean())
        half = Z95 * float(losses.std()) / math.sqrt(len(losses))
        values = (mean, max(0.0, mean - half), mean + half)
        return Estimate(*values) if metric == "mae" else Estimate(*(math.sqrt(v) for v in values))


def says_positive(rows: Rows) -> NDArray[np.bool_]:
    """Did the model say the class that the score speaks of? Without classes: is the score at least a half."""
    said = np.asarray([p is not None for p in rows.predicted.tolist()], dtype=bool)
    if len(rows.classes) == 2 and said.any():
        return np.asarray([p == rows.classes[1] for p in rows.predicted.tolist()], dtype=bool)
    return np.asarray(rows.score >= 0.5, dtype=bool)


def is_positive(rows: Rows) -> Floats:
    """1 where the truth is the class that the score speaks of, 0 where it is another, NaN without truth."""
    if len(rows.classes) == 2:
        return np.asarray([math.nan if a is None else float(a == rows.classes[1]) for a in rows.actual.tolist()])
    return np.where(np.isfinite(rows.truth), (rows.truth > 0.5).astype(float), np.nan)


def learn(rows: Rows) -> Estimator | None:
    """An estimator from the labelled ones of some answers; None when there are fewer than LABELS_MIN, or nothing can be learnt."""
    rows = rows.take(np.isfinite(rows.hit))
    if len(rows) < LABELS_MIN:
        return None
    if len(rows.classes) > 2:
        if rows.probability is None:
            return None
        of = [
            calibrate(rows.probability[:, i], np.asarray([float(a == c) for a in rows.actual.tolist()]))
            for i, c in enumerate(rows.classes)
        ]
        made = [c for c in of if c is not None]
        return Estimator(labels=len(rows), classes=rows.classes, calibrations=made) if len(made) == len(of) else None
    truths = rows.truth[np.isfinite(rows.truth)]
    if len(rows.classes) == 2 or (len(truths) and np.isin(truths, (0.0, 1.0)).all()):
        one = calibrate(rows.score, is_positive(rows))
        return None if one is None else Estimator(labels=len(rows), classes=rows.classes, calibrations=[one])
    rows = rows.take(np.isfinite(rows.score) & np.isfinite(rows.truth))
    if len(rows) < LABELS_MIN:
        return None
    columns = {**rows.inputs, _PREDICTED: rows.score}
    loss = np.abs(rows.score - rows.truth)
    return Estimator(labels=len(rows), absolute=boost(columns, loss), squared=boost(columns, loss**2))
