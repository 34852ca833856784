"""Could chance alone have done this: tests of two samples from counts, and how many false alarms many columns may raise.

A distance such as PSI says how much; these say whether sampling explains it. A column is called drifted when both say so.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EXPECTED_MIN = (
    5.0  # neighbouring bins are counted together until chance would put so many in each (Cochran, Biometrics 10, 1954)
)
_TERMS_MAX = 10_000
_PRECISION = 1e-15


def chi2_test(reference: Floats, current: Floats) -> tuple[float, int, float]:
    """Are two counts over the same bins draws of one population? Pearson's statistic, its degrees of freedom, the p-value.

    Bins expected to hold fewer than EXPECTED_MIN are counted together with their neighbours. One bin left: (0, 0, 1).
    """
    a, b = _pooled(reference, current)
    n, m = float(a.sum()), float(b.sum())
    if len(a) < 2 or not n or not m:
        return 0.0, 0, 1.0
    both = a + b
    statistic = float(np.sum((a - both * n / (n + m)) ** 2 / (both * n / (n + m))))
    statistic += float(np.sum((b - both * m / (n + m)) ** 2 / (both * m / (n + m))))
    return statistic, len(a) - 1, chi2_sf(statistic, len(a) - 1)


def ks_test(distance: float, n: float, m: float) -> float:
    """The p-value of a Kolmogorov-Smirnov distance between samples of `n` and `m`; too large (careful) when values repeat.

    Source: Stephens, JRSS B 32 (1970), for the correction for small samples.
    """
    if not n or not m or not math.isfinite(distance):
        return 1.0
    root = math.sqrt(n * m / (n + m))
    return kolmogorov_sf((root + 0.12 + 0.11 / root) * distance)


def benjamini_hochberg(p_values: list[float]) -> list[float]:
    """p-values adjusted for their number: calling those ≤ alpha true is wrong in a share of at most alpha of the calls.

    Source: Benjamini & Hochberg, JRSS B 57 (1995).
    """
    if not p_values:
        return []
    p = np.asarray(p_values)
    order = np.argsort(p)[::-1]
    scaled = p[order] * len(p) / np.arange(len(p), 0, -1)
    found = np.empty(len(p))
    found[order] = np.minimum(1.0, np.minimum.accumulate(scaled))
    return [float(q) for q in found]


def chi2_sf(x: float, df: int) -> float:
    """The chance that a chi-square variable with `df` degrees of freedom is larger than `x`."""
    return 1.0 if x <= 0 or df < 1 else _gamma_upper(df / 2, x / 2)


def kolmogorov_sf(x: float) -> float:
    """The chance that the limit of the scaled Kolmogorov-Smirnov distance is larger than `x`."""
    if x < 0.2:  # the series converges slowly there, to 1
        return 1.0
    total = sum((1.0 if k % 2 else -1.0) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * total))


def normal_two_sided(z: float) -> float:
    """The chance that a standard normal variable lies further from 0 than `z`."""
    return math.erfc(abs(z) / math.sqrt(2))


def _pooled(reference: Floats, current: Floats) -> tuple[Floats, Floats]:
    """Both counts with neighbours added up until the smaller sample expects EXPECTED_MIN in each."""
    both = reference + current
    total = float(both.sum())
    if not total:
        return reference[:0], current[:0]
    expected = both * min(float(reference.sum()), float(current.sum())) / total
    starts, held = [0], 0.0
    for i, value in enumerate(expected.tolist()):
        if held >= EXPECTED_MIN:
            starts.append(i)
            held = 0.0
        held += value
    if held < EXPECTED_MIN and len(starts) > 1:
        starts.pop()
    return np.add.reduceat(reference, starts), np.add.reduceat(current, starts)


def _gamma_upper(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function: a series left of a + 1, Lentz's continued fraction right of it.

    Source: Press et al., Numerical Recipes (3rd ed., 2007), 6.2.
    """
    front = math.exp(-x + a * math.log(x) - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, _TERMS_MAX):
            term *= x / (a + n)
            total += term
            if term < total * _PRECISION:
                break
        return min(1.0, max(0.0, 1 - total * front))
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    h = d
    for i in range(1, _TERMS_MAX):
        step = -i * (i - a)
        b += 2
        d = 1 / (step * d + b or tiny)
        c = b + step / c or tiny
        h *= d * c
        if abs(d * c - 1) < _PRECISION:
            break
    return min(1.0, max(0.0, front * h))
