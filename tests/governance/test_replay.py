"""A rule is tried on what was decided before it is let loose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from noria.cli.main import main
from noria.kernel.errors import Forbidden
from tests.conftest import Noria
from tests.governance.test_policies import EVIDENCE, approved, gate, put
from tests.registry.test_cli import KeptOpen

STRICT = {"type": "metric", "path": "evaluation.metrics.auc", "op": ">=", "value": 0.95}


def replay(noria: Noria, name: str = "four-eyes", **body: Any) -> dict[str, Any]:
    found = noria.http.post(f"/api/v1/policies/{name}/replay", json=body)
    assert found.status_code in (200, 201), found.text
    made: dict[str, Any] = found.json()
    return made


def decide(noria: Noria) -> None:
    """Three decisions: refused, allowed after an approval, allowed for another alias."""
    put(noria)
    with pytest.raises(Forbidden):
        gate(noria)
    noria.clock.advance(10)
    approved(noria)
    noria.clock.advance(10)
    gate(noria)
    noria.clock.advance(10)
    gate(noria, EVIDENCE | {"alias": "canary"})


def test_the_same_rule_says_the_same_as_then(noria: Noria) -> None:
    decide(noria)
    found = replay(noria)
    assert [(i["was_allowed"], i["allowed"]) for i in found["items"]] == [(True, True), (True, True), (False, False)]
    assert (found["decisions"], found["changed"]) == (3, 0)
    noria.clock.advance(60 * 86_400)  # the approval counts no longer; it did then
    noria.settle()
    assert replay(noria)["changed"] == 0


def test_a_rule_that_is_only_proposed(noria: Noria) -> None:
    decide(noria)
    before = len(noria.facts())
    rule = {"action": "model.promote", "conditions": [STRICT], "match": {"aliases": ["champion"]}}
    found = replay(noria, "strict", rule=rule)
    assert (found["decisions"], found["refused"], found["changed"]) == (3, 2, 1)
    assert all("0.91, must be >= 0.95" in i["reason"] for i in found["items"])
    assert len(noria.facts()) == before and noria.http.get("/api/v1/policies/strict").status_code == 404
    assert replay(noria, limit=1)["decisions"] == 1


def test_what_cannot_be_replayed_is_said(noria: Noria) -> None:
    path = "/api/v1/policies/none/replay"
    assert noria.http.post(path, json={}).status_code == 404
    assert noria.http.post(path, json={"limit": 0}).status_code == 400
    wrong = {"action": "nothing.done", "conditions": [STRICT]}
    assert noria.http.post(path, json={"rule": wrong}).status_code == 400
    noria.as_("root", "admin", kind="user")
    assert noria.as_("predictor", "predictor").post(path, json={}).status_code == 403


def test_on_the_command_line(noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(noria)
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps({"kind": "Policy", "name": "strict", "action": "model.promote", "conditions": [STRICT]}))
    run = CliRunner().invoke(main, ["policy", "replay", "strict", "-f", str(file)])
    assert run.exit_code == 0 and "3 decisions it is for 3: 0 allowed, 3 refused, 2 otherwise than then" in run.output
    assert CliRunner().invoke(main, ["policy", "replay", "other", "-f", str(file)]).exit_code == 3
    assert "four-eyes" in CliRunner().invoke(main, ["policy", "list"]).output
    assert "min_approvals" in CliRunner().invoke(main, ["policy", "show", "four-eyes"]).output
