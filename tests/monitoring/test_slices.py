"""Parts of the traffic, groups, and how much truth there is; through the door."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats.contingency import relative_risk

from noria.monitoring.fairness import difference, ratio
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, answers, spec, truths


def a_day(noria: Noria, day: int, *, bad: str = "", unfair: bool = False, of: int = 600, labels: int | None = None) -> None:
    """Answers for three carriers; of `bad` every second is wrong; unfair: UA gets fewer positive answers than it deserves."""
    rng = np.random.default_rng(day)
    rows, known = [], []
    for i in range(of):
        carrier = ("UA", "AA", "DL")[i % 3]
        truth = float(rng.random() < 0.5)
        said = truth if rng.random() < 0.9 else 1 - truth
        if carrier == bad and i % 2:
            said = 1 - truth
        if unfair and carrier == "UA" and rng.random() < 0.5:
            said = 0.0
        rows.append({
            "id": f"d{day}-{i}", "event_at_ms": day * DAY + i * 1000, "in_carrier": carrier, "in_temp": float(i % 100),
            "score": 0.1 + 0.8 * said, "prediction": said,
        })  # fmt: skip
        known.append({"id": f"d{day}-{i}", "value": truth, "at_ms": day * DAY + i * 1000 + HOUR * (1 + i % 10)})
    answers(noria, rows)
    truths(noria, known[:labels])


def get(noria: Noria, path: str) -> list[dict[str, Any]]:
    found = noria.http.get(f"/api/v1/endpoints/flights/{path}")
    assert found.status_code == 200, found.text
    items: list[dict[str, Any]] = found.json()["items"]
    return items


def test_a_metric_per_value_and_per_range(noria: Noria) -> None:
    a_day(noria, 10, bad="DL")
    found = {w["slice"]: w for w in get(noria, "slices?column=carrier&metric=accuracy")}
    assert set(found) == {"carrier = UA", "carrier = AA", "carrier = DL"}
    assert found["carrier = UA"]["value"] == pytest.approx(0.9, abs=0.06)
    assert found["carrier = DL"]["high"] < found["carrier = UA"]["low"]
    assert {w["count"] for w in found.values()} == {200}
    ranges = get(noria, "slices?column=temp&metric=brier")
    assert next(w["slice"] for w in ranges).startswith("temp < ")
    assert sum(w["count"] for w in ranges) == 600
    for query, where in (
        ("column=moon", "column"),
        ("column=temp&metric=psi", "metric"),
        ("column=temp&windows=0", "windows"),
    ):
        refused = noria.http.get(f"/api/v1/endpoints/flights/slices?{query}")
        assert (refused.status_code, refused.json()["error"]["where"]) == (400, where)


def test_a_monitor_of_slices_names_the_one_that_is_bad(noria: Noria) -> None:
    slices = [{"column": "carrier", "value": c} for c in ("UA", "DL", "XX")] + [{"column": "temp", "low": 50.0}]
    body = {**msgspec.to_builtins(spec("parts", metric="accuracy", limit=0.7, min_count=50)), "slices": slices}
    assert noria.http.post("/api/v1/monitors", json=body).status_code == 201
    a_day(noria, 10)
    a_day(noria, 11, bad="DL")
    a_day(noria, 12, of=1)
    after, before = noria.http.get("/api/v1/monitors/parts/windows").json()["items"]
    assert (before["verdict"], after["verdict"]) == ("within", "over")
    assert "accuracy of carrier = DL is" in after["why"]
    found = {f["column"]: f for f in after["findings"]}
    assert [n for n, f in found.items() if f["is_over"]] == ["carrier = DL"]
    assert found["carrier = XX"]["value"] is None
    assert found["temp ≥ 50"]["count"] == 300


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"slices": [{"column": "a"}]}, "slices[0]"), ({"slices": [{"column": "a", "value": 1.0, "low": 1.0}]}, "slices[0]"),
        ({"slices": [{"column": "a", "low": 2.0, "high": 1.0}]}, "slices[0]"), ({"group": "a"}, "group"),
        ({"metric": "parity_gap"}, "group"), ({"metric": "parity_gap", "group": "a", "slices": [{"column": "a", "low": 0.0}]}, "slices"),
        ({"metric": "parity_gap", "group": "a", "min_group": 1}, "min_group"),
        ({"metric": "estimated_auc"}, "reference"), ({"metric": "estimated_auc", "reference": "dataset:a@1"}, "reference"),
        ({"metric": "psi", "alpha": 0.0, "reference": "traffic:1-2"}, "alpha"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(noria: Noria, fields: dict[str, Any], where: str) -> None:
    refused = noria.http.post("/api/v1/monitors", json={**msgspec.to_builtins(spec(metric="accuracy")), **fields})
    assert (refused.status_code, refused.json()["error"].get("where")) == (400, where)


def test_fairness_over_time(noria: Noria) -> None:
    for metric, limit in (("parity_gap", 0.1), ("parity_ratio", 0.8), ("opportunity_gap", 0.1)):
        body = msgspec.to_builtins(spec(metric, metric=metric, limit=limit, group="carrier"))
        assert noria.http.post("/api/v1/monitors", json=body).status_code == 201
    a_day(noria, 10)
    a_day(noria, 11, unfair=True)
    a_day(noria, 12, of=1)
    for metric in ("parity_gap", "parity_ratio", "opportunity_gap"):
        windows = noria.http.get(f"/api/v1/monitors/{metric}/windows").json()["items"][::-1]
        assert [w["verdict"] for w in windows] == ["within", "over"], metric
        assert windows[1]["low"] <= windows[1]["value"] <= windows[1]["high"]
    [now, before] = get(noria, f"fairness?column=carrier&windows=2&to_ms={12 * DAY}")
    assert now["rates"]["parity_gap"]["between"][0] == "UA"
    assert now["rates"]["parity_gap"]["p_value"] < 0.001 < before["rates"]["parity_gap"]["p_value"]
    [few] = get(noria, f"fairness?column=carrier&windows=1&to_ms={12 * DAY}&min_group=201")
    assert few["rates"]["parity_gap"]["value"] is None
    assert [g["is_counted"] for g in few["rates"]["groups"]] == [False] * 3


def test_many_small_groups_are_not_unfair_by_chance(noria: Noria) -> None:
    """The gap between the extremes of twenty groups of 40 is large by chance alone; the test over all groups knows."""
    rng = np.random.default_rng(8)
    rows = [
        {"event_at_ms": 10 * DAY + i, "in_gate": f"g{i % 20}", "prediction": float(rng.random() < 0.5), "score": 0.5}
        for i in range(800)
    ]
    body = msgspec.to_builtins(spec("gates", metric="parity_gap", limit=0.1, group="gate"))
    assert noria.http.post("/api/v1/monitors", json=body).status_code == 201
    answers(noria, rows)
    answers(noria, [{"event_at_ms": 11 * DAY}])
    [window] = noria.http.get("/api/v1/monitors/gates/windows").json()["items"]
    assert window["value"] > 0.2
    assert (window["verdict"], "which chance explains" in window["why"]) == ("within", True)


def test_newcombes_interval_of_a_known_case() -> None:
    """56 of 70 against 48 of 80: 0.0524 to 0.3339 (Newcombe, Statistics in Medicine 17 (1998), 873, table II, method 10)."""
    found = difference(48, 80, 56, 70)
    assert (round(found.value, 4), round(found.low, 4), round(found.high, 4)) == (0.2, 0.0524, 0.3339)


def test_the_ratio_and_its_interval_are_scipys() -> None:
    theirs = relative_risk(48, 80, 56, 70)
    low, high = theirs.confidence_interval(0.95)
    found = ratio(48, 80, 56, 70)
    assert (found.value, found.low, found.high) == pytest.approx((theirs.relative_risk, low, high), rel=1e-9)
    assert np.isnan(ratio(0, 10, 0, 10).value)


def test_labels_say_how_late_the_truth_comes(noria: Noria) -> None:
    a_day(noria, 10)
    a_day(noria, 11, labels=150)
    now, before = get(noria, "labels?windows=5")
    assert (before["predictions"], before["labels"], before["coverage"]) == (600, 600, 1.0)
    assert (now["labels"], now["coverage"]) == (150, 0.25)
    assert (before["delay_s_p50"], before["delay_s_max"]) == (pytest.approx(5.5 * 3600), 10 * 3600)
    answer = noria.http.get("/api/v1/endpoints/flights/labels").json()
    assert (answer["predictions"], answer["labels"]) == (1200, 750)
    assert answer["watermark_ms"] == 11 * DAY + 599_000
    [_, theirs] = get(noria, "labels?windows=2&by=version")
    assert theirs["model_version"] == "flights@1"
