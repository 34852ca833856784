"""Monitors: windows of event time, k of n, late truth, alerts and their story; through the door."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from noria.kernel.ids import Ref
from noria.monitoring.alerts import next_state
from noria.monitoring.model import MonitorSpec
from noria.monitoring.windows import is_due, window_start
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, answers, spec, truths


def create(noria: Noria, **fields: Any) -> Any:
    made = noria.http.post("/api/v1/monitors", json=msgspec.to_builtins(spec(**fields)))
    assert made.status_code == 201, made.text
    return made.json()


def a_day(noria: Noria, day: int, *, score: float, late: int, of: int = 20, labels: bool = True) -> None:
    """`of` answers on day `day` with one score, `late` of them truly late; truth an hour later."""
    rows = [{"id": f"d{day}-{i}", "event_at_ms": day * DAY + i * 60_000, "score": score} for i in range(of)]
    answers(noria, rows, settle=False)
    if labels:
        truth = [
            {"id": r["id"], "value": float(i < late), "at_ms": int(r["event_at_ms"]) + HOUR} for i, r in enumerate(rows)
        ]
        truths(noria, truth, settle=False)
    noria.settle()


def windows(noria: Noria, name: str = "calibration") -> list[tuple[int, str, float | None]]:
    items = noria.http.get(f"/api/v1/monitors/{name}/windows").json()["items"]
    found = [(w["start_ms"] // DAY, w["verdict"], w["value"] and round(w["value"], 4)) for w in items]
    return found[::-1]


def test_a_window_is_judged_when_the_watermark_passes_its_end_by_the_lateness(noria: Noria) -> None:
    create(noria, lateness_s=86_400)
    a_day(noria, 10, score=0.5, late=5)
    a_day(noria, 11, score=0.5, late=10)
    assert windows(noria) == []
    answers(noria, [{"event_at_ms": 12 * DAY - 1}])
    assert windows(noria) == []
    answers(noria, [{"event_at_ms": 12 * DAY}])
    assert windows(noria) == [(10, "over", 0.25)]
    facts = noria.facts("window.evaluated")
    assert [(f.data["verdict"], f.data["count"], f.data["coverage"]) for f in facts] == [("over", 20, 1.0)]
    assert facts[0].cause == noria.facts("segment.written")[-1].seq
    assert facts[0].subject == "monitor:calibration"


def test_k_of_n_windows_open_an_alert_and_good_ones_resolve_it(noria: Noria) -> None:
    create(noria, k=2, n=3)
    states = []
    for day, late in enumerate([10, 3, 10, 3, 10, 10, 10, 10], start=10):  # of 20, with a score of 0.5: 0.35 off when 3
        a_day(noria, day, score=0.5, late=late)
        states.append(noria.http.get("/api/v1/monitors/calibration").json()["state"])
    assert states == ["ok", "ok", "pending", "pending", "open", "pending", "pending", "ok"]
    assert [v for _, v, _ in windows(noria)] == ["within", "over", "within", "over", "within", "within", "within"]
    assert [f.kind for f in noria.facts("alert.opened", "alert.resolved")] == ["alert.opened", "alert.resolved"]
    opened = noria.facts("alert.opened")[0]
    assert opened.subject == "monitor:calibration"
    assert {k: opened.data[k] for k in ("monitor", "metric", "limit", "endpoint", "severity")} == {
        "monitor": "calibration", "metric": "calibration_gap", "limit": 0.1, "endpoint": "flights", "severity": "alert",
    }  # fmt: skip
    assert opened.data["value"] == pytest.approx(0.35)
    alert = noria.http.get("/api/v1/alerts").json()["items"][0]
    assert (alert["state"], alert["event_at_ms"], alert["resolved_event_at_ms"]) == ("resolved", 14 * DAY, 15 * DAY)
    assert alert["why"].startswith("2 of the last 3 windows are over the limit.")


def test_late_truth_opens_its_window_again(noria: Noria) -> None:
    create(noria)
    a_day(noria, 10, score=0.5, late=10)
    answers(noria, [{"event_at_ms": 11 * DAY}])
    assert windows(noria) == [(10, "within", 0.0)]
    truths(noria, [{"id": f"d10-{i}", "value": 1.0, "at_ms": 30 * DAY} for i in range(20)])
    assert windows(noria) == [(10, "over", 0.5)]
    assert [f.data["judgements"] for f in noria.facts("window.evaluated")] == [1, 2]
    truths(noria, [{"id": "nobody", "value": 1.0, "at_ms": 31 * DAY}])
    assert len(noria.facts("window.evaluated")) == 2
    truths(noria, [{"id": "d10-1", "value": 1.0, "at_ms": 32 * DAY}])  # says what is known: no fact
    assert len(noria.facts("window.evaluated")) == 2


def test_too_few_labels_are_not_judged(noria: Noria) -> None:
    create(noria, min_count=21)
    a_day(noria, 10, score=0.5, late=0)
    answers(noria, [{"event_at_ms": 11 * DAY}])
    found = noria.http.get("/api/v1/monitors/calibration/windows").json()["items"][0]
    assert (found["verdict"], found["why"]) == ("too_few", "20 labelled answers; at least 21 are needed.")
    assert noria.http.get("/api/v1/monitors/calibration").json()["state"] == "ok"


def test_days_without_traffic_are_passed_over(noria: Noria) -> None:
    create(noria)
    a_day(noria, 10, score=0.5, late=10)
    a_day(noria, 400, score=0.5, late=10)
    answers(noria, [{"event_at_ms": 401 * DAY}])
    assert [d for d, _, _ in windows(noria)] == [10, 400]


def test_windows_start_at_the_origin() -> None:
    weekly = spec(window_s=7 * 86_400, origin_ms=3 * DAY)
    assert window_start(weekly, 3 * DAY) == 3 * DAY
    assert window_start(weekly, 3 * DAY - 1) == -4 * DAY
    assert is_due(spec(lateness_s=60), 0, DAY + 60_000)
    assert not is_due(spec(lateness_s=60), 0, DAY + 59_999)


def test_drift_against_earlier_traffic(noria: Noria) -> None:
    fields = {"metric": "psi", "limit": 0.25, "reference": f"traffic:{10 * DAY}-{11 * DAY}", "columns": ["temp"]}
    create(noria, name="temp", **fields)
    create(noria, name="scores", **{**fields, "metric": "score_psi", "columns": []})

    def day(number: int, shift: float) -> None:
        answers(noria, [
            {"event_at_ms": number * DAY + i * 60_000, "in_temp": 40 + shift + i % 50, "score": (i % 50 + 1) / 60}
            for i in range(500)
        ])  # fmt: skip

    day(10, 0)
    day(11, 0)
    day(12, 30)
    answers(noria, [{"event_at_ms": 13 * DAY}])
    assert [v for _, v, _ in windows(noria, "temp")] == ["within", "within", "over"]
    assert [v for _, v, _ in windows(noria, "scores")] == ["within"] * 3


def test_drift_against_given_counts(noria: Noria) -> None:
    baseline = {"temp": {"edges": [10.0, 20.0, 30.0], "counts": [25, 25, 25, 25]}}
    create(noria, metric="psi", limit=0.2, baseline=baseline, min_count=5)
    answers(noria, [{"event_at_ms": DAY + i, "in_temp": float(5 + 10 * (i % 4))} for i in range(400)])
    answers(noria, [{"event_at_ms": 2 * DAY + i, "in_temp": 35.0} for i in range(400)])
    answers(noria, [{"event_at_ms": 3 * DAY}])
    found = noria.http.get("/api/v1/monitors/calibration/windows").json()["items"]
    assert [(w["verdict"], w["findings"][0]["column"], w["findings"][0]["reference_count"]) for w in found[::-1]] == [
        ("within", "temp", 100), ("over", "temp", 100),
    ]  # fmt: skip


def test_an_alert_can_be_closed_by_hand_and_old_windows_no_longer_count(noria: Noria) -> None:
    create(noria, k=2, n=3)
    for day in (10, 11, 12):
        a_day(noria, day, score=0.5, late=20)
    alert = noria.http.get("/api/v1/alerts?state=open").json()["items"][0]
    path = f"/api/v1/alerts/{alert['id']}/resolve"
    assert noria.http.post(path, json={"reason": " "}).status_code == 400
    assert noria.http.post(path, json={"reason": "known cause"}).json()["state"] == "resolved"
    assert noria.http.post(path, json={"reason": "again"}).status_code == 409
    assert noria.facts("alert.resolved")[0].data["reason"] == "known cause"
    a_day(noria, 13, score=0.5, late=10)
    assert noria.http.get("/api/v1/monitors/calibration").json()["state"] == "pending"  # day 12 alone
    a_day(noria, 14, score=0.5, late=20)
    a_day(noria, 15, score=0.5, late=20)
    assert len(noria.facts("alert.opened")) == 2


def test_the_story_of_an_alert_walks_back_and_forth(noria: Noria) -> None:
    create(noria)
    a_day(noria, 10, score=0.5, late=20)
    answers(noria, [{"event_at_ms": 11 * DAY}])
    opened = noria.facts("alert.opened")[0]
    op = noria.app.ops.system("triggers", cause=opened.seq)
    with noria.app.db.write(op) as tx:
        tx.emit("principal.disabled", Ref("run", "0197"), name="stands for what a trigger does")
        tx.link(Ref("model_version", "mv"), "built_by", Ref("run", "0197"))
    story = noria.http.get(f"/api/v1/alerts/{opened.data['alert']}").json()
    assert [e["kind"] for e in story["before"]] == ["segment.written", "alert.opened"]
    assert [e["subject"] for e in story["after"]] == ["run:0197"]
    assert story["edges"] == [{"src": "model_version:mv", "kind": "built_by", "dst": "run:0197"}]
    assert noria.http.get("/api/v1/alerts/nope").status_code == 404


def test_history_is_judged_but_only_its_last_windows_can_raise_an_alert(noria: Noria) -> None:
    for day in range(10, 20):
        a_day(noria, day, score=0.5, late=20 if day < 15 else 10)
    create(noria)
    noria.settle()
    assert [v for _, v, _ in windows(noria)] == ["over"] * 5 + ["within"] * 4
    assert noria.facts("alert.opened") == []


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"metric": "nonsense"}, "metric"), ({"window_s": 59}, "window_s"), ({"window_s": 61}, "window_s"),
        ({"origin_ms": 1}, "origin_ms"), ({"k": 2, "n": 1}, "k"), ({"min_count": 0}, "min_count"), ({"name": "a/b"}, "name"),
        ({"lateness_s": -1}, "lateness_s"), ({"metric": "psi"}, "reference"),
        ({"metric": "psi", "reference": "traffic:9-1"}, "reference"), ({"metric": "psi", "reference": "moon"}, "reference"),
        ({"metric": "score_psi", "reference": "dataset:flights@1"}, "reference"),
        ({"metric": "psi", "baseline": {"a": {"edges": [1, 1], "counts": [1, 1, 1]}}}, "baseline.a"),
        ({"metric": "psi", "baseline": {"a": {"edges": [1], "counts": [1, -1]}}}, "baseline.a"),
        ({"metric": "psi", "baseline": {"a": {"edges": [1], "counts": [1, 1]}}, "columns": ["b"]}, "columns"),
    ],
)  # fmt: skip
def test_a_wrong_monitor_is_refused_with_the_field(noria: Noria, fields: dict[str, Any], where: str) -> None:
    body = {**msgspec.to_builtins(spec()), **fields}
    refused = noria.http.post("/api/v1/monitors", json=body)
    assert (refused.status_code, refused.json()["error"].get("where")) == (400, where)


def test_a_name_is_used_once_and_a_monitor_can_be_removed(noria: Noria) -> None:
    create(noria)
    assert noria.http.post("/api/v1/monitors", json=msgspec.to_builtins(spec())).status_code == 409
    assert noria.http.delete("/api/v1/monitors/calibration").status_code == 204
    a_day(noria, 10, score=0.5, late=20)
    a_day(noria, 11, score=0.5, late=20)
    assert windows(noria) == []
    assert noria.http.get("/api/v1/monitors/nope").status_code == 404


def test_performance_by_revision_with_coverage(noria: Noria) -> None:
    a_day(noria, 10, score=0.5, late=5)
    answers(noria, [{"id": f"n{i}", "event_at_ms": 10 * DAY + i, "score": 0.0} for i in range(4)], revision="r2", version=2)
    truths(noria, [{"id": "n0", "value": 0.0, "at_ms": 11 * DAY}, {"id": "n1", "value": 1.0, "at_ms": 11 * DAY}])
    page = noria.http.get("/api/v1/endpoints/flights/performance?metric=brier&by=revision&window_s=86400").json()["items"]
    found = [(w["group"], w["model_version"], w["value"], w["count"], w["coverage"]) for w in page]
    assert found == [("r1", "flights@1", 0.25, 20, 1.0), ("r2", "flights@2", 0.5, 2, 0.5)]
    for bad in ("metric=psi", "by=moon", "window_s=1", "metric=nope"):
        assert noria.http.get(f"/api/v1/endpoints/flights/performance?{bad}").status_code == 400


@pytest.mark.parametrize(
    ("state", "verdicts", "after"),
    [
        ("ok", [], "ok"), ("ok", ["over"], "pending"), ("pending", ["over", "within", "over"], "open"),
        ("open", ["over", "over", "within"], "open"), ("open", ["over", "within", "over"], "open"),
        ("open", ["within", "within", "over"], "open"), ("open", ["over", "within", "within"], "pending"),
        ("open", ["within", "within", "within"], "ok"), ("pending", ["within", "within", "within"], "ok"),
    ],
)  # fmt: skip
def test_states_follow_the_last_verdicts(state: Any, verdicts: list[str], after: str) -> None:
    assert next_state(state, verdicts, k=2) == after


@hypothesis_given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(0, 4))
def test_an_alert_opens_exactly_when_k_of_n_are_over(over: list[bool], k: int, more: int) -> None:
    n, state = k + more, "ok"
    for i in range(len(over)):
        recent = over[max(0, i + 1 - n) : i + 1]
        was, state = state, next_state(state, ["over" if o else "within" for o in recent], k=k)  # type: ignore[arg-type]
        assert state == "open" or sum(recent) < k
        if state == "open" and was != "open":
            assert sum(recent) >= k
        if was == "open" and state != "open":
            assert not recent[-1]
        if not any(recent):
            assert state == "ok"


def test_the_spec_refuses_unknown_fields(noria: Noria) -> None:
    body = {**msgspec.to_builtins(spec()), "treshold": 1}
    refused = noria.http.post("/api/v1/monitors", json=body)
    assert refused.status_code == 400
    assert "treshold" in refused.json()["error"]["message"]
    assert MonitorSpec.__struct_config__.forbid_unknown_fields


def test_a_monitor_that_breaks_the_judge_does_not_stop_those_after_it(
    noria: Noria, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a-broken", "b-whole"):
        noria.app.monitoring.create_monitor(noria.op(), spec(name, "null_share", limit=0.5, columns=("temp",)))
    with noria.app.db.system_write() as tx:
        tx.run("""update monitor set baseline = '{"rows": "many"}' where name = 'a-broken'""")
    answers(noria, [{"event_at_ms": 10 * DAY + i, "score": 0.5, "in_temp": 1.0} for i in range(20)])
    answers(noria, [{"event_at_ms": 12 * DAY, "score": 0.5}])
    assert noria.http.get("/api/v1/monitors/b-whole/windows").json()["items"]
    told = [r for r in caplog.records if r.message == "monitor a-broken could not be judged"]
    assert told and told[0].exc_info, "with its traceback"
