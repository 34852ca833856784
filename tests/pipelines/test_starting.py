"""Schedules and triggers: what starts runs without a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from noria.kernel.errors import Invalid
from noria.pipelines.schedules import latest_time, next_time
from tests.conftest import Noria
from tests.pipelines.given import Worker, register, spec, submit, view


def ms(*when: int, zone: str = "UTC") -> int:
    return int(datetime(*when, tzinfo=ZoneInfo(zone)).timestamp() * 1000)  # type: ignore[arg-type, misc]


def runs(noria: Noria, pipeline: str = "churn") -> list[dict[str, Any]]:
    return list(noria.http.get("/api/v1/pipeline-runs", params={"pipeline": pipeline}).json()["items"])


def create(noria: Noria, what: str, **body: Any) -> Any:
    return noria.http.post(f"/api/v1/{what}", json={"name": "one", "pipeline": "churn", **body})


def test_next_times_follow_the_zone_through_summer_time() -> None:
    before = ms(2026, 3, 28, 12, zone="Europe/Paris")
    first = next_time("0 3 * * *", "Europe/Paris", after_ms=before)
    assert first == ms(2026, 3, 29, 3, zone="Europe/Paris") == ms(2026, 3, 29, 1)
    assert next_time("0 3 * * *", "Europe/Paris", after_ms=ms(2026, 3, 27, 12)) == ms(2026, 3, 28, 2)


def test_latest_time_is_the_last_that_has_come() -> None:
    assert latest_time("0 * * * *", "UTC", since_ms=ms(2026, 1, 1, 1), upto_ms=ms(2026, 1, 1, 5, 30)) == ms(2026, 1, 1, 5)
    assert latest_time("0 * * * *", "UTC", since_ms=ms(2026, 1, 1, 1), upto_ms=ms(2026, 1, 1, 5)) == ms(2026, 1, 1, 5)


@pytest.mark.parametrize(
    ("cron", "zone"), [("nonsense", "UTC"), ("0 3 * * 9", "UTC"), ("0 3 * * 1", "Mars/Base"), ("0 0 31 2 *", "UTC")]
)
def test_bad_times_are_refused(cron: str, zone: str) -> None:
    with pytest.raises(Invalid):
        next_time(cron, zone, after_ms=0)


def test_a_schedule_starts_one_run_per_time_and_one_for_all_it_missed(noria: Noria) -> None:
    register(noria)
    made = create(noria, "schedules", cron="*/10 * * * *").json()
    assert runs(noria) == []
    until_s = (made["next_at_ms"] - noria.clock.now_ms()) / 1000
    noria.clock.advance(until_s)
    noria.settle()
    noria.settle()
    assert len(runs(noria)) == 1
    noria.clock.advance(3600)
    noria.settle()
    assert len(runs(noria)) == 2
    found = noria.http.get("/api/v1/schedules").json()["items"][0]
    assert found["last_run_id"] == runs(noria)[0]["id"] and found["next_at_ms"] > noria.clock.now_ms()
    assert runs(noria)[0]["owner"] == "local" and runs(noria)[0]["actor"] == "trigger:one for local"


def test_a_schedule_can_be_turned_off_and_deleted(noria: Noria) -> None:
    register(noria)
    create(noria, "schedules", cron="* * * * *")
    assert create(noria, "schedules", cron="* * * * *").status_code == 409
    noria.http.patch("/api/v1/schedules/one", json={"is_enabled": False})
    noria.clock.advance(300)
    noria.settle()
    assert runs(noria) == []
    assert noria.http.delete("/api/v1/schedules/one").status_code == 204
    assert noria.http.delete("/api/v1/schedules/one").status_code == 404
    assert [e.kind for e in noria.facts() if e.kind.startswith("schedule")] == [
        "schedule.created", "schedule.changed", "schedule.deleted",
    ]  # fmt: skip


def test_a_schedule_needs_a_pipeline_and_its_parameters(noria: Noria) -> None:
    register(noria)
    assert create(noria, "schedules", cron="* * * * *", pipeline="nope").status_code == 404
    refused = create(noria, "schedules", cron="* * * * *", params={"unknown": 1})
    assert refused.status_code == 400 and "unknown" in refused.json()["error"]["message"]


def other(noria: Noria) -> dict[str, Any]:
    """A run of another pipeline that ends well: the fact that triggers wait for."""
    register(noria, spec(noria, "source", steps={"only": []}))
    run = submit(noria, "source")
    Worker(noria).work()
    return run


def test_a_fact_starts_a_run_once_with_parts_of_it_as_parameters(noria: Noria) -> None:
    register(noria)
    made = create(
        noria, "triggers", kinds=["pipeline_run.succeeded"], params={"rows": "${data.outputs.result}"},
        filter=[{"field": "data.pipeline", "value": "source"}],
    )  # fmt: skip
    assert made.status_code == 200, made.text
    other(noria)
    noria.settle()
    noria.settle()
    (run,) = runs(noria)
    assert run["params"] == {"rows": "result of only"}
    fact = noria.facts("pipeline_run.succeeded")[0]
    assert run["cause"] == fact.seq
    assert noria.facts("pipeline_run.submitted")[-1].cause == fact.seq
    for trigger in [noria.app.triggers]:  # told again after a crash
        trigger.handle(fact)
    assert len(runs(noria)) == 1


def test_the_condition_and_the_cooldown_hold_runs_back(noria: Noria) -> None:
    register(noria)
    create(
        noria,
        "triggers",
        kinds=["pipeline_run.succeeded"],
        cooldown_s=600,
        filter=[{"field": "data.pipeline", "op": "like", "value": "sou*"}],
    )
    other(noria)
    noria.settle()
    other(noria)
    noria.settle()
    assert len(runs(noria)) == 1
    found = noria.http.get("/api/v1/triggers").json()["items"][0]
    assert found["skipped"] == 1 and "cooling down" in found["error"]
    noria.clock.advance(601)
    other(noria)
    noria.settle()
    assert len(runs(noria)) == 2


def test_a_trigger_does_not_answer_to_itself(noria: Noria) -> None:
    register(noria)
    create(noria, "triggers", kinds=["pipeline_run.succeeded", "step_run.succeeded"])
    other(noria)
    for _ in range(3):
        noria.settle()
        Worker(noria).work()
    noria.settle()
    found = noria.http.get("/api/v1/triggers").json()["items"][0]
    assert len(runs(noria)) == 2 and "answered to itself" in found["error"]


def test_a_trigger_whose_owner_lost_the_right_starts_nothing_and_says_so(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    bob = noria.as_("bob", "maintainer")
    import msgspec

    root = noria.as_("root2", "admin")
    root.post("/api/v1/pipelines", content=msgspec.json.encode(spec(noria)))
    root.post("/api/v1/pipelines", content=msgspec.json.encode(spec(noria, "source", steps={"only": []})))
    body = {
        "name": "one",
        "pipeline": "churn",
        "kinds": ["pipeline_run.submitted"],
        "filter": [{"field": "data.pipeline", "value": "source"}],
    }
    assert bob.post("/api/v1/triggers", json=body).status_code == 200
    root.delete("/api/v1/principals/bob")
    root.post("/api/v1/pipelines/source/runs", json={})
    noria.settle()
    found = root.get("/api/v1/triggers").json()["items"][0]
    assert "may not do pipeline.run" in found["error"] and found["skipped"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"kinds": []}, {"kinds": ["no.such"]}, {"kinds": ["run.created"], "params": {"rows": "${date.x}"}},
        {"kinds": ["run.created"], "filter": [{"field": "nothing", "value": 1}]}, {"kinds": ["run.created"], "cooldown_s": -1},
    ],
)  # fmt: skip
def test_bad_rules_are_refused(noria: Noria, wrong: dict[str, Any]) -> None:
    register(noria)
    assert create(noria, "triggers", **wrong).status_code == 400


def test_view_names_the_fact_of_the_submission(noria: Noria) -> None:
    register(noria)
    run = submit(noria)
    assert view(noria, run["id"])["fact"] == noria.facts("pipeline_run.submitted")[0].seq
    assert datetime.fromtimestamp(run["created_at_ms"] / 1000, UTC)
