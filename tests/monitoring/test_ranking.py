"""Metrics of orders: beside scikit-learn, and from the answers of requests with several rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from noria.monitoring.metrics import METRICS
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, answers, truths

RANDOM = np.random.default_rng(4)
TRUTH = RANDOM.integers(0, 3, (60, 12)).astype(float)
SCORES = RANDOM.random((60, 12))
FLAT = (np.repeat(np.arange(60.0), 12), SCORES.ravel(), TRUTH.ravel())


@pytest.mark.parametrize("k", [1, 3, 10, 20])
def test_ndcg_is_scikit_learns(k: int) -> None:
    order = RANDOM.permutation(len(FLAT[0]))
    found = METRICS["ndcg_at_3"].call(*(c[order] for c in FLAT)) if k == 3 else METRICS[f"ndcg_at_{k}"].call(*FLAT)
    assert found.value == pytest.approx(ndcg_score(TRUTH, SCORES, k=k), abs=1e-12)
    assert found.low < found.value < found.high


def test_map_is_scikit_learns() -> None:
    binary = (TRUTH > 1).astype(float)
    some = binary.any(axis=1)
    expected = label_ranking_average_precision_score(binary[some], SCORES[some])
    found = METRICS["map_at_20"].call(FLAT[0], FLAT[1], binary.ravel())
    assert found.value == pytest.approx(expected, abs=1e-12)


def test_reciprocal_rank_and_hits_by_hand() -> None:
    request = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3], dtype=float)
    score = np.array([0.9, 0.5, 0.1, 0.2, 0.8, 0.5, 0.4, 0.3, 0.2])
    truth = np.array(
        [0, 1, 1, 1, 0, np.nan, np.nan, 0, np.nan]
    )  # nothing is known of request 2; of 3, that its first was wrong
    assert METRICS["mrr"].call(request, score, truth).value == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert METRICS["hit_rate_at_1"].call(request, score, truth).value == 0
    assert METRICS["hit_rate_at_3"].call(request, score, truth).value == pytest.approx(2 / 3)
    assert METRICS["map_at_3"].call(request, score, truth).value == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1 / 2) / 2)
    nothing = METRICS["ndcg_at_10"].call(np.empty(0), np.empty(0), np.empty(0))
    assert nothing.value != nothing.value


def test_a_request_of_several_rows_is_ranked_when_its_truth_comes(noria: Noria) -> None:
    def rows(start: int, best_is: int) -> list[dict[str, object]]:
        return [
            {
                "id": f"r{start + q}" + (f".{i}" if i else ""), "event_at_ms": 10 * DAY + start + q,
                "score": 1.0 if i == best_is else 0.5 - i / 10,
            }
            for q in range(30) for i in range(4)
        ]  # fmt: skip

    answers(noria, rows(0, 0))
    answers(noria, rows(100, 3))
    asked = "/api/v1/endpoints/flights/performance?metric=mrr"
    assert noria.http.get(asked).json()["items"][0]["value"] is None
    truths(noria, [{"id": f"r{q}", "value": 1.0, "at_ms": 10 * DAY + HOUR} for q in (*range(30), *range(100, 130))])
    found = noria.http.get(asked).json()["items"][0]
    assert found["value"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["coverage"] == 0.25
    made = {"name": "order", "endpoint": "flights", "metric": "ndcg_at_3", "limit": 0.9, "window_s": 86_400, "min_count": 10}
    assert noria.http.post("/api/v1/monitors", json=made).status_code == 201
    answers(noria, [{"event_at_ms": 12 * DAY, "score": 0.5}])
    (window,) = noria.http.get("/api/v1/monitors/order/windows").json()["items"]
    assert (window["verdict"], window["value"]) == ("over", pytest.approx((1 + 1 / np.log2(3)) / 2))
    sliced = {**made, "name": "x", "slices": [{"column": "a", "value": "b"}]}
    assert noria.http.post("/api/v1/monitors", json=sliced).status_code == 400
    assert noria.http.get("/api/v1/endpoints/flights/slices?column=a&metric=mrr").status_code == 400
