"""Loops: declared, stopped, started; cool-down and budget; alerts that wait."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from noria.cli.main import main
from noria.kernel.ids import Ref
from tests.conftest import Noria
from tests.loops.conftest import SPEC, Given
from tests.registry.test_cli import KeptOpen


def fail_a_turn(noria: Noria, given: Given) -> None:
    given.pipelines.end(noria.system(), given.turn.pipeline_run_id, "failed")
    noria.settle()


def test_an_alert_during_a_turn_waits_for_its_end_and_the_cool_down(noria: Noria, given: Given) -> None:
    given.declare()
    given.alert()
    noria.settle()
    second = given.alert()
    noria.settle()
    assert [e.data["reason"] for e in noria.facts("loop.passed_over")] == ["Turn 1 is under way (training)."]
    fail_a_turn(noria, given)
    noria.clock.advance(3_599)
    noria.settle()
    assert given.turn.number == 1
    noria.clock.advance(2)
    noria.settle()
    assert (given.turn.number, given.turn.cause, given.turn.state) == (2, second, "training")
    assert given.team.get("/api/v1/loops/flights").json()["passes"] == []


def test_an_alert_that_was_resolved_meanwhile_starts_nothing(noria: Noria, given: Given) -> None:
    given.declare()
    given.alert()
    noria.settle()
    given.alert()
    noria.settle()
    op = noria.system()
    with noria.app.db.write(op) as tx:
        tx.emit("alert.resolved", Ref.parse(noria.facts("alert.opened")[1].subject), **resolved())
    fail_a_turn(noria, given)
    noria.clock.advance(4_000)
    noria.settle()
    assert given.turn.number == 1


def resolved() -> dict[str, Any]:
    from noria.kernel.events import FACTS

    values = {
        "alert": "a",
        "monitor": "flights-calibration",
        "by": "",
        "reason": "",
        "resolution": "",
        "endpoint": "flights",
    }
    return {k: v for k, v in values.items() if k in FACTS["alert.resolved"].__struct_fields__}


def test_the_budget_holds_for_alerts_and_for_hands(noria: Noria, given: Given) -> None:
    given.declare(cooldown_s=0, budget={"turns_per_day": 2, "turns": 3})
    for _ in range(2):
        given.alert()
        noria.settle()
        fail_a_turn(noria, given)
    given.alert()
    noria.settle()
    assert given.turn.number == 2
    refused = given.team.post("/api/v1/loops/flights/run", json={"params": {"since": 1}})
    assert refused.status_code == 409 and "2 turns a day" in refused.json()["error"]["message"]
    noria.clock.advance(86_401)
    noria.settle()
    assert given.turn.number == 3
    fail_a_turn(noria, given)
    noria.clock.advance(10 * 86_400)
    given.alert()
    noria.settle()
    assert given.turn.number == 3


def test_by_hand_the_cool_down_does_not_hold(noria: Noria, given: Given) -> None:
    given.declare(cooldown_s=86_400)
    first = given.team.post("/api/v1/loops/flights/run", json={"params": {"since": 7}, "reason": "new data"}).json()
    assert (first["state"], first["trigger"]) == ("training", "manual")
    assert given.pipelines.runs[first["pipeline_run_id"]].params["since"] == 7
    assert given.team.post("/api/v1/loops/flights/run").status_code == 409
    fail_a_turn(noria, given)
    second = given.team.post("/api/v1/loops/flights/run").json()
    assert second["number"] == 2 and second["state"] == "failed" and "${data.event_at_ms}" in second["reason"]


@pytest.mark.parametrize("at", ["training", "awaiting_approval", "canary"])
def test_the_stop_button_ends_what_the_turn_had_started(noria: Noria, given: Given, at: str) -> None:
    given.declare()
    given.alert()
    noria.settle()
    if at != "training":
        given.train()
    if at == "canary":
        given.approve()
    assert given.turn.state == at
    answer = given.team.post("/api/v1/loops/flights/stop", json={"reason": "bad data upstream"}).json()
    assert answer["turn"]["state"] == "stopped" and not answer["is_enabled"]
    assert answer["turn"]["reason"] == "bad data upstream" and answer["turn"]["is_settled"]
    if at == "training":
        assert [r.state for r in given.pipelines.runs.values()] == ["cancelled"]
    elif at == "awaiting_approval":
        assert noria.http.get(f"/api/v1/approvals/{given.turn.approval_id}").json()["state"] == "withdrawn"
    else:
        assert given.serving.kept[0].state == "rolled_back" and "bad data" in given.serving.kept[0].reason
    noria.settle()
    assert given.turn.state == "stopped"
    assert noria.facts("loop.stopped")[0].data["reason"] == "bad data upstream"
    assert given.team.post("/api/v1/loops/flights/run", json={"params": {"since": 1}}).status_code == 409
    given.alert()
    noria.settle()
    assert given.turn.number == 1
    noria.clock.advance(4_000)
    assert given.team.post("/api/v1/loops/flights/start").json()["is_enabled"]
    noria.settle()
    assert given.turn.number == 2, "the alert is still open, and the loop is free again"


def test_a_turn_keeps_the_spec_it_began_with(noria: Noria, given: Given) -> None:
    given.declare()
    given.alert()
    noria.settle()
    changed = given.team.put("/api/v1/loops/flights", json={**SPEC, "gate": {"metric": "log_loss", "min_improvement": 9}})
    assert changed.json()["spec"]["gate"]["min_improvement"] == 9
    given.train(0.50)
    assert given.turn.state == "awaiting_approval"
    assert [e.kind for e in noria.facts("loop.created", "loop.changed")] == ["loop.created", "loop.changed"]


def test_a_loop_can_do_no_more_than_whoever_made_it(noria: Noria, given: Given) -> None:
    carl = noria.as_("carl", "contributor")
    assert carl.post("/api/v1/loops", json=SPEC).status_code == 403
    given.declare(approval={"mode": "auto"})
    from noria.access.model import Grant

    noria.app.access.revoke_grant(noria.system(), "team", "maintainer", "")
    noria.app.access.grant(noria.system(), Grant(principal="team", role="viewer"))
    given.alert()
    noria.settle()
    # FakePipelines asks for no right; the registry and the gate do.
    assert given.turn.state in ("training", "failed")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a/b"}, {"name": ""}, {"champion": "7"}, {"cooldown_s": -1}, {"cooldown_s": 1e12}, {"gate": {"metric": ""}},
        {"gate": {"metric": "m", "min_improvement": -1}}, {"gate": {"metric": "m", "max_p": 0}}, {"approval": {"count": 0}},
        {"canary": {"steps": [50, 25]}}, {"canary": {"steps": [100]}}, {"canary": {"steps": [0]}}, {"params": {"a": "${x}"}},
        {"params": {"a": ["${data.x.y}"]}}, {"budget": {"turns": -1}}, {"nonsense": 1}, {"gate": {"metric": "m", "x": 1}},
        {"approval": {"mode": "never"}}, {"params": {"a": "x" * 100_000}},
    ],
)  # fmt: skip
def test_a_loop_that_cannot_turn_is_refused(noria: Noria, given: Given, change: dict[str, Any]) -> None:
    answer = given.team.post("/api/v1/loops", json={**SPEC, **change})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


def test_lists_and_pages(noria: Noria, given: Given) -> None:
    given.declare()
    given.declare(name="other", monitor="")
    assert [x["name"] for x in given.team.get("/api/v1/loops", params={"limit": 1}).json()["items"]] == ["flights"]
    page = given.team.get("/api/v1/loops", params={"limit": 1}).json()
    rest = given.team.get("/api/v1/loops", params={"limit": 1, "page": page["next"]}).json()
    assert [x["name"] for x in rest["items"]] == ["other"] and rest["next"] is None
    assert given.team.post("/api/v1/loops", json=SPEC).status_code == 409
    assert given.team.get("/api/v1/loops/nobody").status_code == 404


def test_the_loop_on_the_command_line(noria: Noria, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(given.team, url=noria.config.control_url))

    def cli(*args: str) -> str:
        answer = CliRunner().invoke(main, ["loop", *args])
        assert answer.exit_code == 0, answer.output
        return str(answer.output)

    manifest = tmp_path / "loop.yaml"
    manifest.write_text(json.dumps(SPEC))
    assert cli("create", "-f", str(manifest)) == "flights: no turn yet.\n"
    assert "Turn 1 of flights is training." in cli("run", "flights", "--param", "since=3", "--reason", "new data")
    assert "turn 1 training" in cli("list")
    assert "Asked for by hand" not in cli("show", "flights") and "new data" in cli("show", "flights")
    assert cli("stop", "flights", "--reason", "enough") == "flights: stopped; turn 1 stopped.\n"
    assert cli("start", "flights") == "flights: turn 1 stopped.\n"
    assert json.loads(cli("show", "flights", "--json"))["turns"][0]["reason"] == "enough"
    assert cli("delete", "flights") == "flights is gone.\n"
