"""Personal values lie beside the log, and are erased without breaking it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from noria.registry.model import ModelVersion
from tests.conftest import Noria
from tests.governance.hostile_pickles import SYSTEM
from tests.governance.test_audit import export, run_verifier, tamper, verified
from tests.governance.test_provenance import cli
from tests.governance.test_scans import deploy

__all__ = ["cli"]
WHO = "Erika Mustermann"


def grant(noria: Noria, name: str, reason: str) -> None:
    made = noria.http.post("/api/v1/principals", json={"name": name, "kind": "service", "roles": ["viewer"]})
    assert made.status_code == 200, made.text
    given = noria.http.post(
        "/api/v1/grants", json={"principal": name, "role": "deployer", "scope": "model:fraud", "reason": reason}
    )
    assert given.is_success, given.text


def facts(noria: Noria, kind: str) -> list[Any]:
    return list(noria.http.get("/api/v1/audit", params={"kinds": kind}).json()["items"])


def forgotten(noria: Noria, value: str) -> Any:
    done = noria.http.post("/api/v1/audit/forget", json={"value": value, "reason": "request 7"})
    assert done.status_code == 200, done.text
    return done.json()


def test_the_log_holds_a_salted_hash_and_readers_see_the_value(noria: Noria) -> None:
    for name in ("ada", "bob"):
        grant(noria, name, f"asked by {WHO}")
    with noria.app.db.read() as tx:
        kept = tx.column("select data from event where kind = 'grant.added' and data like '%fraud%' order by seq")
        salts = tx.column("select salt from event_personal")
    assert WHO not in "".join(kept) and all("personal:sha256:" in text for text in kept)
    assert json.loads(kept[0])["reason"] != json.loads(kept[1])["reason"], "the same value looks the same twice"
    assert len(set(salts)) == len(salts)
    assert {f["data"]["reason"] for f in facts(noria, "grant.added") if f["data"]["scope"]} == {f"asked by {WHO}"}
    assert {f.data["name"] for f in noria.facts("principal.created")} == {"ada", "bob"}


def test_what_is_erased_is_gone_and_the_log_still_verifies(noria: Noria, tmp_path: Path) -> None:
    grant(noria, "ada", f"asked by {WHO}")
    grant(noria, "bob", "on call")
    before = export(noria, tmp_path / "before")
    assert noria.http.post("/api/v1/audit/forget", json={"value": WHO, "look": True}).json() == {"values": 1, "comments": 0}
    assert forgotten(noria, WHO) == {"values": 1, "comments": 0}
    assert [f["data"]["reason"] for f in facts(noria, "grant.added") if f["data"]["scope"]] == ["on call", "erased"]

    folder = export(noria, tmp_path / "export")
    size = noria.http.get("/api/v1/audit/checkpoints").json()["items"][0]["size"]
    (folder / "personal.jsonl").write_bytes(noria.http.get(f"/api/v1/audit/exports/{size}/personal").content)
    everything = "".join(p.read_text() for p in folder.iterdir())
    assert WHO not in everything and "on call" in everything
    code, text = run_verifier(folder)
    assert code == 0 and "Personal values erased: 1" in text
    assert run_verifier(before)[0] == 0  # what was taken before is the same log
    old = (before / "events.jsonl").read_bytes().splitlines()
    assert (folder / "events.jsonl").read_bytes().splitlines()[: len(old)] == old
    ocsf = noria.http.get(f"/api/v1/audit/exports/{size}/ocsf").text
    assert WHO not in ocsf and '"reason":"erased"' in ocsf and '"reason":"on call"' in ocsf
    found = verified(noria)
    assert found["is_intact"] and any(w["kind"] == "erased" for w in found["warnings"])


def test_a_value_that_was_changed_is_found(noria: Noria, tmp_path: Path) -> None:
    grant(noria, "ada", "on call")
    noria.settle()
    tamper(noria, "update event_personal set value = 'a friend' where value = 'on call'")
    found = verified(noria)
    assert not found["is_intact"] and found["faults"][0]["kind"] == "personal"
    folder = export(noria, tmp_path / "export")
    size = noria.http.get("/api/v1/audit/checkpoints").json()["items"][0]["size"]
    (folder / "personal.jsonl").write_bytes(noria.http.get(f"/api/v1/audit/exports/{size}/personal").content)
    code, text = run_verifier(folder)
    assert code == 1 and "is not the one that was said" in text


def test_a_salt_that_was_changed_is_found_too(noria: Noria) -> None:
    grant(noria, "ada", "on call")
    noria.settle()
    tamper(noria, "update event_personal set salt = 'zz' where value = 'on call'")
    found = verified(noria)
    assert not found["is_intact"] and found["faults"][0]["kind"] == "personal"


def test_reviews_and_reasons_of_scans_are_forgotten_too(noria: Noria, given_version: Callable[..., ModelVersion]) -> None:
    version = given_version(**{"model.pkl": SYSTEM})
    scan = f"/api/v1/models/flights/versions/{version.number}/scan"
    noria.as_("admin", "admin").post(f"{scan}/accept", json={"reason": f"read by {WHO}, 214"}).raise_for_status()
    assert deploy(noria, version) == ["service:admin accepted what its files would do"]
    made = noria.http.post(
        "/api/v1/approvals", json={"subject": "model:flights", "action": "model.promote", "digest": "9f86d081"}
    ).json()
    path = f"/api/v1/approvals/{made['id']}"
    noria.http.post(f"{path}/override", json={"comment": "INC-42: scoring is down"}).raise_for_status()
    noria.as_("bob", "approver").post(f"{path}/review", json={"finding": f"{WHO} did right"}).raise_for_status()
    assert forgotten(noria, WHO) == {"values": 2, "comments": 2}
    assert noria.http.get(path).json()["review"] == "erased" == noria.http.get(scan).json()["accepted_reason"]
    with noria.app.db.read() as tx:
        for table in ("event", "event_personal", "approval", "approval_vote", "model_scan", "verdict"):
            assert WHO not in str(tx.rows(f"select * from {table}")), table


def test_on_the_command_line_and_only_words(noria: Noria, cli: Callable[..., Result]) -> None:
    grant(noria, "ada", "because of Mustermann")
    grant(noria, "bob", "the Mustermannhaus")
    made = noria.http.post(
        "/api/v1/approvals",
        json={"subject": "model:fraud", "action": "model.promote", "digest": "9f86d081", "comment": "as Mustermann wants"},
    ).json()
    assert "1 values beside the log and 1 comments" in cli("audit", "forget", "Mustermann", "--look").output
    assert "were taken away" in cli("audit", "forget", "Mustermann", "--reason", "request 7", "--yes").output
    assert {f["data"]["reason"] for f in facts(noria, "grant.added") if f["data"]["scope"]} == {
        "erased",
        "the Mustermannhaus",
    }
    assert noria.http.get(f"/api/v1/approvals/{made['id']}").json()["comment"] == "erased"
    (fact,) = noria.facts("audit.forgot")
    assert fact.data == {"values": 1, "comments": 1, "reason": "request 7"}
    with noria.app.db.read() as tx:
        for table in ("event", "event_personal", "approval"):
            assert not [
                r for r in tx.rows(f"select * from {table}") if "Mustermann" in json.dumps(r).replace("Mustermannhaus", "")
            ], table


def test_only_an_administrator_makes_it_forget(noria: Noria) -> None:
    for role in ("maintainer", "auditor"):
        assert noria.as_(role[0], role).post("/api/v1/audit/forget", json={"value": "4711"}).status_code == 403
    assert noria.http.post("/api/v1/audit/forget", json={"value": " "}).status_code == 400
    refused = noria.http.post("/api/v1/audit/forget", json={"value": "4711", "reason": "of 4711"})
    assert refused.status_code == 400 and "does not hold the value" in refused.text


@pytest.mark.parametrize(("text", "is_in"), [("x 4711.", True), ("4711", True), ("INC-47110", False), ("a4711", False)])
def test_a_value_is_a_word_of_its_own(text: str, is_in: bool) -> None:
    from noria.governance.forgetting import says

    assert says(text, "4711") is is_in
