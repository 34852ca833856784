"""Chance: tests and adjustments against SciPy, and how often a column without drift is called drifted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from noria.monitoring.baselines import Reference
from noria.monitoring.comparison import compare
from noria.monitoring.metrics import METRICS
from noria.monitoring.model import MonitorSpec
from noria.monitoring.significance import (
    benjamini_hochberg,
    chi2_sf,
    chi2_test,
    kolmogorov_sf,
    ks_test,
    normal_two_sided,
)
from noria.monitoring.sketches import Profile, sketch_column

rng = np.random.default_rng(3)


@pytest.mark.parametrize("df", [1, 2, 5, 9, 40, 499])
@pytest.mark.parametrize("x", [1e-6, 0.1, 1.0, 7.5, 30.0, 480.0, 900.0])
def test_chi_square_tails_are_scipys(x: float, df: int) -> None:
    assert chi2_sf(x, df) == pytest.approx(stats.chi2.sf(x, df), rel=1e-9, abs=1e-14)


def test_kolmogorov_and_normal_tails_are_scipys() -> None:
    for x in (0.1, 0.3, 0.8, 1.36, 2.0, 4.0):
        assert kolmogorov_sf(x) == pytest.approx(stats.kstwobign.sf(x), abs=1e-6)
        assert normal_two_sided(x) == pytest.approx(2 * stats.norm.sf(x), rel=1e-12)


def test_the_chi_square_test_is_scipys_when_no_bin_is_small() -> None:
    a, b = rng.integers(20, 200, 12).astype(float), rng.integers(20, 200, 12).astype(float)
    expected = stats.chi2_contingency(np.array([a, b]), correction=False)
    assert chi2_test(a, b) == pytest.approx((expected.statistic, expected.dof, expected.pvalue), rel=1e-9)


def test_small_bins_are_counted_with_their_neighbours() -> None:
    a, b = np.array([100.0, 1, 1, 100, 1]), np.array([100.0, 2, 0, 100, 0])
    expected = stats.chi2_contingency(np.array([[100.0, 103], [100, 102]]), correction=False)
    assert chi2_test(a, b) == pytest.approx((expected.statistic, 1, expected.pvalue), rel=1e-9)
    assert chi2_test(np.array([2.0, 1]), np.array([1.0, 2])) == (0.0, 0, 1.0)
    assert chi2_test(np.array([0.0, 0]), np.array([0.0, 0])) == (0.0, 0, 1.0)


def test_the_ks_test_is_scipys_for_large_samples() -> None:
    a, b = rng.normal(0, 1, 4000), rng.normal(0.05, 1, 3000)
    found = stats.ks_2samp(a, b, method="asymp")
    assert ks_test(found.statistic, 4000, 3000) == pytest.approx(found.pvalue, rel=0.05)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_benjamini_hochberg_is_scipys(p_values: list[float]) -> None:
    assert benjamini_hochberg(p_values) == pytest.approx(list(stats.false_discovery_control(p_values)), abs=1e-12)


@pytest.mark.parametrize("name", ["psi", "js", "ks", "wasserstein", "l_infinity"])
@pytest.mark.parametrize(("n", "m"), [(20_000, 200), (5_000, 5_000), (300, 20_000)])
def test_columns_without_drift_do_not_fire_whatever_the_sizes(name: str, n: int, m: int) -> None:
    """A limit of 0 leaves the decision to chance alone: of 60 windows of 8 columns, alpha = 5 %, about 5 % may have any finding."""
    fired = 0
    spec = MonitorSpec(name="m", endpoint="e", metric=name, limit=0.0, alpha=0.05)
    for _ in range(60):
        found = compare(METRICS[name], profile(draw(m)), Reference(sketches=profile(draw(n)).columns), spec)
        fired += any(f.is_over for f in found)
    assert fired <= 9  # binomial(60, 0.05): 10 or more once in 1,600 times


def test_a_column_that_drifts_fires_although_its_distance_is_below_what_chance_shows_elsewhere() -> None:
    """PSI 0.02 in 20,000 rows is drift; the same in 200 rows is chance: no single limit on PSI can tell."""
    spec = MonitorSpec(name="m", endpoint="e", metric="psi", limit=0.01)
    reference = Reference(sketches=profile(draw(50_000)).columns)
    moved = {"a": rng.normal(0.15, 1, 20_000)}
    large = compare(METRICS["psi"], profile(moved), reference, spec)[0]
    assert large.is_over
    assert large.value == pytest.approx(0.15**2, abs=0.01)
    assert large.q_value is not None
    assert large.q_value < 1e-6
    small = [compare(METRICS["psi"], profile({"a": rng.normal(0, 1, 200)}), reference, spec)[0] for _ in range(100)]
    assert sum((f.value or 0) > 0.01 for f in small) > 5  # chance passes the limit …
    assert sum(f.is_over for f in small) <= 5  # … and is known for what it is


def test_false_discoveries_stay_below_alpha_beside_true_ones() -> None:
    spec = MonitorSpec(name="m", endpoint="e", metric="ks", limit=0.0, alpha=0.1)
    wrong = right = 0
    for _ in range(40):
        still = {f"s{i}": rng.normal(0, 1, 2000) for i in range(16)}
        moved = {f"m{i}": rng.normal(0.25, 1, 2000) for i in range(4)}
        then = {n: rng.normal(0, 1, 4000) for n in (*still, *moved)}
        found = compare(METRICS["ks"], profile({**still, **moved}), Reference(sketches=profile(then).columns), spec)
        wrong += sum(f.is_over for f in found if f.column.startswith("s"))
        right += sum(f.is_over for f in found if f.column.startswith("m"))
    assert right == 160
    assert wrong / (wrong + right) < 0.12


def draw(rows: int) -> dict[str, Any]:
    """Eight columns of several kinds: smooth, heavy-tailed, few values, words, with holes."""
    holes = rng.normal(10, 3, rows)
    holes[rng.random(rows) < 0.1] = math.nan
    return {
        "a": rng.normal(0, 1, rows), "b": rng.lognormal(0, 1, rows), "c": rng.integers(0, 5, rows).astype(float),
        "d": rng.exponential(30, rows), "e": holes, "f": rng.choice(np.array(["x", "y", "z"], dtype=object), rows),
        "g": rng.choice(np.array([f"w{i}" for i in range(60)], dtype=object), rows), "h": rng.random(rows),
    }  # fmt: skip


def profile(columns: dict[str, Any]) -> Profile:
    rows = len(next(iter(columns.values())))
    return Profile(rows=rows, columns={n: sketch_column(v) for n, v in columns.items()})
