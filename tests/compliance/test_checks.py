"""Checks are measured from what is on record: they pass when it is there, fail when it is taken away, and say what cannot be told."""

from __future__ import annotations

import msgspec

from noria.compliance.catalogue import catalogue
from noria.compliance.measures import MEASURES
from noria.governance.siem import to_ocsf
from tests.compliance.conftest import ROWS, World
from tests.conftest import Noria

FRAMEWORKS = {"eu-ai-act", "nist-ai-rmf", "iso-42001", "sr-26-2", "gdpr", "hipaa"}


def test_every_check_is_mapped_and_measured() -> None:
    checks = catalogue().checks
    assert {c.id for c in checks} == set(MEASURES) and len(checks) == 35
    known = {f.id for f in catalogue().frameworks}
    assert all(c.maps and set(c.maps) <= known for c in checks)
    assert set().union(*(c.maps for c in checks)) >= FRAMEWORKS
    assert catalogue().version and catalogue().date


def test_what_a_careful_team_leaves_passes(running: World) -> None:
    found = running.found()
    states = {c: f["state"] for c, f in found.items()}
    passing = {"INV-2", "PRV-1", "PRV-2", "PRV-3", "VAL-1", "VAL-5", "DEP-1", "DEP-2", "MON-2", "SEC-1", "TPM-1"}
    assert {c for c, s in states.items() if s == "pass"} >= passing, {
        c: (states[c], found[c]["reason"]) for c in passing if states[c] != "pass"
    }
    failing = {"DOC-1", "DOC-2", "DOC-3", "PRV-4", "DAT-1", "DAT-2", "DAT-4", "DAT-6", "VAL-4", "DEP-3", "MON-1"}
    assert {c for c, s in states.items() if s == "fail"} >= failing, {
        c: (states[c], found[c]["reason"]) for c in failing if states[c] != "fail"
    }
    assert {states[c] for c in ("VAL-2", "VAL-3", "SEC-2", "DAT-3")} == {"unmeasurable"}
    assert all(
        f["reason"] and len(f["inputs_digest"]) == 64 and f["catalogue"] == catalogue().version for f in found.values()
    )
    assert "bea" in found["VAL-5"]["reason"] or "user:bea" in str(found["VAL-5"]["items"])


def test_nothing_passes_on_an_empty_system(world: World) -> None:
    world.ok(world.ada.post("/api/v1/models", json={"name": "flights"}))
    world.system(members=["model:flights"])
    states = {c: f["state"] for c, f in world.found().items()}
    assert [c for c, s in states.items() if s == "pass"] == ["INV-2", "DOC-4", "DAT-5", "MON-3"], (
        "a rule, and nothing to answer"
    )
    assert states["PRV-1"] == states["DEP-1"] == states["VAL-1"] == "not_applicable"


def test_what_is_missing_is_filled_and_the_check_turns(running: World) -> None:
    ada = running.ada
    sheet = {"description": "delays", "licence": "CC-BY-4.0", "source": "the airport", "collected_from": "2013-01-01",
             "collected_to": "2013-12-31", "personal_columns": ["e_mail"], "retention_days": 400}  # fmt: skip
    running.ok(ada.put("/api/v1/data-sheets/flights", json=sheet))
    for section in ("intended_use", "limitations"):
        running.ok(
            ada.put(f"/api/v1/models/flights/versions/1/card/{section}", json={"content": "Flights from three airports."})
        )
    for section in range(1, 10):
        running.ok(ada.put(f"/api/v1/systems/delays/technical-file/{section}", json={"content": "Written."}))
    now = running.noria.clock.now_ms()
    for kind in ("robustness", "stop_test", "vulnerabilities"):
        body = {
            "kind": kind,
            "title": kind,
            "uri": "https://docs.example.org/7",
            "dated_at_ms": now,
            "numbers": {"critical": 0},
        }
        running.ok(ada.post("/api/v1/systems/delays/reports", json=body))
    running.system(
        thresholds=[{"metric": "auc", "op": ">=", "value": 0.8}],
        fairness=[{"group": "hour", "metric": "auc", "limit": 0.05}],
    )
    found = running.found()
    for check in ("DOC-1", "DOC-2", "DOC-3", "DAT-1", "DAT-4", "DAT-6", "VAL-2", "VAL-3", "VAL-4", "SEC-2"):
        assert found[check]["state"] == "pass", (check, found[check]["reason"])
    # … and turn back: a stricter threshold, a narrower limit, a day too old, a report with findings.
    running.system(
        thresholds=[{"metric": "auc", "op": ">=", "value": 0.83}],
        fairness=[{"group": "hour", "metric": "auc", "limit": 0.01}],
    )
    found = running.found()
    assert found["VAL-2"]["state"] == found["VAL-3"]["state"] == "fail"
    assert "where hour=7 is 0.82" in found["VAL-2"]["reason"]
    running.later(401)
    found = running.found()
    assert found["DAT-6"]["state"] == found["VAL-4"]["state"] == "fail"
    assert found["SEC-2"]["state"] == "unmeasurable", "an old report says nothing of today"


def test_a_run_that_is_made_again_counts_for_a_while(running: World) -> None:
    run = running.ok(running.ada.get("/api/v1/models/flights/versions/1"))["version"]["run_id"]
    running.run(**{"noria.reproduces": run})
    found = running.found()["PRV-4"]
    assert (found["state"], found["items"][0]["values"]["numbers"]) == ("pass", {"auc": [0.9, 0.9]})
    running.later(91)
    assert running.found()["PRV-4"]["state"] == "fail"


def test_data_that_kept_to_expectations(world: World) -> None:
    world.dataset()
    world.ok(world.ada.put("/api/v1/datasets/flights/expectations", json={"files_min": 1}))
    expected = world.dataset(ROWS + b"9,0,d@example.org\n")
    version = world.version(world.run(expected))
    world.approve(version)
    world.deploy(1)
    world.system()
    found = world.found()
    assert found["DAT-2"]["state"] == "pass", found["DAT-2"]["reason"]
    assert found["PRV-3"]["state"] == "fail" and "no commit" in found["PRV-3"]["reason"]
    assert found["VAL-1"]["state"] == "fail" and found["TPM-1"]["state"] == "fail"


def test_evaluated_on_what_it_was_trained_on(world: World) -> None:
    data = world.dataset()
    world.version(world.run(data))
    world.evaluate(1, data, split="train", auc=0.99)
    world.deploy(1)
    world.system()
    found = world.found()
    assert found["DAT-3"]["state"] == found["VAL-1"]["state"] == "fail"
    assert found["DEP-1"]["state"] == found["DEP-2"]["state"] == found["VAL-5"]["state"] == "fail"
    world.evaluate(1, data, split="holdout", auc=0.8)
    found = world.found()
    assert found["VAL-1"]["state"] == "unmeasurable", "a split is said, not on record"


def test_an_evaluation_after_the_deployment_hides_none_before_it(world: World) -> None:
    data = world.dataset()
    world.approve(world.version(world.run(data)))
    for deployed in (False, True):
        world.noria.clock.advance(1)
        world.evaluate(1, data, auc=0.8)
        if not deployed:
            world.noria.clock.advance(1)
            world.deploy(1)
            world.system()
        assert "approved before its last evaluation" in world.found()["DEP-1"]["reason"]


def test_a_limit_of_fairness_without_a_measurement_fails(running: World) -> None:
    limits = [{"group": "hour", "metric": metric, "limit": 0.05} for metric in ("auc", "fpr")]
    running.system(fairness=limits)
    found = running.found()["VAL-3"]
    assert found["state"] == "fail" and "fpr of flights@1 was not measured per hour" in found["reason"]


def test_a_monitor_that_never_judged_is_behind_in_time(running: World, noria: Noria) -> None:
    body = {"name": "quality", "endpoint": "flights", "metric": "auc", "limit": 0.7, "lateness_s": 86_400}
    running.ok(running.ada.post("/api/v1/monitors", json=body))

    def on_schedule(days: float) -> bool:
        """Answers came in up to so many days after the monitor was made, and nothing was judged."""
        with noria.app.db.system_write() as tx:
            tx.run("delete from watermark")
            tx.run("insert into watermark (endpoint, event_at_ms, bucket_ms, seq, label_seq, predictions, labels) "
                   "values ('flights', :at, 300000, 1, 0, 0, 0)", at=noria.clock.now_ms() + int(days * 86_400_000))  # fmt: skip
        (item,) = (i for i in running.found()["MON-1"]["items"] if i["subject"] == "monitor:quality")
        return bool(item["ok"])

    assert (on_schedule(2.9), on_schedule(3.1)) == (True, False)


def test_records_that_are_deleted_too_early_are_no_log(running: World) -> None:
    def found(**policy: object) -> tuple[str, str]:
        running.ok(running.ada.put("/api/v1/endpoints/flights/recording", json=policy))
        made = running.found()["LOG-1"]
        return made["state"], made["reason"]

    assert found(keep_days=2) == ("fail", "the records of flights are deleted after 2 days, to be 183")
    assert found(keep_rows=5) == ("fail", "the records of flights are deleted but for the latest 5 rows")
    for enough in ({"keep_days": 183}, {"keep_rows": 5, "hold": "case 17"}, {}):
        assert found(**enough)[0] == "not_applicable", "no request was answered, and nothing is deleted too early"
    running.ok(running.ada.post("/api/v1/legal-holds", json={"subject": "endpoint:flights", "reason": "case 17, the court"}))
    assert found(keep_days=2)[0] == "not_applicable", "a legal hold keeps all of it"


def test_what_was_signed_and_changed_since_fails(running: World, noria: Noria) -> None:
    with noria.app.db.system_write() as tx:
        text = tx.scalar("select envelope from attestation")
        tx.run("update attestation set envelope = :text", text=str(text).replace('"payload": "e', '"payload": "f'))
    found = running.found()["PRV-1"]
    assert found["state"] == "fail" and "does not verify" in found["reason"]


def test_a_worker_with_other_bytes_fails(running: World, noria: Noria) -> None:
    with noria.app.db.system_write() as tx:
        tx.run("update replica set digest = 'other'")
    assert "other bytes" in running.found()["DEP-2"]["reason"]


def test_an_owner_who_left(running: World) -> None:
    running.ok(running.ada.post("/api/v1/principals", json={"name": "cyd", "kind": "user", "roles": []}))
    running.system(owner="cyd")
    assert running.found()["INV-2"]["state"] == "pass"
    running.ok(running.ada.delete("/api/v1/principals/cyd"))
    assert running.found()["INV-2"]["state"] == "pass", "within the seven days"
    running.later(8)
    assert running.found()["INV-2"]["state"] == "fail"
    running.system(owner="nobody-of-that-name")
    assert "no account" in running.found()["INV-2"]["reason"]


def test_the_installation(running: World) -> None:
    found = running.found("installation")
    assert found["INV-1"]["state"] == "pass"
    assert found["LOG-2"]["state"] == "fail" and "NORIA_ANCHORS" in found["LOG-2"]["reason"]
    assert set(found) == {"INV-1", "INV-3", "DAT-5", "LOG-2", "ACC-1", "ACC-2"}
    running.system(purpose="")
    assert "intended purpose" in running.found("installation")["INV-1"]["reason"]
    running.system(members=["model:flights"], purpose="x")
    assert running.found("installation")["INV-1"]["state"] == "pass", "a model brings its endpoints along"


def test_a_change_of_state_is_a_fact_once(running: World, noria: Noria) -> None:
    running.found()
    gap = next(e for e in noria.facts("compliance.changed") if e.data["now"] == "fail")
    said = to_ocsf({**msgspec.structs.asdict(gap), "data": msgspec.json.encode(gap.data).decode()})
    assert (said["class_uid"], said["compliance"]["status"], said["severity"]) == (2003, "Fail", "Medium")
    assert said["finding_info"]["uid"].endswith(gap.data["check"])
    first = {e.data["check"]: e for e in noria.facts("compliance.changed") if e.subject == "system:delays"}
    assert first["PRV-1"].data["now"] == "pass" and first["PRV-1"].data["was"] == ""
    before = len(noria.facts("compliance.changed"))
    running.found()
    assert len(noria.facts("compliance.changed")) == before
    running.system(owner="")
    running.found()
    (changed,) = noria.facts("compliance.changed")[before:]
    assert (changed.data["check"], changed.data["was"], changed.data["now"]) == ("INV-2", "pass", "fail")
    assert (
        changed.data["inputs_digest"]
        == running.ok(running.ada.get("/api/v1/compliance/delays"))["findings"][0]["inputs_digest"]
    )
