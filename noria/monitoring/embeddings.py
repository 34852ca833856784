"""Drift of vectors, such as embeddings: whether two samples of points come from one distribution, whatever its form.

Maximum mean discrepancy with a Gaussian kernel as wide as the median distance; the chance of what is seen comes from shuffling which
sample each point belongs to, so that it holds for any number of points and dimensions. Source: Gretton, Borgwardt, Rasch, Schölkopf
and Smola, "A Kernel Two-Sample Test", JMLR 13 (2012). A vector is one input that holds a list of numbers, or several inputs together.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
POINTS_MAX = 500  # of each sample: the kernel of both holds 8 MB
POINTS_MIN = 20
WIDTH_MAX = 8_192
SHUFFLES = 499


class Vectors(Struct, frozen=True, kw_only=True):
    """A sample of points, as 32-bit floats in base64."""

    width: int
    rows: int  # of which these points are a sample
    data: str

    def points(self) -> Floats:
        flat = np.frombuffer(base64.b64decode(self.data), dtype="<f4")
        return flat.reshape(-1, self.width).astype(np.float64)


def is_vector(values: Any) -> bool:
    """Does a column hold lists? They are no words to be counted."""
    if values.dtype.kind != "O":
        return False
    first = next((v for v in values.tolist() if v is not None), None)
    return isinstance(first, list) or (isinstance(first, str) and first.startswith("[") and first.endswith("]"))


def points_of(columns: dict[str, Any], names: list[str]) -> Floats:
    """The points of some rows: of one column of lists, or of columns of numbers. Rows that are none are left out."""
    if any(n not in columns for n in names) or not names:
        return np.empty((0, 0))
    if len(names) == 1 and columns[names[0]].dtype == object:
        lists = [_list(v) for v in columns[names[0]].tolist()]
        width = next((len(v) for v in lists if v), 0)
        if not width:
            return np.empty((0, 0))
        found = np.asarray([v for v in lists if v is not None and len(v) == width], dtype=np.float64).reshape(-1, width)
    elif any(columns[n].dtype == object for n in names):
        return np.empty((0, 0))
    else:
        found = np.column_stack([columns[n] for n in names])
    return found[np.isfinite(found).all(axis=1), :WIDTH_MAX]


def _list(value: Any) -> list[float] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    is_numbers = isinstance(value, list) and all(isinstance(x, int | float) for x in value)
    return value if is_numbers else None


def thinned(points: Floats, most: int = POINTS_MAX) -> Floats:
    """At most so many points, evenly spread over their order."""
    if len(points) <= most:
        return points
    return points[np.linspace(0, len(points) - 1, most).astype(np.int64)]


def vectors_of(points: Floats) -> Vectors | None:
    """A sample of points to be kept; None when there are too few."""
    if len(points) < POINTS_MIN:
        return None
    kept = thinned(points)
    return Vectors(width=points.shape[1], rows=len(points), data=base64.b64encode(kept.astype("<f4").tobytes()).decode())


def discrepancy(reference: Floats, current: Floats, *, seed: int = 0) -> tuple[float, float]:
    """MMD between two samples, at least 0, and the chance of one as large; (nan, 1) with too few points or other dimensions.

    The square root of the unbiased estimate, which for one distribution is about 0 whatever the number of points.
    """
    if min(len(reference), len(current)) < POINTS_MIN or reference.shape[1] != current.shape[1]:
        return math.nan, 1.0
    a, b = thinned(reference), thinned(current)
    pooled = np.concatenate([a, b])
    pooled = pooled - pooled.mean(axis=0)
    squares = np.sum(pooled**2, axis=1)
    apart = np.maximum(0.0, squares[:, None] + squares[None, :] - 2 * pooled @ pooled.T)
    middle = float(np.median(apart[np.triu_indices(len(pooled), 1)]))
    if middle <= 0:
        return 0.0, 1.0  # every point is the same
    kernel = np.exp(-apart / middle)
    np.fill_diagonal(kernel, 0.0)
    n, m = len(a), len(b)
    is_first = np.zeros(n + m)
    is_first[:n] = 1.0
    random = np.random.default_rng(seed)
    signs = np.column_stack([is_first, *(random.permutation(is_first) for _ in range(SHUFFLES))])
    inside = np.einsum("ij,ij->j", signs, kernel @ signs)  # sums over pairs of the first sample, for every shuffle at once
    total, rows = float(kernel.sum()), kernel.sum(axis=1) @ signs
    across = rows - inside
    estimates = inside / (n * (n - 1)) + (total - inside - 2 * across) / (m * (m - 1)) - 2 * across / (n * m)
    p_value = float(np.mean(estimates >= estimates[0] - 1e-12))
    return math.sqrt(max(0.0, float(estimates[0]))), p_value
