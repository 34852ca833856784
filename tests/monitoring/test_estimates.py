"""Performance before labels arrive: against NannyML, against the truth, and through the door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from noria.monitoring.boosting import boost
from noria.monitoring.calibration import calibrate, cells_of, isotonic
from noria.monitoring.estimates import CLASSES, LABELS_MIN, Estimator, learn
from noria.monitoring.realised import realised
from noria.monitoring.rows import Rows
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, answers, spec, truths
from tests.monitoring.peers.cases import binary, multiclass, regression

NANNYML = json.loads((Path(__file__).parent / "peers" / "nannyml.json").read_text())
THEIRS = {"auc": "roc_auc"}


def rows_of(case: dict[str, Any], classes: list[str], score: Any) -> Rows:
    n = len(case["truth"])
    said = case["predicted"] if classes else np.full(n, None)
    return Rows(
        of=n, event_at_ms=np.zeros(n, dtype=np.int64), score=score, truth=case["truth"].astype(float),
        hit=(case["predicted"] == case["truth"]).astype(float), predicted=words(said), actual=words(case["truth"]),
        key=np.full(n, "", dtype=object),
        inputs={k: case[k] for k in ("distance", "hour", "place") if k in case}, classes=classes,
        probability=case.get("probability"),
    )  # fmt: skip


def words(values: Any) -> Any:
    return np.asarray([None if v is None else str(v) for v in values], dtype=object)


def taught(rows: Rows) -> Estimator:
    found = learn(rows)
    assert found is not None
    return found


def test_binary_estimates_are_nannymls_and_near_the_truth() -> None:
    then, now = binary(1, is_drifted=False), binary(2, is_drifted=True)
    estimator = taught(rows_of(then, ["0", "1"], then["score"]))
    rows = rows_of(now, ["0", "1"], now["score"])
    for metric in CLASSES:
        found, truth = estimator.estimate(metric, rows), realised(metric, rows).value
        assert found.value == pytest.approx(NANNYML["cbpe_binary"][THEIRS.get(metric, metric)], abs=0.002)
        assert found.value == pytest.approx(truth, abs=0.02)
        assert found.low < found.value < found.high
    uncalibrated = float(np.mean(np.maximum(now["score"], 1 - now["score"])))
    assert abs(uncalibrated - realised("accuracy", rows).value) > 0.03  # without calibration the scores promise too much


def test_multiclass_estimates_are_nannymls_and_near_the_truth() -> None:
    then, now = multiclass(1, is_drifted=False), multiclass(2, is_drifted=True)
    classes = ["0", "1", "2"]
    estimator = taught(rows_of(then, classes, then["probability"].max(axis=1)))
    rows = rows_of(now, classes, now["probability"].max(axis=1))
    for metric in CLASSES:
        found = estimator.estimate(metric, rows)
        assert found.value == pytest.approx(NANNYML["cbpe_multiclass"][THEIRS.get(metric, metric)], abs=0.002)
        assert found.value == pytest.approx(realised(metric, rows).value, abs=0.02)


def test_losses_of_numbers_are_nannymls_and_near_the_truth() -> None:
    then, now = regression(1, is_drifted=False), regression(2, is_drifted=True)
    estimator = taught(rows_of(then, [], then["predicted"]))
    rows = rows_of(now, [], now["predicted"])
    for metric in ("mae", "rmse"):
        found = estimator.estimate(metric, rows).value
        assert found == pytest.approx(NANNYML["dle"][metric], rel=0.01)
        assert found == pytest.approx(realised(metric, rows).value, rel=0.01)
        assert realised(metric, rows_of(then, [], then["predicted"])).value < 0.8 * found  # there was something to see
    assert np.isnan(estimator.estimate("auc", rows).value)


def test_isotonic_regression_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    x = np.arange(300.0)
    y, weight = rng.normal(x / 100, 1), rng.random(300) + 0.1
    assert isotonic(y, weight) == pytest.approx(IsotonicRegression().fit_transform(x, y, sample_weight=weight), abs=1e-9)


def test_the_interval_holds_the_truth_when_scores_are_calibrated() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(60):
        score = rng.random(1500)
        truth = (rng.random(1500) < score).astype(float)
        cells = cells_of(score, score, score >= 0.5)
        found = cells.estimate("f1")
        said = score >= 0.5
        real = 2 * float(np.sum(truth[said])) / (said.sum() + truth.sum())
        inside += found.low <= real <= found.high
    assert inside >= 52


def test_nothing_is_learnt_from_few_labels_or_one_kind() -> None:
    case = binary(1, is_drifted=False)
    rows = rows_of(case, ["0", "1"], case["score"])
    assert learn(rows.take(np.arange(LABELS_MIN - 1))) is None
    assert learn(rows.take(case["truth"] == 1)) is None
    assert calibrate(np.array([]), np.array([])) is None


def test_boosting_finds_a_step_and_passes_over_what_is_missing() -> None:
    rng = np.random.default_rng(3)
    x, noise = rng.random(3000), rng.random(3000)
    place = np.where(rng.random(3000) < 0.5, "a", "b").astype(object)
    target = np.where(x > 0.6, 5.0, 1.0) + np.where(place == "a", 2.0, 0.0)
    model = boost({"x": x, "noise": noise, "place": place}, target)
    asked = {"x": np.array([0.9, 0.1]), "noise": np.array([0.5, 0.5]), "place": np.array(["a", "b"], dtype=object)}
    assert model.predict(asked, 2) == pytest.approx([7.0, 1.0], abs=0.15)
    assert np.isfinite(model.predict({"x": np.array([np.nan])}, 1)).all()


# --- through the door -------------------------------------------------------------------------------------------------


def a_day(noria: Noria, day: int, *, hardness: float, labels: bool = True, of: int = 600) -> None:
    """Answers of a classifier that is right with its score; hard days have scores near a half."""
    rng = np.random.default_rng(day)
    chance = 0.5 + (rng.random(of) - 0.5) * (1 - hardness)
    rows = [
        {
            "id": f"d{day}-{i}",
            "event_at_ms": day * DAY + i * 1000,
            "score": float(c),
            "prediction": float(c >= 0.5),
            "in_x": float(c),
        }
        for i, c in enumerate(chance)
    ]
    answers(noria, rows)
    if labels:
        truths(noria, [
            {"id": r["id"], "value": float(rng.random() < r["score"]), "at_ms": int(r["event_at_ms"]) + HOUR} for r in rows
        ])  # fmt: skip


def test_a_monitor_sees_a_loss_before_its_labels_arrive_and_keeps_the_truth_beside_it(noria: Noria) -> None:
    body = msgspec.to_builtins(
        spec("early", metric="estimated_accuracy", limit=0.65, reference=f"traffic:{10 * DAY}-{11 * DAY}", min_count=100)
    )
    assert noria.http.post("/api/v1/monitors", json=body).status_code == 201
    a_day(noria, 10, hardness=0.0, labels=False)
    a_day(noria, 11, hardness=0.0, labels=False)
    assert noria.http.get("/api/v1/monitors/early/windows").json()["items"] == []  # it waits for labels to learn from
    rng = np.random.default_rng(10)
    chance = 0.5 + (rng.random(600) - 0.5)
    truths(noria, [
        {"id": f"d10-{i}", "value": float(rng.random() < c), "at_ms": 10 * DAY + HOUR} for i, c in enumerate(chance)
    ])  # fmt: skip
    a_day(noria, 12, hardness=0.9, labels=False)
    a_day(noria, 13, hardness=0.0, labels=False, of=1)
    windows = noria.http.get("/api/v1/monitors/early/windows").json()["items"][::-1]
    assert [w["verdict"] for w in windows] == ["within", "within", "over"]
    assert len(noria.facts("alert.opened")) == 1
    estimated, truth = windows[2]["findings"]
    assert (truth["column"], truth["value"], truth["count"]) == ("@realised", None, 0)
    assert estimated["low"] < estimated["value"] < 0.65
    assert estimated["reference_count"] == 600
    rng = np.random.default_rng(99)
    truths(noria, [{"id": f"d12-{i}", "value": float(rng.random() < 0.52), "at_ms": 14 * DAY} for i in range(600)])
    estimated, truth = noria.http.get("/api/v1/monitors/early/windows").json()["items"][0]["findings"]
    assert truth["count"] == 600
    assert truth["value"] == pytest.approx(estimated["value"], abs=0.08)


def test_estimates_stand_beside_what_the_labels_say(noria: Noria) -> None:
    a_day(noria, 10, hardness=0.0)
    a_day(noria, 11, hardness=0.5)
    a_day(noria, 12, hardness=0.5, labels=False)
    found = noria.http.get("/api/v1/endpoints/flights/estimates?metric=accuracy&windows=2").json()["items"]
    assert [(w["start_ms"] // DAY, w["count"], w["labels"], w["learnt_from"]) for w in found] == [
        (12, 600, 0, 600), (11, 600, 600, 600),
    ]  # fmt: skip
    assert found[0]["realised"] is None
    assert found[1]["realised"] == pytest.approx(found[1]["estimated"], abs=0.06)
    assert found[0]["low"] < found[0]["estimated"] < found[0]["high"]
    [first] = noria.http.get(f"/api/v1/endpoints/flights/estimates?windows=1&to_ms={11 * DAY}").json()["items"]
    assert (first["estimated"], first["note"].startswith("Fewer than 200")) == (None, True)
    refused = noria.http.get("/api/v1/endpoints/flights/estimates?metric=brier")
    assert (refused.status_code, refused.json()["error"]["where"]) == (400, "metric")
    assert noria.http.get("/api/v1/endpoints/nothing/estimates").json()["items"] == []


def test_a_regression_and_several_classes_through_the_door(noria: Noria) -> None:
    rng = np.random.default_rng(5)
    for day, wide in ((10, 1.0), (11, 4.0)):
        rows = [
            {"id": f"n{day}-{i}", "event_at_ms": day * DAY + i, "score": 10.0 + i % 7, "prediction": 10.0 + i % 7,
             "in_noise": float(rng.random() * wide)}
            for i in range(500)
        ]  # fmt: skip
        answers(noria, rows, classes="[]")
        known = [
            {
                "id": r["id"],
                "value": float(r["score"]) + float(r["in_noise"]) * (1 if i % 2 else -1),
                "at_ms": day * DAY + HOUR,
            }
            for i, r in enumerate(rows)
        ]
        truths(noria, known)
    [now] = noria.http.get("/api/v1/endpoints/flights/estimates?metric=mae&windows=1").json()["items"]
    assert now["learnt_from"] == 500
    assert now["realised"] > 1.5
    assert now["estimated"] > 0.75  # trees do not extrapolate: the loss of the noisiest rows seen so far, not more
    shares = rng.dirichlet([1, 1, 1], 1000)
    rows = [
        {"id": f"c{i}", "event_at_ms": (12 + i // 500) * DAY + i, "score": float(p.max()), "prediction": float(p.argmax()),
         "probability": p.tolist()}
        for i, p in enumerate(shares)
    ]  # fmt: skip
    answers(noria, rows, classes="[0, 1, 2]", revision="r2", version=2)
    truths(noria, [{"id": f"c{i}", "value": float(rng.choice(3, p=p)), "at_ms": 14 * DAY} for i, p in enumerate(shares)])
    for metric in CLASSES:
        path = f"/api/v1/endpoints/flights/estimates?metric={metric}&windows=1&by=version"
        found = {w["model_version"]: w for w in noria.http.get(path).json()["items"]}["flights@2"]
        assert found["estimated"] == pytest.approx(found["realised"], abs=0.07), metric
