"""Schedules and triggers: what starts runs without a person."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from noria.client.starts import cron, on_dataset, on_drift, on_event, on_files, on_model
from noria.kernel.errors import Invalid
from noria.kernel.ids import Ref
from noria.kernel.signing import new_secret, sign
from noria.pipelines.schedules import latest_time, next_time
from tests.conftest import Noria
from tests.pipelines.given import Worker, register, spec, submit, view


def ms(*when: int, zone: str = "UTC") -> int:
    return int(datetime(*when, tzinfo=ZoneInfo(zone)).timestamp() * 1000)  # type: ignore[arg-type, misc]


def runs(noria: Noria, pipeline: str = "churn") -> list[dict[str, Any]]:
    return list(noria.http.get("/api/v1/pipeline-runs", params={"pipeline": pipeline}).json()["items"])


def test_ones_own_runs_are_told_apart(noria: Noria) -> None:
    register(noria)
    ada, bob = noria.as_("ada", "contributor"), noria.as_("bob", "contributor")
    hers = ada.post("/api/v1/pipelines/churn/runs", json={}).json()["id"]
    his = bob.post("/api/v1/pipelines/churn/runs", json={}).json()["id"]
    for who, run in ((ada, hers), (bob, his)):
        mine = who.get("/api/v1/pipeline-runs", params={"mine": "true", "pipeline": "churn"}).json()["items"]
        assert [r["id"] for r in mine] == [run]
    assert ada.get("/api/v1/pipeline-runs", params={"mine": "true", "state": "failed"}).json()["items"] == []
    assert {r["id"] for r in runs(noria)} == {hers, his}


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


def test_a_schedule_and_a_trigger_get_another_rule(noria: Noria) -> None:
    """In place: their id and what they started stay. What the code declares is changed in the code."""
    register(noria)
    made = create(noria, "schedules", cron="0 3 * * *").json()
    rule = {"name": "one", "pipeline": "churn", "cron": "*/10 * * * *", "params": {"rows": 7}}
    changed = noria.http.put("/api/v1/schedules/one", json=rule).json()
    assert changed["id"] == made["id"] and changed["next_at_ms"] < made["next_at_ms"]
    noria.clock.advance((changed["next_at_ms"] - noria.clock.now_ms()) / 1000)
    noria.settle()
    assert [run["params"]["rows"] for run in runs(noria)] == [7]
    create(noria, "triggers", kinds=["dataset_version.committed"])
    rule = {"name": "one", "pipeline": "churn", "kinds": ["alert.opened"], "cooldown_s": 60, "is_enabled": False}
    assert noria.http.put("/api/v1/triggers/one", json=rule).json()["kinds"] == ["alert.opened"]
    found = noria.http.get("/api/v1/triggers").json()["items"][0]
    assert (found["kinds"], found["cooldown_s"], found["is_enabled"]) == (["alert.opened"], 60, False)
    for path, wrong, status in [
        ("triggers/one", {**rule, "name": "two"}, 400), ("triggers/one", {**rule, "kinds": [], "is_hook": True}, 400),
        ("triggers/two", {**rule, "name": "two"}, 404), ("triggers/one", {**rule, "params": {"nothing": 1}}, 400),
        ("schedules/one", {"name": "one", "pipeline": "churn", "cron": "never"}, 400),
    ]:  # fmt: skip
        assert noria.http.put(f"/api/v1/{path}", json=wrong).status_code == status, wrong
    register(noria, msgspec.structs.replace(spec(noria), starts=[cron("0 4 * * *", name="declared")]))
    declared = {"name": "declared", "pipeline": "churn", "cron": "0 5 * * *"}
    assert noria.http.put("/api/v1/schedules/declared", json=declared).status_code == 409


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


def paused(noria: Noria, pipeline: str = "churn") -> None:
    assert noria.http.post(f"/api/v1/pipelines/{pipeline}/pause").json()["is_paused"]


def first(noria: Noria, what: str) -> dict[str, Any]:
    return dict(noria.http.get(f"/api/v1/{what}").json()["items"][0])


def test_while_a_pipeline_is_paused_neither_facts_nor_times_start_it(noria: Noria) -> None:
    register(noria)
    create(noria, "triggers", kinds=["pipeline_run.succeeded"], filter=[{"field": "data.pipeline", "value": "source"}])
    create(noria, "schedules", cron="* * * * *")
    paused(noria)
    other(noria)
    noria.clock.advance(61)
    noria.settle()
    assert runs(noria) == []
    assert "is paused; fact" in first(noria, "triggers")["error"] and "is paused" in first(noria, "schedules")["error"]
    submit(noria)  # people still may
    noria.http.post("/api/v1/pipelines/churn/unpause")
    noria.clock.advance(61)
    noria.settle()
    assert len(runs(noria)) == 2


@pytest.mark.parametrize(("catch_up", "days"), [("latest", ["05"]), ("all", ["03", "04", "05"]), ("none", [])])
def test_missed_times_are_caught_up_as_the_schedule_says(noria: Noria, catch_up: str, days: list[str]) -> None:
    register(noria)
    noria.clock.advance((ms(2026, 3, 2, 12) - noria.clock.now_ms()) / 1000)
    made = create(noria, "schedules", cron="0 3 * * *", catch_up=catch_up, params={"rows": "${date}"})
    assert made.status_code == 200, made.text
    noria.clock.advance(3 * 86_400)  # to the 5th, noon: three times passed
    noria.settle()
    assert sorted(r["params"]["rows"] for r in runs(noria)) == [f"2026-03-{day}" for day in days]
    found = first(noria, "schedules")
    assert found["next_at_ms"] == ms(2026, 3, 6, 3)
    assert ("passed while no server ran" in found["error"]) == (catch_up == "none")
    noria.clock.advance(15 * 3600 + 1)  # the next one in time
    noria.settle()
    assert max(r["params"]["rows"] for r in runs(noria)) == "2026-03-06"


# --- files ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def inbox(noria: Noria, tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    noria.app.triggers._watch._roots = (str(tmp_path),)
    register(noria)
    return folder


def test_a_file_that_arrives_starts_a_run_once(noria: Noria, inbox: Path) -> None:
    (inbox / "old.csv").write_text("was here before")
    made = create(noria, "triggers", files={"url": str(inbox), "pattern": "*.csv"}, params={"rows": "${data.path}"})
    assert made.status_code == 200, made.text
    (inbox / "new.csv").write_text("a")
    (inbox / "note.txt").write_text("not wanted")
    noria.app.pump.drain()
    (inbox / "new.csv").write_text("a, and more")  # it was still being written
    noria.settle()
    noria.settle()
    assert [r["params"]["rows"] for r in runs(noria)] == ["new.csv"]
    assert [f.data["size_bytes"] for f in noria.facts("file.arrived")] == [11]
    (inbox / "sub").mkdir()
    (inbox / "sub" / "deep.csv").write_text("b")
    (inbox / "new.csv").write_text("replaced by a longer one")
    noria.settle()
    noria.settle()
    assert sorted(r["params"]["rows"] for r in runs(noria)) == ["new.csv", "new.csv", "sub/deep.csv"]
    assert len(noria.facts("file.arrived")) == 3


def test_only_allowed_places_are_watched_and_a_place_that_goes_is_said(noria: Noria, inbox: Path) -> None:
    assert create(noria, "triggers", files={"url": "/etc"}).status_code == 403
    assert create(noria, "triggers", files={"url": f"{inbox}/../../etc"}).status_code == 403
    assert create(noria, "triggers", files={"url": str(inbox / "nothing")}).status_code == 400
    assert create(noria, "triggers", files={"url": str(inbox)}, kinds=["run.created"]).status_code == 400
    assert create(noria, "triggers", files={"url": str(inbox)}).status_code == 200
    inbox.rmdir()
    noria.settle()
    assert "there is no folder" in first(noria, "triggers")["error"]


# --- messages -------------------------------------------------------------------------------------------------------------


def send(noria: Noria, secret: str, body: bytes, message: str = "m1", *, late_s: int = 0, **headers: str) -> Any:
    at_s = noria.clock.now_ms() // 1000 - late_s
    signed = {"webhook-id": message, "webhook-timestamp": str(at_s), "webhook-signature": sign(secret, message, at_s, body)}
    return noria.client().post("/api/v1/hooks/one", content=body, headers={**signed, **headers})


def test_a_signed_message_starts_a_run_once(noria: Noria) -> None:
    register(noria)
    where = [{"field": "data.body.ref", "value": "main"}]
    secret = create(noria, "triggers", is_hook=True, filter=where, params={"rows": "${data.body.rows}"}).json()["secret"]
    assert "secret" not in first(noria, "triggers")
    body = b'{"ref": "main", "rows": 7}'
    assert send(noria, secret, body).json() == {"is_new": True}
    assert send(noria, secret, body).json() == {"is_new": False}
    send(noria, secret, b'{"ref": "other"}', "m2")
    noria.settle()
    assert [r["params"]["rows"] for r in runs(noria)] == [7]


def test_what_is_not_signed_is_refused_and_told_nothing(noria: Noria) -> None:
    register(noria)
    secret, body = create(noria, "triggers", is_hook=True).json()["secret"], b"{}"
    refused = [
        send(noria, new_secret(), body), send(noria, secret, body, late_s=301), send(noria, secret, body, late_s=-301),
        send(noria, secret, body, **{"webhook-timestamp": "soon"}), send(noria, secret, body, **{"webhook-id": "other"}),
        noria.client().post("/api/v1/hooks/one", content=body), noria.client().post("/api/v1/hooks/nothing", content=body),
    ]  # fmt: skip
    assert {(r.status_code, r.json()["error"]["message"]) for r in refused} == {
        (401, "The message is not signed for this hook.")
    }
    assert send(noria, secret, b"no json").status_code == 400
    assert send(noria, secret, b" " * ((64 << 10) + 1)).status_code == 413
    again = noria.http.post("/api/v1/triggers/one/secret").json()["secret"]
    assert send(noria, secret, body).status_code == 401 and send(noria, again, body).status_code == 200


def test_github_signs_its_own_way(noria: Noria) -> None:
    register(noria)
    secret, body = create(noria, "triggers", is_hook=True).json()["secret"], b'{"ref": "main"}'
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": signature, "x-github-delivery": "72d3162e"}
    for _ in range(2):
        assert noria.client().post("/api/v1/hooks/one", content=body, headers=headers).status_code == 200
    noria.settle()
    assert len(runs(noria)) == 1
    wrong = {**headers, "x-hub-signature-256": signature[:-1] + "0"}
    assert noria.client().post("/api/v1/hooks/one", content=b"{ }", headers=wrong).status_code == 401


# --- declared with the code -----------------------------------------------------------------------------------------------


def declared(noria: Noria, *starts: Any, **more: Any) -> Any:
    found = msgspec.structs.replace(spec(noria), starts=list(starts), **more)
    return noria.http.post("/api/v1/pipelines", content=msgspec.json.encode(found))


def named(noria: Noria, what: str) -> list[str]:
    return [found["name"] for found in noria.http.get(f"/api/v1/{what}").json()["items"]]


def test_what_the_code_declares_comes_and_goes_with_it(noria: Noria) -> None:
    create_by_hand = create
    weekly, data = cron("0 3 * * 1", tz="Europe/Paris", params={"rows": 3}), on_dataset("customers")
    assert declared(noria, weekly, data, data).status_code == 200
    assert named(noria, "schedules") == ["churn.cron"]
    assert named(noria, "triggers") == ["churn.dataset_version", "churn.dataset_version-2"]
    assert first(noria, "schedules")["is_declared"] and first(noria, "triggers")["filter"][0]["value"] == "customers"
    create_by_hand(noria, "triggers", kinds=["run.created"])
    before = first(noria, "schedules")
    noria.http.patch("/api/v1/triggers/churn.dataset_version", json={"is_enabled": False})
    assert declared(noria, weekly, data, data).status_code == 200  # nothing changed
    assert declared(noria, weekly, on_dataset("people"), description="new").status_code == 200
    assert first(noria, "schedules") == before
    assert named(noria, "triggers") == ["churn.dataset_version", "one"]
    assert not first(noria, "triggers")["is_enabled"] and first(noria, "triggers")["filter"][0]["value"] == "people"
    assert declared(noria).status_code == 200
    assert named(noria, "schedules") == [] and named(noria, "triggers") == ["one"]


def test_what_cannot_be_declared_registers_nothing(noria: Noria) -> None:
    register(noria)
    create(noria, "triggers", kinds=["run.created"])
    assert declared(noria, on_event("run.created", name="one")).status_code == 409
    assert declared(noria, cron("never")).status_code == 400
    assert declared(noria, on_event("no.such")).status_code == 400
    assert declared(noria, on_files("/etc")).status_code == 403
    assert declared(noria, on_dataset("a", name="x"), on_dataset("b", name="x")).status_code == 400
    assert declared(noria, on_dataset("a", params={"unknown": 1})).status_code == 400
    assert noria.http.get("/api/v1/pipelines/churn").json()["version"] == 1


def test_who_may_not_make_triggers_may_register_what_declares_the_same(noria: Noria) -> None:
    assert declared(noria, on_dataset("customers")).status_code == 200
    bob = noria.as_("bob", "contributor")
    same = msgspec.structs.replace(spec(noria), starts=[on_dataset("customers")], description="new")
    assert bob.post("/api/v1/pipelines", content=msgspec.json.encode(same)).status_code == 200
    other_ = msgspec.structs.replace(same, starts=[])
    assert bob.post("/api/v1/pipelines", content=msgspec.json.encode(other_)).status_code == 403


def test_alerts_promotions_and_commits_start_runs(noria: Noria) -> None:
    """The facts themselves, as their slices write them, with the filters that the words make."""
    assert declared(
        noria, on_drift("churn-prod", params={"rows": "${data.metric}"}),
        on_model("churn", alias="champion", params={"rows": "${data.number}"}),
        on_dataset("customers", params={"rows": "${data.number}"}),
    ).status_code == 200  # fmt: skip
    alert = {
        "alert": "a1",
        "monitor": "m",
        "metric": "psi",
        "value": 0.3,
        "limit": 0.2,
        "severity": "high",
        "event_at_ms": 1,
    }
    with noria.app.db.write(noria.system()) as tx:
        tx.emit("alert.opened", Ref("monitor", "m"), **alert, endpoint="churn-prod")
        tx.emit("alert.opened", Ref("monitor", "m"), **alert, endpoint="other")
        for alias in ("champion", "challenger"):
            tx.emit(
                "model_version.promoted",
                Ref("model_version", "v"),
                model="churn",
                number=4,
                alias=alias,
                was=3,
                generation=2,
            )
        for dataset in ("customers", "orders"):
            tx.emit("dataset_version.committed", Ref("dataset_version", "d"), dataset=dataset, number=9)
    noria.settle()
    assert sorted(str(r["params"]["rows"]) for r in runs(noria)) == ["4", "9", "psi"]
