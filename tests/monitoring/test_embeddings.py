"""Drift of vectors: beside scikit-learn's kernel, by simulation, and through the door."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

from noria.monitoring.embeddings import POINTS_MAX, discrepancy, is_vector, points_of, thinned, vectors_of
from tests.conftest import Noria
from tests.monitoring.given import DAY, answers

RANDOM = np.random.default_rng(8)


def test_the_discrepancy_is_that_of_the_paper() -> None:
    a, b = RANDOM.normal(0, 1, (80, 5)), RANDOM.normal(0.4, 1, (60, 5))
    both = np.concatenate([a, b])
    middle = np.median(euclidean_distances(both, squared=True)[np.triu_indices(140, 1)])
    xx, yy, xy = (rbf_kernel(p, q, gamma=1 / middle) for p, q in ((a, a), (b, b), (a, b)))
    unbiased = (xx.sum() - 80) / (80 * 79) + (yy.sum() - 60) / (60 * 59) - 2 * xy.mean()
    value, p_value = discrepancy(a, b)
    assert value == pytest.approx(np.sqrt(unbiased), abs=1e-9)
    assert p_value < 0.05


def test_it_cries_seldom_without_drift_and_sees_a_change_of_form() -> None:
    assert (
        sum(discrepancy(RANDOM.normal(0, 1, (60, 8)), RANDOM.normal(0, 1, (150, 8)), seed=i)[1] <= 0.05 for i in range(100))
        <= 12
    )
    ring = RANDOM.normal(0, 1, (300, 2))
    ring *= np.sqrt(2) / np.linalg.norm(ring, axis=1)[:, None]  # the mean and the spread of each column are as before
    assert discrepancy(RANDOM.normal(0, 1, (300, 2)), ring)[1] <= 0.002


def test_what_is_no_point_is_left_out() -> None:
    lists = np.asarray(["[1, 2]", "[3, 4]", None, "[5]", "nonsense", '["a", "b"]', "[7, 8]"], dtype=object)
    assert points_of({"e": lists}, ["e"]).tolist() == [[1, 2], [3, 4], [7, 8]]
    assert points_of({"x": np.array([1.0, np.nan]), "y": np.array([2.0, 3.0])}, ["x", "y"]).tolist() == [[1, 2]]
    assert len(points_of({"x": np.array([1.0])}, ["x", "y"])) == 0
    assert len(points_of({"e": np.asarray([None, "nonsense", []], dtype=object)}, ["e"])) == 0
    assert is_vector(lists)
    assert not is_vector(np.asarray(["UA", None], dtype=object))
    assert discrepancy(np.ones((30, 2)), np.ones((40, 2))) == (0.0, 1.0)
    assert np.isnan(discrepancy(np.ones((30, 2)), np.ones((40, 3)))[0])
    assert np.isnan(discrepancy(np.ones((3, 2)), np.ones((40, 2)))[0])
    points = RANDOM.normal(size=(2000, 3))
    kept = vectors_of(points)
    assert kept is not None
    assert kept.points() == pytest.approx(thinned(points), abs=1e-6)
    assert (len(kept.points()), kept.rows) == (POINTS_MAX, 2000)


def test_a_monitor_of_embeddings(noria: Noria) -> None:
    made = {
        "name": "meaning", "endpoint": "flights", "metric": "embedding", "columns": ["text"], "limit": 0.05, "window_s": 86_400,
        "min_count": 50, "reference": f"traffic:{10 * DAY}-{11 * DAY}",
    }  # fmt: skip
    assert noria.http.post("/api/v1/monitors", json={**made, "columns": []}).status_code == 400
    assert noria.http.post("/api/v1/monitors", json={**made, "reference": "dataset:flights@1"}).status_code == 400
    assert noria.http.post("/api/v1/monitors", json=made).status_code == 201
    for day, shift in ((10, 0.0), (11, 0.0), (12, 0.5)):
        answers(noria, [
            {"event_at_ms": day * DAY + i, "score": 0.5, "in_text": json.dumps((RANDOM.normal(0, 1, 16) + shift).round(4).tolist())}
            for i in range(200)
        ])  # fmt: skip
    answers(noria, [{"event_at_ms": 13 * DAY + i, "score": 0.5, "in_text": "none"} for i in range(60)])
    answers(noria, [{"event_at_ms": 14 * DAY, "score": 0.5}])
    windows = {w["start_ms"] // DAY: w for w in noria.http.get("/api/v1/monitors/meaning/windows").json()["items"]}
    assert [windows[d]["verdict"] for d in (11, 12)] == ["within", "over"]
    assert (windows[13]["value"], windows[13]["verdict"]) == (None, "too_few"), "a window without any list"
    assert windows[12]["findings"][0]["p_value"] <= 0.002
    columns = noria.http.get(f"/api/v1/endpoints/flights/drift?reference=traffic:{10 * DAY}-{11 * DAY}").json()["items"]
    assert all(c["column"] != "text" for w in columns for c in w["columns"]), "lists are no words"
