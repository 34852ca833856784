"""A number with what sampling leaves open about it."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Z95 = 1.959963984540054  # the normal quantile of a 95 % interval


class Estimate(Struct, frozen=True):
    """A number with its 95 % interval; `nan` where it is not defined. `low` and `high` are nan without a simple formula."""

    value: float
    low: float = math.nan
    high: float = math.nan


UNDEFINED = Estimate(math.nan)


def mean_interval(values: Floats) -> Estimate:
    """The mean of a sample with its normal 95 % interval; undefined when empty."""
    n = len(values)
    if not n:
        return UNDEFINED
    mean = float(values.mean())
    half = Z95 * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(mean, mean - half, mean + half)


def wilson(hits: float, n: float) -> Estimate:
    """A share with Wilson's 95 % interval; undefined for n = 0.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if n <= 0:
        return UNDEFINED
    p, z2 = hits / n, Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(p, max(0.0, middle - half), min(1.0, middle + half))


def both(*columns: Floats) -> tuple[Floats, ...]:
    """The rows in which no column is NaN or infinite."""
    keep = np.all([np.isfinite(c) for c in columns], axis=0)
    return tuple(c[keep] for c in columns)
