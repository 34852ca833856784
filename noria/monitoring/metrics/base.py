"""What a metric is, and the table of all of them.

A *drift* metric compares counts of the reference with counts of now; one of columns *together* reads rows. A *quality* metric counts
what is wrong with what went in. A *performance* metric compares answers with the truth. Each is one pure NumPy function in a file of
its own; `nan` means "not defined here".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.kernel.errors import Invalid

Floats = NDArray[np.float64]
Z95 = 1.959963984540054  # the normal quantile of a 95 % interval


class Estimate(Struct, frozen=True):
    """A number with its 95 % interval; `nan` where it is not defined. `low` and `high` are nan without a simple formula."""

    value: float
    low: float = math.nan
    high: float = math.nan


UNDEFINED = Estimate(math.nan)


class Metric(Struct, frozen=True, kw_only=True):
    """One metric of the table."""

    name: str
    kind: Literal["drift", "together", "quality", "performance"]
    better: Literal["low", "high"]
    source: str
    call: Callable[..., Any]
    bins: int | None = 10  # of a drift metric: quantiles of the reference; None: every bin of the sketch
    of: Literal["features", "score", "prediction"] = "features"
    takes: tuple[str, ...] = ()  # performance: score, truth, hit; drift: values; quality: reference, when it needs one
    test: Literal["chi2", "ks"] = "chi2"  # of a drift metric: what tells drift from chance
    of_words: bool = True  # is it defined for a column of words

    @property
    def needs_reference(self) -> bool:
        return self.kind in ("drift", "together") or "reference" in self.takes

    def is_over(self, value: float, limit: float) -> bool:
        """Is `value` on the wrong side of `limit`?"""
        return value > limit if self.better == "low" else value < limit


METRICS: dict[str, Metric] = {}
C = Callable[..., Any]


def metric(name: str, **fields: Any) -> Callable[[C], C]:
    """Put a function into the table."""

    def declare(call: C) -> C:
        assert name not in METRICS, f"the metric {name} is declared twice"
        METRICS[name] = Metric(name=name, call=call, **fields)
        return call

    return declare


def metric_of(name: str) -> Metric:
    """The metric with this name. Raises Invalid naming those that exist."""
    found = METRICS.get(name)
    if found is None:
        raise Invalid(f"There is no metric {name!r}.", where="metric", hint="Use one of " + ", ".join(sorted(METRICS)) + ".")
    return found


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
