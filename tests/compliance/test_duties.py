"""Reviews of access, legal holds and retention, requests for erasure, incidents: kept, with deadlines, and measured."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner

from noria.cli.main import main
from noria.datasets.model import SubjectRequest
from noria.datasets.subjects import subject_mark
from tests.compliance.conftest import World
from tests.conftest import Noria
from tests.registry.test_cli import KeptOpen

DAY_MS = 86_400_000


def test_a_review_keeps_and_takes_away(world: World) -> None:
    cyd = world.noria.as_("cyd", "maintainer")
    world.ok(world.ada.put("/api/v1/labels/pii", json={"is_restricting": True}))
    world.ok(world.ada.put("/api/v1/labels/pii/clearances/cyd", json={"reason": "support"}))
    assert world.found("installation")["ACC-2"]["state"] == "fail"
    page = world.ok(world.ada.post("/api/v1/access-reviews", json={"title": "first quarter"}))
    review, items = page["review"]["id"], {(i["principal"], i["what"]): i for i in page["items"]}
    assert set(items) == {("ada", "admin"), ("bea", "admin"), ("cyd", "maintainer"), ("cyd", "pii")}
    assert world.ada.post("/api/v1/access-reviews", json={"title": "again"}).status_code == 409

    def decide(who: Any, what: tuple[str, str], decision: str) -> Any:
        position = items[what]["position"]
        return who.post(f"/api/v1/access-reviews/{review}/items/{position}", json={"decision": decision, "reason": "left"})

    assert decide(cyd, ("cyd", "maintainer"), "keep").status_code == 403
    assert decide(world.ada, ("ada", "admin"), "keep").status_code == 403, "nobody decides about themselves"
    world.ok(decide(world.ada, ("cyd", "maintainer"), "revoke"))
    world.ok(decide(world.ada, ("cyd", "pii"), "revoke"))
    assert decide(world.bea, ("cyd", "pii"), "keep").status_code == 409
    assert cyd.get("/api/v1/models").status_code == 403, "what is taken away is gone at once"
    world.ok(decide(world.bea, ("ada", "admin"), "keep"))
    done = world.ok(decide(world.ada, ("bea", "admin"), "keep"))["review"]
    assert done["closed_at_ms"] and (done["open_count"], done["revoked_count"]) == (0, 2)
    assert world.found("installation")["ACC-2"]["state"] == "pass"
    world.later(89)
    world.later(2)
    assert world.found("installation")["ACC-2"]["state"] == "fail"
    kinds = [
        f.kind for f in world.noria.facts() if f.kind.startswith(("access_review.", "grant.removed", "clearance.removed"))
    ]
    assert (
        kinds[:3] == ["access_review.started", "grant.removed", "access_review.decided"]
        and kinds[-1] == "access_review.closed"
    )


def test_what_is_taken_from_a_disabled_account_does_not_come_back(world: World, noria: Noria) -> None:
    noria.as_("cyd", "maintainer", kind="user")
    world.ok(world.ada.put("/api/v1/labels/pii", json={"is_restricting": True}))
    world.ok(world.ada.put("/api/v1/labels/pii/clearances/cyd", json={"reason": "support"}))
    page = world.ok(world.ada.post("/api/v1/access-reviews", json={"title": "first quarter"}))
    world.ok(world.ada.delete("/api/v1/principals/cyd"))
    for item in (i for i in page["items"] if i["principal"] == "cyd"):
        address = f"/api/v1/access-reviews/{page['review']['id']}/items/{item['position']}"
        world.ok(world.ada.post(address, json={"decision": "revoke"}))
    with noria.app.db.read() as tx:
        for table in ("binding", "clearance"):
            held = f"select count(*) from {table} b join principal p on p.id = b.principal_id where p.name = 'cyd'"
            assert tx.scalar(held) == 0, table


def test_nobody_decides_about_a_group_they_are_in_while_others_can(world: World, noria: Noria) -> None:
    cyd = noria.as_("cyd", "admin", kind="user")
    for group in ("inner", "outer"):
        world.ok(world.ada.post("/api/v1/groups", json={"name": group}))
    for group, member in (("outer", "inner"), ("inner", "cyd")):
        world.ok(world.ada.put(f"/api/v1/groups/{group}/members/{member}"))
    for group in ("inner", "outer"):
        world.ok(world.ada.post("/api/v1/grants", json={"principal": group, "role": "viewer"}))
    page = world.ok(world.ada.post("/api/v1/access-reviews", json={"title": "first quarter"}))
    at = {i["principal"]: f"/api/v1/access-reviews/{page['review']['id']}/items/{i['position']}" for i in page["items"]}
    keep = {"decision": "keep"}
    assert cyd.post(at["outer"], json=keep).status_code == 403, "however deep they are in it"
    world.ok(world.ada.post(at["outer"], json=keep))
    for other in ("ada", "bea"):
        world.ok(cyd.put(f"/api/v1/groups/inner/members/{other}"))
    world.ok(cyd.post(at["inner"], json=keep))


def test_what_is_held_is_not_removed(running: World) -> None:
    version = running.ok(running.ada.get("/api/v1/models/flights/versions/1"))["version"]
    other = running.version(running.run())
    running.dataset()
    body = {"subject": f"model_version:{other['id']}", "reason": "case 17, legal department"}
    hold = running.ok(running.ada.post("/api/v1/legal-holds", json=body))
    assert running.ada.post("/api/v1/legal-holds", json=body).status_code == 409
    refused = running.ada.delete("/api/v1/models/flights/versions/2")
    assert refused.status_code == 409 and "legal_hold:" in refused.text
    assert running.ada.post("/api/v1/legal-holds", json=body | {"subject": "model_version:none"}).status_code == 404
    assert running.ada.post("/api/v1/legal-holds", json=body | {"subject": "monitor:flights"}).status_code == 400
    maintainer = running.noria.as_("a maintainer", "maintainer")
    assert maintainer.post("/api/v1/legal-holds", json=body).status_code == 403
    running.ok(running.ada.post(f"/api/v1/legal-holds/{hold['id']}/release", json={"reason": "the case was closed"}))
    assert (
        running.ada.post(f"/api/v1/legal-holds/{hold['id']}/release", json={"reason": "the case was closed"}).status_code
        == 409
    )
    assert running.ada.delete("/api/v1/models/flights/versions/2").is_success
    assert version["number"] == 1


def test_evidence_of_high_risk_is_kept_for_years(running: World) -> None:
    assert running.found()["DOC-4"]["state"] == "pass"
    assert running.ok(running.ada.get("/api/v1/retention"))["kept"] == 3, "the version, its run, its data"
    running.ok(running.ada.delete("/api/v1/endpoints/flights"))
    running.system(members=["model:flights"])
    refused = running.ada.delete("/api/v1/models/flights/versions/1")
    assert refused.status_code == 409 and "system:delays (keeps)" in refused.text
    running.ok(running.ada.put("/api/v1/retention", json={"evidence_days": 400, "reason": "decided in RISK-3"}))
    found = running.found()["DOC-4"]
    assert found["state"] == "fail" and "400 days" in found["reason"]
    running.later(401)
    running.found()
    assert running.ok(running.ada.get("/api/v1/retention"))["kept"] == 0
    refused = running.ada.delete("/api/v1/models/flights/versions/1")
    assert "keeps" not in refused.text


def test_evidence_of_a_retired_system_is_let_go_in_time(running: World) -> None:
    running.found()
    running.ok(running.ada.post("/api/v1/systems/delays/retire", json={"reason": "replaced on 1 March"}))
    for days, kept in ((3_649, 3), (2, 0)):
        running.later(days)
        running.noria.settle()
        assert running.ok(running.ada.get("/api/v1/retention"))["kept"] == kept


def test_a_person_is_forgotten_and_who_it_was_is_not_kept(running: World, noria: Noria) -> None:
    new = {"reference": "DSR-17", "column": "e_mail", "value": "a@example.org", "datasets": ["flights"]}
    for wrong in (
        {"reference": "a@example.org asks"},
        {"datasets": []},
        {"value": ""},
        {"received_at_ms": noria.clock.now_ms() + 1},
    ):
        assert running.ada.post("/api/v1/erasures", json=new | wrong).status_code == 400, wrong
    assert running.ada.post("/api/v1/erasures", json=new | {"datasets": ["not-there"]}).status_code == 404
    made = running.ok(running.ada.post("/api/v1/erasures", json=new))
    assert made["due_at_ms"] - made["received_at_ms"] == 30 * DAY_MS
    address = f"/api/v1/erasures/{made['id']}"
    assert running.ada.post(f"{address}/datasets/flights", json={"value": "b@example.org"}).status_code == 400
    assert running.ada.post(f"{address}/datasets/held_out", json={"value": "a@example.org"}).status_code == 400
    assert running.found()["DAT-5"]["state"] == "pass"
    (done,) = running.ok(running.ada.post(f"{address}/datasets/flights", json={"value": "a@example.org"}))["outcome"]
    assert done["rows"] == 1 and done["made"] == [2]
    assert done["kept"][0]["number"] == 1 and "trained_on" in done["kept"][0]["why"], (
        "a model was made from it: said, not hidden"
    )
    assert any(ref.startswith("model_version:") for ref in done["affected"])
    (again,) = running.ok(running.ada.post(f"{address}/datasets/flights", json={"value": "a@example.org"}))["outcome"]
    assert [again[k] for k in ("rows", "made", "deleted", "kept")] == [1, [2], [], done["kept"]], "nothing is lost"
    (fact, _) = noria.facts("subject.erased")
    assert fact.data["subject"] == made["mark"]
    running.later(31)
    found = running.found()["DAT-5"]
    assert found["state"] == "fail" and "overdue" in found["reason"]
    running.ok(running.ada.post(f"{address}/close", json={"note": "erased; the model is retrained in TRAIN-4"}))
    assert running.ada.post(f"{address}/close", json={"note": "erased; the model is retrained"}).status_code == 409
    assert "closed late" in running.found()["DAT-5"]["reason"]
    with noria.app.db.read() as tx:
        assert tx.scalar("select salt from erasure") == ""
        kept = json.dumps([tx.rows("select * from erasure"), [f.data for f in noria.facts()]])
        kept += json.dumps(tx.rows("select * from dataset_version"), default=str)
    assert "a@example.org" not in kept
    assert subject_mark(SubjectRequest(column="e_mail", value="a@example.org")) not in kept, "nor a hash that can be guessed"


def test_an_incident_has_a_deadline(running: World) -> None:
    incidents = "/api/v1/systems/delays/incidents"
    assert running.found()["MON-3"]["state"] == "pass"
    made = running.ok(running.ada.post(incidents, json={"title": "the wrong day", "severity": "widespread"}))
    assert made["due_at_ms"] - made["aware_at_ms"] == 2 * DAY_MS
    other = running.ok(running.ada.post(incidents, json={"title": "a slow page", "severity": "other"}))
    assert other["due_at_ms"] is None
    assert running.ada.post(incidents, json={"title": " "}).status_code == 400
    assert running.ada.post(f"/api/v1/incidents/{made['id']}/close", json={"resolution": "it was mended"}).status_code == 409
    assert running.found()["MON-3"]["state"] == "pass"
    running.later(3)
    found = running.found()["MON-3"]
    assert found["state"] == "fail" and "overdue" in found["reason"]
    running.ok(running.ada.post(f"/api/v1/incidents/{made['id']}/report", json={"to": "the authority"}))
    assert running.ada.post(f"/api/v1/incidents/{made['id']}/report", json={"to": "the authority"}).status_code == 409
    assert "reported late" in running.found()["MON-3"]["reason"]
    for incident in (made, other):
        running.ok(running.ada.post(f"/api/v1/incidents/{incident['id']}/close", json={"resolution": "it was mended"}))
    (reported,) = running.noria.facts("incident.reported")
    assert reported.data["was_late"]


def test_duties_from_the_command_line(running: World, monkeypatch: Any) -> None:
    api = KeptOpen(running.ada, url=running.noria.config.control_url)
    monkeypatch.setattr("noria.client.api.connect", lambda *_, **__: api)

    def noria(*words: str, code: int = 0, given: str | None = None) -> str:
        done = CliRunner().invoke(main, list(words), input=given)
        assert done.exit_code == code, done.output
        return done.output

    review = noria("access", "review", "start", "first quarter").partition(":")[0]
    assert "ada" in noria("access", "review", "show", review) and "first quarter" in noria("access", "review", "list")
    assert "1 left" in noria("access", "review", "decide", review, "2", "keep")
    version = running.ok(running.ada.get("/api/v1/models/flights/versions/1"))["version"]["id"]
    held = json.loads(noria("compliance", "hold", f"model_version:{version}", "--reason", "case 17, legal", "--json"))["id"]
    assert held in noria("compliance", "hold")
    assert "no longer held" in noria("compliance", "release", held, "--reason", "the case was closed")
    assert "3650" in noria("compliance", "retention")
    noria("compliance", "retention", "--evidence-days", "4000", "--reason", "decided in RISK-3")
    asked = noria(
        "compliance",
        "erasure",
        "request",
        "DSR-17",
        "--column",
        "e_mail",
        "--dataset",
        "flights",
        "--json",
        given="b@example.org\n",
    )
    erasure = json.loads(asked[asked.index("{") :])["id"]
    assert "b@example.org" not in asked
    assert "still holds rows" in noria("compliance", "erasure", "run", erasure, "flights", given="b@example.org\n")
    noria("compliance", "erasure", "close", erasure, "--note", "erased; retrained in TRAIN-4")
    assert "DSR-17" in noria("compliance", "erasure", "list")
    incident = json.loads(noria("system", "incident", "open", "delays", "the wrong day", "--json"))["id"]
    noria("system", "incident", "report", incident, "--to", "the authority")
    noria("system", "incident", "close", incident, "--resolution", "the feed is checked")
    assert "the wrong day" in noria("system", "incident", "list", "delays")
