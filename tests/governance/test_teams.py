"""Approvals by teams, required evidence, overrides that everybody hears of."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.conftest import Noria

DIGEST = "9f86d081884c7d65"


def person(noria: Noria, name: str, *teams: str) -> httpx.Client:
    client = noria.as_(name, "approver")
    for team in teams:
        answer = noria.http.put(f"/api/v1/groups/{team}/members/{name}")
        assert answer.is_success, answer.text
    return client


@pytest.fixture
def teams(noria: Noria) -> Noria:
    """risk ⊃ risk-eu, and legal."""
    for name in ("risk", "risk-eu", "legal"):
        assert noria.http.post("/api/v1/groups", json={"name": name}).is_success
    assert noria.http.put("/api/v1/groups/risk/members/risk-eu").is_success
    return noria


def ask(noria: Noria, **more: Any) -> Any:
    body = {"subject": "model:fraud", "action": "model.promote", "digest": DIGEST, "required": 2, **more}
    answer = noria.as_("asker", "deployer").post("/api/v1/approvals", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def gate(noria: Noria, conditions: list[dict[str, Any]], **evidence: Any) -> str:
    """What a rule with these conditions says of the bytes."""
    rule = {"action": "model.promote", "conditions": conditions}
    assert noria.http.put("/api/v1/policies/rule", json=rule).status_code == 200
    trial = {"subject": "model:fraud", "evidence": {"digest": DIGEST, "author": "service:asker", **evidence}}
    said = noria.http.post("/api/v1/policies/rule/try", json=trial).json()
    return "" if said["allowed"] else str(said["reason"])


def test_so_many_of_that_team_have_to_approve(teams: Noria) -> None:
    eve, bob, lou = person(teams, "eve", "risk-eu"), person(teams, "bob", "risk"), person(teams, "lou", "legal")
    made = ask(teams, required=3)
    for client in (eve, lou, bob):
        assert client.post(f"/api/v1/approvals/{made['id']}/approve", json={"digest": DIGEST}).status_code == 200
    votes = teams.http.get(f"/api/v1/approvals/{made['id']}").json()["votes"]
    assert {v["actor"]: v["teams"] for v in votes}["service:eve"] == ["risk", "risk-eu"]  # however deep
    assert gate(teams, [{"type": "min_approvals", "count": 2, "team": "risk"}]) == ""
    assert gate(teams, [{"type": "min_approvals", "team": "risk-eu"}, {"type": "min_approvals", "team": "legal"}]) == ""
    assert "somebody of the team legal" in gate(teams, [{"type": "min_approvals", "count": 2, "team": "legal"}])
    teams.http.delete("/api/v1/groups/risk/members/bob")  # what counts is who they were then
    assert gate(teams, [{"type": "min_approvals", "count": 2, "team": "risk"}]) == ""


def test_only_the_teams_that_were_asked_answer(teams: Noria) -> None:
    eve, lou = person(teams, "eve", "risk-eu"), person(teams, "lou", "legal")
    made = ask(teams, teams=["risk"], required=1)
    refused = lou.post(f"/api/v1/approvals/{made['id']}/approve", json={})
    assert refused.status_code == 403 and "team risk" in refused.text
    assert eve.post(f"/api/v1/approvals/{made['id']}/approve", json={}).json()["state"] == "granted"
    unknown = teams.http.post(
        "/api/v1/approvals", json={"subject": "model:x", "action": "model.promote", "digest": DIGEST, "teams": ["nobody"]}
    )
    assert unknown.status_code == 400 and "no group" in unknown.text


def test_evidence_that_is_required_has_to_be_there(teams: Noria) -> None:
    rule = [{"type": "evidence", "paths": ["evaluation.metrics.auc", "trained_on"]}]
    assert gate(teams, rule, evaluation={"metrics": {"auc": 0.0}}, trained_on=["d1"]) == ""
    assert (
        gate(teams, rule, evaluation={"metrics": {}}, trained_on=[])
        == "the evidence lacks evaluation.metrics.auc, trained_on"
    )
    wrong = {"action": "model.promote", "conditions": [{"type": "evidence", "paths": []}]}
    assert teams.http.put("/api/v1/policies/rule", json=wrong).status_code == 400


def test_an_override_is_loud_until_somebody_else_looked_at_it(teams: Noria, caplog: pytest.LogCaptureFixture) -> None:
    eve = person(teams, "eve")
    made = ask(teams)
    assert eve.get("/api/v1/notices").json()["items"] == []
    did = teams.http.post(f"/api/v1/approvals/{made['id']}/override", json={"comment": "INC-42: scoring is down"})
    assert did.status_code == 200
    assert "EMERGENCY" in caplog.text and "INC-42" in caplog.text
    (notice,) = eve.get("/api/v1/notices").json()["items"]
    assert notice["kind"] == "override" and "model.promote on model:fraud" in notice["text"]
    path = f"/api/v1/approvals/{made['id']}/review"
    assert teams.http.post(path, json={"finding": "I did right"}).status_code == 403  # not by whoever did it
    assert eve.post(path, json={"finding": " "}).status_code == 400
    seen = eve.post(path, json={"finding": "right: it was down"}).json()
    assert (seen["reviewed_by"], seen["review"]) == ("service:eve", "right: it was down")
    assert eve.post(path, json={"finding": "again"}).status_code == 409
    assert eve.get("/api/v1/notices").json()["items"] == []
    assert [f.data["finding"] for f in teams.facts("approval.reviewed")] == ["right: it was down"]


def test_who_approved_before_overriding_does_not_review_it(teams: Noria) -> None:
    root = teams.as_("root", "admin")
    made = ask(teams, required=2)
    path = f"/api/v1/approvals/{made['id']}"
    assert root.post(f"{path}/approve", json={"comment": "fine"}).json()["state"] == "pending"
    done = root.post(f"{path}/override", json={"comment": "INC-42: scoring is down"}).json()
    assert [(v["decision"], v["comment"]) for v in done["votes"]] == [("override", "INC-42: scoring is down")]
    assert root.post(f"{path}/review", json={"finding": "I did right"}).status_code == 403
    (notice,) = root.get("/api/v1/notices").json()["items"]
    assert notice["text"].startswith("service:root ")


def test_a_log_that_is_not_sealed_is_said_to_whoever_may_know(teams: Noria) -> None:
    teams.settle()
    (teams.config.home / "keys/audit.key").unlink()
    person(teams, "eve")
    teams.app.audit.reconcile()
    assert [n["kind"] for n in teams.http.get("/api/v1/notices").json()["items"]] == ["sealing"]
    assert teams.as_("v", "viewer").get("/api/v1/notices").json()["items"] == []
