"""Are groups treated alike: how often each gets the positive answer, and how often those who deserve it do.

Gaps are between the extreme groups among those with enough answers; whether groups differ at all is a chi-square test over all of them,
so that many small groups do not look unfair by chance.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.monitoring.estimates import is_positive, says_positive
from noria.monitoring.intervals import UNDEFINED, Z95, Estimate, wilson
from noria.monitoring.rows import Rows
from noria.monitoring.significance import chi2_sf, chi2_test

Floats = NDArray[np.float64]
GROUPS_MAX = 50
GROUP_ROWS_MIN = 30


class GroupRate(Struct, frozen=True, kw_only=True):
    """One group: answers, share of positive ones, and of those whose truth is positive the share that was told so."""

    group: str
    count: int
    positive: float | None
    low: float | None
    high: float | None
    deserving: int
    opportunity: float | None
    opportunity_low: float | None
    opportunity_high: float | None
    is_counted: bool  # has it enough answers to be compared


class Gap(Struct, frozen=True, kw_only=True):
    """A number about all groups; None when fewer than two have enough answers."""

    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    between: list[str] = []  # the lowest group and the highest


class Rates(Struct, frozen=True, kw_only=True):
    """Groups and what lies between them."""

    groups: list[GroupRate]
    parity_gap: Gap
    parity_ratio: Gap
    opportunity_gap: Gap


def rates(rows: Rows, column: str, *, min_count: int = GROUP_ROWS_MIN) -> Rates:
    """The rates of the groups that an input names. A group with fewer than `min_count` answers is shown and not compared."""
    said, truth = says_positive(rows), is_positive(rows)
    values = _words(rows.inputs[column])
    names, counts = np.unique(values[values != None].astype(str), return_counts=True)  # noqa: E711
    names = names[np.argsort(-counts, kind="stable")][:GROUPS_MAX]
    found = []
    for name in names.tolist():
        mine = values == name
        deserve = mine & (truth == 1)
        share, chance = (
            wilson(float(said[mine].sum()), int(mine.sum())),
            wilson(float(said[deserve].sum()), int(deserve.sum())),
        )
        found.append(
            GroupRate(
                group=name, count=int(mine.sum()), positive=_known(share.value), low=_known(share.low), high=_known(share.high),
                deserving=int(deserve.sum()), opportunity=_known(chance.value), opportunity_low=_known(chance.low),
                opportunity_high=_known(chance.high), is_counted=int(mine.sum()) >= min_count,
            )
        )  # fmt: skip
    parity = [(g.group, g.count, g.positive) for g in found if g.is_counted and g.positive is not None]
    chances = [
        (g.group, g.deserving, g.opportunity) for g in found if g.deserving >= min_count and g.opportunity is not None
    ]
    return Rates(
        groups=found,
        parity_gap=_gap(parity, difference),
        parity_ratio=_gap(parity, ratio),
        opportunity_gap=_gap(chances, difference),
    )


def _gap(groups: list[tuple[str, int, float]], of: Any) -> Gap:
    if len(groups) < 2:
        return Gap(value=None, low=None, high=None, p_value=None)
    low, high = min(groups, key=lambda g: g[2]), max(groups, key=lambda g: g[2])
    estimate = of(low[2] * low[1], low[1], high[2] * high[1], high[1])
    counts = np.array([[p * n, (1 - p) * n] for _, n, p in groups])
    return Gap(
        value=_known(estimate.value), low=_known(estimate.low), high=_known(estimate.high), p_value=_homogeneous(counts),
        between=[low[0], high[0]],
    )  # fmt: skip


def _homogeneous(counts: Floats) -> float:
    """The p-value of "one share in all groups"."""
    total = counts.sum(axis=0)
    if not total.all():
        return 1.0
    if len(counts) == 2:
        return chi2_test(counts[0], counts[1])[2]
    expected = counts.sum(axis=1, keepdims=True) * total / total.sum()
    return chi2_sf(float(np.sum((counts - expected) ** 2 / expected)), len(counts) - 1)


def difference(low_hits: float, low_n: int, high_hits: float, high_n: int) -> Estimate:
    """The difference of two shares with Newcombe's hybrid score interval.

    Source: Newcombe, Statistics in Medicine 17 (1998), 873-890, method 10.
    """
    a, b = wilson(high_hits, high_n), wilson(low_hits, low_n)
    value = a.value - b.value
    return Estimate(
        value,
        value - math.sqrt((a.value - a.low) ** 2 + (b.high - b.value) ** 2),
        value + math.sqrt((a.high - a.value) ** 2 + (b.value - b.low) ** 2),
    )


def ratio(low_hits: float, low_n: int, high_hits: float, high_n: int) -> Estimate:
    """The lower share by the higher, with Katz's logarithmic interval; undefined when the higher is 0.

    Source: Katz et al., Biometrics 34 (1978).
    """
    if not high_hits:
        return UNDEFINED
    value = (low_hits / low_n) / (high_hits / high_n)
    if not low_hits:
        return Estimate(0.0, 0.0, math.nan)
    half = Z95 * math.sqrt(max(0.0, 1 / low_hits - 1 / low_n + 1 / high_hits - 1 / high_n))
    return Estimate(value, value * math.exp(-half), value * math.exp(half))


def _words(values: Any) -> Any:
    if values.dtype == object:
        return np.asarray([None if v is None else str(v) for v in values.tolist()], dtype=object)
    return np.asarray([None if v != v else f"{v:g}" for v in values.tolist()], dtype=object)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
