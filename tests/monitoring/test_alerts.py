"""Alerts that do not flutter, that can be silenced for a while, and that can be tried on the past; through the door."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from noria.monitoring.alerts import stands
from noria.monitoring.backtest import would_alert
from noria.monitoring.model import Window
from tests.conftest import Noria
from tests.monitoring.given import DAY, answers, spec
from tests.monitoring.test_cli import Run, run
from tests.monitoring.test_monitors import a_day, create

__all__ = ["run"]


def state(noria: Noria, name: str = "calibration") -> str:
    found: str = noria.http.get(f"/api/v1/monitors/{name}").json()["state"]
    return found


def test_a_number_that_hovers_about_the_limit_opens_one_alert(noria: Noria) -> None:
    create(noria, limit=0.1)
    create(noria, name="calm", limit=0.1, clear_limit=0.06, owner="team-flights")
    # Of 20 answers with a score of 0.5: 13 late are 0.15 off, 11 are 0.05, and 12 (of 24) none.
    for day, late in enumerate([13, 12, 13, 12, 13, 11, 11], start=10):
        a_day(noria, day, score=0.52, late=late)  # off by 0.13, 0.08 and 0.03
    answers(noria, [{"event_at_ms": 17 * DAY}])
    kinds = {
        n: [f.kind for f in noria.facts("alert.opened", "alert.resolved") if f.data["monitor"] == n]
        for n in ("calibration", "calm")
    }
    assert kinds["calibration"] == ["alert.opened", "alert.resolved"] * 3
    assert kinds["calm"] == ["alert.opened", "alert.resolved"]
    calm = next(f for f in noria.facts("alert.resolved") if f.data["monitor"] == "calm")
    assert "beyond 0.06" in calm.data["reason"]
    [alert] = noria.http.get("/api/v1/alerts?monitor=calm").json()["items"]
    assert (alert["owner"], alert["event_at_ms"], alert["resolved_event_at_ms"]) == ("team-flights", 11 * DAY, 16 * DAY)
    assert next(f for f in noria.facts("alert.opened") if f.data["monitor"] == "calm").data["owner"] == "team-flights"


@pytest.mark.parametrize(
    ("metric", "limit", "clear", "ok"),
    [
        ("calibration_gap", 0.1, 0.2, False),
        ("calibration_gap", 0.1, 0.1, True),
        ("auc", 0.7, 0.6, False),
        ("auc", 0.7, 0.75, True),
    ],
)
def test_a_clear_limit_lies_on_the_good_side(noria: Noria, metric: str, limit: float, clear: float, ok: bool) -> None:
    body = msgspec.to_builtins(spec(metric=metric, limit=limit, clear_limit=clear))
    made = noria.http.post("/api/v1/monitors", json=body)
    assert made.status_code == (201 if ok else 400), made.text
    assert ok or made.json()["error"]["where"] == "clear_limit"


def test_a_muted_monitor_judges_and_opens_nothing_until_its_mute_ends(noria: Noria) -> None:
    create(noria)
    path = "/api/v1/monitors/calibration"
    muted = noria.http.post(f"{path}/mute", json={"for_s": 3600, "reason": "a holiday"}).json()
    assert (muted["mute_reason"], muted["muted_by"]) == ("a holiday", "user:local admin")
    a_day(noria, 10, score=0.5, late=20)
    a_day(noria, 11, score=0.5, late=20)
    assert (state(noria), noria.facts("alert.opened")) == ("pending", [])
    assert [f.data["verdict"] for f in noria.facts("window.evaluated")] == ["over"]
    noria.clock.advance(3601)
    a_day(noria, 12, score=0.5, late=20)
    assert (state(noria), len(noria.facts("alert.opened"))) == ("open", 1)
    assert [f.data["reason"] for f in noria.facts("monitor.muted")] == ["a holiday"]


def test_a_mute_can_be_taken_back_and_must_make_sense(noria: Noria) -> None:
    create(noria)
    path = "/api/v1/monitors/calibration"
    for body, where in (
        ({"reason": "x"}, "until_ms"), ({"reason": "x", "for_s": 1, "until_ms": 1}, "until_ms"), ({"reason": "x", "for_s": -5}, "until_ms"),
        ({"reason": " ", "for_s": 60}, "reason"), ({"reason": "x", "for_s": 1e300}, "until_ms"),
        ({"reason": "x", "until_ms": 5}, "until_ms"),
    ):  # fmt: skip
        refused = noria.http.post(f"{path}/mute", json=body)
        assert (refused.status_code, refused.json()["error"]["where"]) == (400, where), body
    assert noria.http.post(f"{path}/unmute", json={}).status_code == 409
    assert noria.http.post(f"{path}/mute", json={"for_s": 3600, "reason": "x"}).status_code == 200
    assert noria.http.post(f"{path}/unmute", json={}).json()["muted_until_ms"] is None
    a_day(noria, 10, score=0.5, late=20)
    a_day(noria, 11, score=0.5, late=20)
    assert state(noria) == "open"
    assert noria.http.post("/api/v1/monitors/nope/mute", json={"for_s": 60, "reason": "x"}).status_code == 404


def test_a_backtest_says_what_the_monitor_then_says(noria: Noria) -> None:
    for day, late in enumerate([10, 3, 10, 3, 10, 10, 10], start=10):
        a_day(noria, day, score=0.5, late=late)
    body: dict[str, Any] = {"spec": msgspec.to_builtins(spec("tried", k=2, n=3))}
    found = noria.http.post("/api/v1/monitors/backtest", json=body).json()
    assert [w["verdict"] for w in found["windows"][::-1]] == ["within", "over", "within", "over", "within", "within"]
    assert [(a["opened_event_at_ms"], a["resolved_event_at_ms"]) for a in found["alerts"]] == [(14 * DAY, 15 * DAY)]
    assert found["over"] == 2
    assert found["words"] == "It would have fired once in 30 days, for 1 day in all: 2 of 6 windows were over 0.1."
    assert noria.http.get("/api/v1/monitors").json()["items"] == []
    assert noria.facts("window.evaluated") == []
    strict = noria.http.post("/api/v1/monitors/backtest", json={"spec": {**body["spec"], "limit": 0.4}}).json()
    assert (strict["alerts"], strict["over"]) == ([], 0)
    short = noria.http.post("/api/v1/monitors/backtest", json={**body, "days": 1.5}).json()
    assert len(short["windows"]) == 1
    for wrong, where in (
        ({"days": 0}, "days"), ({"from_ms": 5, "to_ms": 5}, "from_ms"), ({"spec": {**body["spec"], "k": 0}}, "k"),
        ({"spec": {**body["spec"], "metric": "psi", "reference": "traffic:1-2"}}, "reference"),
        ({"spec": {**body["spec"], "metric": "null_share", "window_s": 1800}}, "window_s"),
    ):  # fmt: skip
        refused = noria.http.post("/api/v1/monitors/backtest", json={**body, **wrong})
        assert (refused.status_code, refused.json()["error"].get("where")) == (400, where), wrong
    nothing = noria.http.post("/api/v1/monitors/backtest", json={"spec": {**body["spec"], "endpoint": "other"}}).json()
    assert (nothing["windows"], nothing["note"]) == ([], "The endpoint has not answered yet.")


def test_a_backtest_of_drift_against_earlier_traffic(noria: Noria) -> None:
    for day, shift in ((10, 0), (11, 0), (12, 30), (13, 30)):
        answers(noria, [{"event_at_ms": day * DAY + i * 60_000, "in_temp": 40 + shift + i % 50} for i in range(300)])
    answers(noria, [{"event_at_ms": 14 * DAY}])
    body = msgspec.to_builtins(spec("t", metric="ks", limit=0.2, reference=f"traffic:{10 * DAY}-{11 * DAY}"))
    found = noria.http.post("/api/v1/monitors/backtest", json={"spec": body}).json()
    assert [w["verdict"] for w in found["windows"][::-1]] == ["within", "within", "over", "over"]
    assert [(a["opened_event_at_ms"], a["resolved_event_at_ms"]) for a in found["alerts"]] == [(13 * DAY, None)]
    assert found["words"].startswith("It would have fired once in 30 days, for 1 day in all and would be open now: 2 of 4")
    assert noria.as_("eve").post("/api/v1/monitors/backtest", json={"spec": body}).status_code == 403


def test_windows_that_were_not_judged_take_no_part_in_a_backtest() -> None:
    verdicts = ["over", "too_few", "undefined", "over", "within", "within"]
    windows = [
        Window(
            monitor_id="", start_ms=i, end_ms=i + 1, verdict=v, value=1.0, limit=0.5, count=1, predictions=1, coverage=1.0,  # type: ignore[arg-type]
            findings=[], why=v, judged_at_ms=0,
        )
        for i, v in enumerate(verdicts)
    ]  # fmt: skip
    [alert] = would_alert(spec(k=2, n=2), windows)
    assert (alert.opened_event_at_ms, alert.resolved_event_at_ms) == (4, 5)
    assert stands(spec(k=1, n=1), "ok", [("over", 1.0)], is_muted=True) == "pending"
    assert stands(spec(k=1, n=1), "open", [("over", 1.0)], is_muted=True) == "open"


def test_the_commands(noria: Noria, run: Run) -> None:
    create(noria)
    for day, late in ((10, 20), (11, 10), (12, 10)):
        a_day(noria, day, score=0.5, late=late)
    assert "It would have fired once in 30 days, for 1 day in all: 1 of 2 windows" in run("backtest", "calibration").output
    said = run("backtest", "calibration", "--limit", "0.9").output
    assert "It would not have fired in 30 days: 0 of 2 windows were over 0.9." in said
    few = run("backtest", "calibration", "--min-count", "99999").output
    assert "It would have judged nothing in 30 days: no window had the 99,999 rows that it asks for." in few
    assert json.loads(run("backtest", "calibration", "--limit", "0.9", "--json").output)["alerts"] == []
    run("mute", "calibration", "--for", "8h", "--reason", "a holiday")
    assert json.loads(run("show", "calibration", "--json").output)["mute_reason"] == "a holiday"
    run("unmute", "calibration")
    run("unmute", "calibration", code=8)
    run("mute", "calibration", "--for", "soon", "--reason", "x", code=3)
    run("backtest", code=2)
