"""The inventory, waivers with an end, technical files, and who may see which of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from noria.cli.main import main
from tests.compliance.conftest import World
from tests.conftest import Noria
from tests.registry.test_cli import KeptOpen

SYSTEMS = "/api/v1/systems"


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"risk": "harmless"}, ""),
        ({"members": ["run:1"]}, "members"),
        ({"members": ["flights"]}, ""),
        ({"members": ["model:not-there"]}, "members"),
        ({"approvals": 0}, "approvals"),
        ({"purpose": "x" * 20_001}, "purpose"),
        ({"colour": "red"}, ""),
    ],
)
def test_a_system_that_cannot_be_is_refused(world: World, spec: dict[str, object], where: str) -> None:
    answer = world.ada.put(f"{SYSTEMS}/delays", json=spec)
    assert answer.status_code in (400, 404), answer.text
    assert where in json.dumps(answer.json())
    assert world.noria.facts("system.saved") == []


def test_a_system_cannot_be_the_installation(world: World) -> None:
    assert world.ada.put(f"{SYSTEMS}/installation", json={}).status_code == 400


def test_a_system_is_described_and_retired(world: World) -> None:
    world.ok(world.ada.post("/api/v1/models", json={"name": "flights"}))
    world.system(members=["model:flights"])
    world.system(members=["model:flights"])
    world.system(members=["model:flights"], risk="limited")
    found = world.ok(world.ada.get(f"{SYSTEMS}/delays"))
    assert (found["edit"], found["spec"]["risk"], found["actor"]) == (2, "limited", "user:ada"), "the same again is no edit"
    assert [f.data["spec"]["risk"] for f in world.noria.facts("system.saved")] == ["high", "limited"]
    world.ok(world.ada.post(f"{SYSTEMS}/delays/retire", json={"reason": "replaced on 1 March"}))
    assert [r["name"] for r in world.ok(world.ada.get("/api/v1/compliance"))["rows"]] == ["installation"]
    assert world.ada.post("/api/v1/compliance/delays/evaluate").status_code == 409
    assert world.ada.post(f"{SYSTEMS}/delays/retire", json={"reason": "replaced on 1 March"}).status_code == 409


def test_a_waiver_holds_until_it_ends(running: World) -> None:
    waivers = "/api/v1/compliance/delays/waivers"
    good = {"check": "VAL-4", "reason": "decided in RISK-17"}
    for wrong in ({"reason": "short"}, {"days": 0}, {"days": 367}, {"check": "LOG-2"}):
        assert running.ada.post(waivers, json=good | wrong).status_code == 400, wrong
    assert running.ada.post(waivers, json={"check": "NO-1", "reason": "decided in RISK-17"}).status_code == 404
    body = {"check": "VAL-4", "reason": "decided in RISK-17", "days": 10}
    made = running.ok(running.ada.post(waivers, json=body))
    assert running.ada.post(waivers, json=body).status_code == 409
    found = running.found()["VAL-4"]
    assert (found["state"], found["measured"], found["waiver"]) == ("waived", "fail", made["id"])
    running.noria.clock.advance(10 * 86_400)
    running.noria.settle()
    assert running.ok(running.ada.get("/api/v1/compliance/delays"))["waivers"] == []
    states = [f.data["now"] for f in running.noria.facts("compliance.changed") if f.data["check"] == "VAL-4"]
    assert states == ["waived", "fail"], "its end is noticed unasked"
    made = running.ok(running.ada.post(waivers, json=body))
    running.ok(running.ada.delete(f"/api/v1/waivers/{made['id']}"))
    assert running.ada.delete(f"/api/v1/waivers/{made['id']}").status_code == 409
    assert running.found()["VAL-4"]["state"] == "fail"
    assert [w["revoked_by"] for w in running.ok(running.ada.get(waivers))["items"]] == ["user:ada", ""]


def test_what_passes_is_not_waived(running: World) -> None:
    running.ok(
        running.ada.post("/api/v1/compliance/delays/waivers", json={"check": "PRV-1", "reason": "decided in RISK-17"})
    )
    assert running.found()["PRV-1"]["state"] == "pass"


def test_the_reconciler_measures_when_there_is_a_system(world: World) -> None:
    world.noria.settle()
    assert world.ok(world.ada.get("/api/v1/compliance"))["rows"][0]["states"] == {}
    world.ok(world.ada.post("/api/v1/models", json={"name": "flights"}))
    world.system(members=["model:flights"])
    world.noria.settle()
    rows = world.ok(world.ada.get("/api/v1/compliance"))["rows"]
    assert [r["name"] for r in rows] == ["installation", "delays"] and all(len(r["states"]) > 5 for r in rows)
    assert sum(rows[1]["counts"].values()) == len(rows[1]["states"]) == 31


def test_who_may(running: World, noria: Noria) -> None:
    auditor, maintainer, stranger = (noria.as_(f"the {r}", r) for r in ("auditor", "maintainer", "predictor"))
    assert auditor.get("/api/v1/compliance/delays").status_code == 200
    assert auditor.put(f"{SYSTEMS}/delays", json={}).status_code == 403
    assert maintainer.post("/api/v1/compliance/delays/evaluate").status_code == 200
    body = {"check": "VAL-4", "reason": "decided in RISK-17"}
    assert maintainer.post("/api/v1/compliance/delays/waivers", json=body).status_code == 403, (
        "who is measured does not waive"
    )
    assert stranger.get("/api/v1/compliance").status_code == 403


def test_a_system_with_a_hidden_model_is_hidden(running: World, noria: Noria) -> None:
    running.ok(running.ada.put("/api/v1/labels/pii", json={"is_restricting": True}))
    running.ada.put("/api/v1/labels/pii/things/model:flights")
    viewer = noria.as_("a viewer", "viewer")
    assert viewer.get(f"{SYSTEMS}/delays").status_code == viewer.get("/api/v1/compliance/delays").status_code == 404
    assert viewer.get(SYSTEMS).json()["items"] == [] and viewer.get("/api/v1/compliance").json()["rows"] == []
    assert viewer.get("/api/v1/compliance/installation").status_code == 403
    assert running.ada.get(f"{SYSTEMS}/delays").status_code in (200, 404)
    maintainer = noria.as_("a maintainer", "maintainer")
    read, written = maintainer.get(f"{SYSTEMS}/delays"), maintainer.put(f"{SYSTEMS}/delays", json={"owner": "eve"})
    assert read.status_code == written.status_code == 404, "who cannot read it does not write over it"
    assert read.json()["error"]["message"] == written.json()["error"]["message"]
    with noria.app.db.read() as tx:
        assert "eve" not in str(tx.rows("select * from ai_system"))


def test_the_technical_file(running: World) -> None:
    ada, address = running.ada, f"{SYSTEMS}/delays/technical-file"
    empty = running.ok(ada.get(address))
    assert empty["score"] == 0 and len(empty["warnings"]) == 9
    made = running.ok(
        ada.put(f"{address}/5", json={"content": "Delays that are *wrong* <script>alert(1)</script>", "expect": 0})
    )
    assert made["edit"] == 1
    assert ada.put(f"{address}/5", json={"content": "x", "expect": 0}).status_code == 409
    assert ada.put(f"{address}/10", json={"content": "x"}).status_code == 400
    running.noria.clock.advance(10)
    running.dataset()
    version = running.version(running.run(), base_model="none")
    running.approve(version)
    running.deploy(2)
    file = running.ok(ada.get(address))
    assert file["sections"][4]["is_stale"] and file["score"] == 0.056
    assert "Section 5" in next(w for w in file["warnings"] if "went into production" in w)
    ada.put(f"{address}/5", json={"content": "Read again."})
    assert ada.get(f"{address}/5").json()["items"][0]["content"] == "Read again."
    markdown = ada.get(address, params={"form": "md"}).text
    assert "## 5. Risk management" in markdown and "flights@2" in markdown.replace("\\", "")
    html = ada.get(address, params={"form": "page"})
    assert (
        "<script" not in html.text and "@media print" in html.text and "sandbox" in html.headers["content-security-policy"]
    )
    assert ada.get(address, params={"form": "pdf"}).status_code == 400


def test_reports_and_sheets_that_say_nothing_are_refused(running: World) -> None:
    now = running.noria.clock.now_ms()
    good = {"kind": "robustness", "title": "r", "uri": "u", "dated_at_ms": now}
    for wrong in (
        {"title": " "},
        {"digest": "xyz"},
        {"kind": "poem"},
        {"dated_at_ms": now + 3 * 86_400_000},
        {"kind": "vulnerabilities"},
    ):
        assert running.ada.post(f"{SYSTEMS}/delays/reports", json=good | wrong).status_code == 400, wrong
    for wrong in ({"collected_from": "yesterday"}, {"collected_from": "2013-02-30"}, {"retention_days": 0},
                  {"collected_from": "2014-01-01", "collected_to": "2013-01-01"}):  # fmt: skip
        assert running.ada.put("/api/v1/data-sheets/flights", json=wrong).status_code == 400, wrong
    assert running.ada.put("/api/v1/data-sheets/not-there", json={}).status_code == 404


def test_a_card_is_stale_once_the_version_was_evaluated_again(running: World) -> None:
    card = "/api/v1/models/flights/versions/1/card"
    running.ok(running.ada.put(f"{card}/limitations", json={"content": "Not at night."}))
    before = running.ok(running.ada.get(card))["completeness"]
    running.noria.clock.advance(60)
    running.evaluate(1, running.dataset(name="later"), auc=0.7)
    after = running.ok(running.ada.get(card))["completeness"]
    assert (before["stale"], set(after["stale"])) == ({}, {"limitations"}) and after["score"] < before["score"]
    assert "limitations is stale" in running.ada.get(card, params={"form": "md"}).text
    page = running.ada.get(card, params={"form": "page"})
    assert page.text.startswith("<!doctype html>") and "@media print" in page.text


def test_the_command_line(running: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = KeptOpen(running.ada, url=running.noria.config.control_url)
    monkeypatch.setattr("noria.client.api.connect", lambda *_, **__: api)

    def noria(*words: str, code: int = 0, given: str | None = None) -> str:
        done = CliRunner().invoke(main, list(words), input=given)
        assert done.exit_code == code, done.output
        return done.output

    assert "edit 2" in noria("system", "set", "delays", "--risk", "limited", "--member", "model:flights")
    assert "limited" in noria("system", "list") and "tells passengers" in noria("system", "show", "delays")
    assert "✕ fail" in noria("compliance", "show", "delays", "--now", code=1)
    assert "✓" in noria("compliance", "show", "delays", "--check", "prv-1")
    noria("compliance", "waive", "delays", "MON-1", "--reason", "decided in RISK-17")
    waiver = json.loads(noria("compliance", "waivers", "delays", "--json"))[0]
    assert "no longer counts" in noria("compliance", "revoke", waiver["id"])
    assert "GDPR" not in noria("compliance", "checks", "--framework", "gdpr") and "DAT-5" in noria("compliance", "checks")
    assert noria("compliance", "checks", "--framework", "iso-1", code=3)
    assert "installation" in noria("compliance", "list")
    assert "edit 1" in noria("system", "file", "delays", "--write", "1", given="It tells of delays.")
    noria("system", "file", "delays", "--form", "page", "-o", str(tmp_path / "file.html"))
    assert "It tells of delays." in (tmp_path / "file.html").read_text() and "It tells" in noria("system", "file", "delays")
    noria(
        "system",
        "report",
        "delays",
        "--kind",
        "vulnerabilities",
        "--title",
        "pip-audit",
        "--uri",
        "ci:42",
        "--number",
        "critical=0",
    )
    assert "pip-audit" in noria("system", "report", "delays")
    (tmp_path / "sheet.yaml").write_text("licence: CC0-1.0\ncollected_from: 2013-01-01\n")
    assert "2013-01-01" in noria("compliance", "sheet", "flights", "-f", str(tmp_path / "sheet.yaml"))
    (tmp_path / "system.yaml").write_text("kind: System\nname: delays\nowner: bea\nrisk: high\nmembers: [model:flights]\n")
    noria("apply", "-f", str(tmp_path / "system.yaml"))
    assert "bea" in noria("system", "show", "delays")
    noria("system", "retire", "delays", "--reason", "replaced on 1 March")
