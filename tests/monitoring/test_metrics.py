"""Metrics: golden numbers against scipy and scikit-learn, and what holds for every metric in the table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    mean_absolute_error,
    mean_absolute_percentage_error,
    precision_score,
    recall_score,
    roc_auc_score,
)

from noria.kernel.errors import Invalid
from noria.monitoring.comparison import distance
from noria.monitoring.metrics import METRICS, Metric, metric_of
from noria.monitoring.metrics.base import wilson
from noria.monitoring.metrics.psi import psi
from noria.monitoring.sketches import align, sketch_column, sketch_numbers

DRIFT = [m for m in METRICS.values() if m.kind == "drift"]
DRIFT_OF_WORDS = [m for m in DRIFT if m.of_words]
# Orders have properties of their own: tests/monitoring/test_ranking.py.
PERFORMANCE = [m for m in METRICS.values() if m.kind == "performance" and "request" not in m.takes]
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False) | st.just(math.nan)
SAMPLES = arrays(np.float64, st.integers(1, 60), elements=NUMBERS)
rng = np.random.default_rng(7)


def compare(metric: Metric, reference: Any, current: Any) -> float:
    """The metric of two samples, on the way the product takes: through sketches."""
    found = align(sketch_column(reference), sketch_column(current), bins=metric.bins)
    return distance(metric, found)


def labelled(n: int = 2000) -> tuple[Any, Any]:
    score = np.round(rng.beta(1.2, 4, n), 3)  # rounded, so that there are ties
    return score, (rng.random(n) < score).astype(float)


# --- golden numbers -------------------------------------------------------------------------------------------------


def test_ks_is_scipys_up_to_the_accuracy_of_the_sketch() -> None:
    a, b = rng.normal(50, 10, 4000), rng.normal(52, 12, 3000)
    assert compare(METRICS["ks"], a, b) == pytest.approx(ks_2samp(a, b).statistic, abs=0.01)


def test_ks_of_whole_numbers_is_scipys_exactly() -> None:
    a, b = rng.integers(1, 60, 4000).astype(float), rng.integers(5, 60, 3000).astype(float)
    assert compare(METRICS["ks"], a, b) == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)


def test_js_is_scipys_distance() -> None:
    p, q = rng.integers(1, 100, 12).astype(float), rng.integers(1, 100, 12).astype(float)
    assert METRICS["js"].call(p, q) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-12)
    assert METRICS["js"].call(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1.0


@pytest.mark.parametrize("draw", [(50, 10, 52, 12), (0, 1, 0.3, 1), (-5, 2, -5, 4), (3, 100, 3, 100)])
def test_wasserstein_is_scipys_up_to_the_accuracy_of_the_sketch(draw: tuple[float, float, float, float]) -> None:
    a, b = rng.normal(draw[0], draw[1], 4000), rng.normal(draw[2], draw[3], 3000)
    largest = 0.005 * float(np.abs(np.concatenate([a, b])).max()) * 2
    assert compare(METRICS["wasserstein"], a, b) == pytest.approx(
        wasserstein_distance(a, b) / a.std(), abs=largest / a.std()
    )


def test_wasserstein_leaves_words_and_missing_values_out() -> None:
    some, words = np.arange(1.0, 200.0), np.array(["a", "b"], dtype=object)
    with_holes = np.concatenate([some, np.full(50, math.nan)])
    assert compare(METRICS["wasserstein"], some, with_holes) == 0.0
    assert math.isnan(compare(METRICS["wasserstein"], words, words))


def test_l_infinity_is_the_largest_change_of_a_share() -> None:
    assert METRICS["l_infinity"].call(np.array([50.0, 30, 20, 0]), np.array([20.0, 30, 40, 10])) == pytest.approx(0.3)


def test_psi_of_a_worked_example() -> None:
    """Siddiqi's table form: shares .3 .4 .3 against .2 .4 .4: .1 ln 1.5 + 0 + .1 ln(4/3)."""
    value = psi(np.array([300.0, 400, 300]), np.array([200.0, 400, 400]), corrected=False)
    assert value == pytest.approx(0.1 * math.log(1.5) + 0.1 * math.log(4 / 3))


def test_psi_without_drift_is_about_its_bias_and_the_correction_takes_it_away() -> None:
    """The design notes' case: 200 categories, 20,000 against 5,000 rows without any drift show 0.05."""
    raw, corrected = [], []
    for _ in range(30):
        p = rng.multinomial(20_000, [1 / 200] * 200).astype(float)
        q = rng.multinomial(5_000, [1 / 200] * 200).astype(float)
        raw.append(psi(p, q, corrected=False))
        corrected.append(psi(p, q))
    assert np.mean(raw) == pytest.approx(199 * (1 / 20_000 + 1 / 5_000), rel=0.1)
    assert np.mean(corrected) < 0.005


def test_scores_are_judged_as_scikit_learn_judges_them() -> None:
    score, truth = labelled()
    hit = ((score >= 0.5) == (truth > 0.5)).astype(float)
    assert METRICS["log_loss"].call(score, truth).value == pytest.approx(log_loss(truth, score), rel=1e-9)
    assert METRICS["brier"].call(score, truth).value == pytest.approx(brier_score_loss(truth, score), rel=1e-12)
    assert METRICS["auc"].call(score, truth).value == pytest.approx(roc_auc_score(truth, score), rel=1e-12)
    assert METRICS["accuracy"].call(hit).value == pytest.approx(accuracy_score(truth > 0.5, score >= 0.5), rel=1e-12)
    said = score >= 0.5
    assert METRICS["precision"].call(hit, truth).value == pytest.approx(precision_score(truth, said), rel=1e-12)
    assert METRICS["recall"].call(hit, truth).value == pytest.approx(recall_score(truth, said), rel=1e-12)
    assert METRICS["f1"].call(hit, truth).value == pytest.approx(f1_score(truth, said), rel=1e-12)
    assert METRICS["average_precision"].call(score, truth).value == pytest.approx(
        average_precision_score(truth, score), rel=1e-12
    )
    assert METRICS["mape"].call(score, truth + 1).value == pytest.approx(
        mean_absolute_percentage_error(truth + 1, score), rel=1e-12
    )
    assert METRICS["mae"].call(score, truth).value == pytest.approx(mean_absolute_error(truth, score), rel=1e-12)
    assert METRICS["rmse"].call(score, truth).value ** 2 == pytest.approx(brier_score_loss(truth, score), rel=1e-12)


def test_the_calibration_gap_is_the_difference_of_the_means() -> None:
    score, truth = np.array([0.2, 0.4, 0.6]), np.array([1.0, 1.0, 0.0])
    found = METRICS["calibration_gap"].call(score, truth)
    assert found.value == pytest.approx(2 / 3 - 0.4)
    assert found.low == 0.0 < found.value < found.high


def test_wilsons_interval_of_a_known_case() -> None:
    """81 of 263: .2553 to .3662 (Newcombe, Statistics in Medicine 17 (1998), table I, method 3)."""
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize("name", ["brier", "log_loss", "accuracy", "auc", "mae", "precision", "recall", "f1"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(name: str) -> None:
    metric = METRICS[name]

    def draw(n: int) -> Any:
        score = rng.beta(2, 3, n)
        truth = (rng.random(n) < score).astype(float)
        columns = {"score": score, "truth": truth, "hit": ((score >= 0.5) == (truth > 0.5)).astype(float)}
        return metric.call(*(columns[c] for c in metric.takes))

    long_run = draw(400_000).value
    covered = np.mean([found.low <= long_run <= found.high for found in (draw(300) for _ in range(300))])
    assert 0.90 <= covered <= 1.0


# --- what holds for every metric --------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", DRIFT, ids=lambda m: m.name)
@given(a=SAMPLES, b=SAMPLES, seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_drift_is_zero_for_itself_not_negative_and_blind_to_order(metric: Metric, a: Any, b: Any, seed: int) -> None:
    assert compare(metric, a, a) == 0.0 or (not metric.of_words and np.isnan(a).all())
    value = compare(metric, a, b)
    if metric.of_words:  # a distance of numbers alone is not defined when all are missing
        assert value >= 0.0
        assert math.isfinite(value)
    shuffled = np.random.default_rng(seed)
    assert compare(metric, shuffled.permutation(a), shuffled.permutation(b)) == pytest.approx(value, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("metric", DRIFT_OF_WORDS, ids=lambda m: m.name)
def test_drift_of_nothing_is_not_defined_and_missing_values_are_a_value(metric: Metric) -> None:
    some, none = np.arange(1.0, 200.0), np.array([])
    assert math.isnan(compare(metric, none, some))
    assert math.isnan(compare(metric, some, none))
    assert compare(metric, some, np.full(200, math.nan)) > 0.5
    assert compare(metric, np.full(200, math.nan), np.full(100, math.nan)) == 0.0


@pytest.mark.parametrize("metric", DRIFT_OF_WORDS, ids=lambda m: m.name)
def test_words_drift_too(metric: Metric) -> None:
    a = np.array(["EWR"] * 50 + ["JFK"] * 50, dtype=object)
    b = np.array(["EWR"] * 90 + [None] * 10, dtype=object)
    assert compare(metric, a, a) == 0.0
    assert compare(metric, a, b) > 0.1


@pytest.mark.parametrize("metric", PERFORMANCE, ids=lambda m: m.name)
@given(n=st.integers(1, 40), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_performance_is_blind_to_order_and_to_rows_without_truth(metric: Metric, n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    score, truth = draw.random(n), draw.integers(0, 2, n).astype(float)
    columns = {"score": score, "truth": truth, "hit": (score.round() == truth).astype(float)}
    taken = [columns[c] for c in metric.takes]
    found = metric.call(*taken)
    order = draw.permutation(n)
    again = metric.call(*(c[order] for c in taken))
    padded = metric.call(*(np.append(c, math.nan) for c in taken))
    assert again.value == pytest.approx(found.value, abs=1e-12, nan_ok=True)
    assert padded.value == pytest.approx(found.value, abs=1e-12, nan_ok=True)
    if not math.isnan(found.value):
        assert found.value >= 0.0
        assert math.isnan(found.low) or found.low <= found.value + 1e-12
        assert math.isnan(found.high) or found.value <= found.high + 1e-12


@pytest.mark.parametrize("metric", PERFORMANCE, ids=lambda m: m.name)
def test_performance_of_nothing_is_not_defined_and_perfect_is_best(metric: Metric) -> None:
    none = np.array([])
    assert math.isnan(metric.call(*(none for _ in metric.takes)).value)
    truth = np.array([0.0, 1.0, 1.0, 0.0])
    columns = {"score": truth, "truth": truth, "hit": np.ones(4)}
    best = metric.call(*(columns[c] for c in metric.takes)).value
    assert best == pytest.approx(1.0 if metric.better == "high" else 0.0, abs=1e-12)


def test_auc_needs_both_kinds() -> None:
    assert math.isnan(METRICS["auc"].call(np.array([0.1, 0.2]), np.array([1.0, 1.0])).value)


def test_every_metric_says_where_it_comes_from() -> None:
    for metric in METRICS.values():
        assert metric.source
        assert metric.call.__doc__
    with pytest.raises(Invalid, match="no metric 'psy'"):
        metric_of("psy")


def test_one_row_has_no_interval() -> None:
    found = METRICS["brier"].call(np.array([0.5]), np.array([1.0]))
    assert found.value == 0.25
    assert math.isnan(found.low)


def test_nulls_are_counted() -> None:
    sketch = sketch_numbers(np.array([1.0, math.nan, math.inf, 2.0]))
    assert (sketch.count, sketch.nulls) == (2, 2)
    assert METRICS["null_share"].call(sketch.nulls, 4).value == 0.5
    assert math.isnan(METRICS["null_share"].call(0, 0).value)
