"""What a metric is, and the table of all of them.

A *drift* metric compares counts of the reference with counts of now; one of columns *together* reads rows. A *quality* metric counts
what is wrong with what went in. A *performance* metric compares answers with the truth, an *estimate* does without, *fairness*
compares groups, a *stream* is read value by value in the order of event time, an
*embedding* is a sample of points. Each is one pure function in a file of its own or
beside its kin; `nan` means "not defined here".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.monitoring.intervals import UNDEFINED, Z95, Estimate, Floats, both, mean_interval, wilson

__all__ = [
    "METRICS", "UNDEFINED", "Z95", "Estimate", "Floats", "Kind", "Metric", "both", "mean_interval", "metric", "metric_of", "wilson",
]  # fmt: skip


Kind = Literal["drift", "together", "quality", "performance", "estimate", "fairness", "stream", "embedding"]


class Metric(Struct, frozen=True, kw_only=True):
    """One metric of the table."""

    name: str
    kind: Kind
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
        return self.kind in ("drift", "together", "estimate", "embedding") or "reference" in self.takes

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
