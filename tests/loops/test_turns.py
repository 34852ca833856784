"""Turns: from an alert to a promotion, and every way out before it."""

from __future__ import annotations

from typing import Any

import pytest

from noria.governance.conditions import MinApprovals
from noria.governance.policy_model import PolicySpec
from noria.kernel.events import cause_chain
from tests.conftest import Noria
from tests.loops.conftest import Crash, Given


def test_an_alert_leads_to_a_promotion_and_every_fact_says_why(noria: Noria, given: Given) -> None:
    given.declare()
    alert = given.alert()
    noria.settle()
    assert given.turn.state == "training"
    run = given.pipelines.runs[given.turn.pipeline_run_id]
    assert run.params == {"dataset": "flights@latest", "since": 123, "note": "turn of flights after flights@1"}
    made = given.train(0.50)
    assert given.turn.state == "awaiting_approval" and given.turn.challenger == made.number
    assert given.turn.comparison and given.turn.comparison.improvement == pytest.approx(0.05)
    asked = noria.http.get(f"/api/v1/approvals/{given.turn.approval_id}").json()
    assert asked["digest"] == made.digest and asked["evidence"]["comparison"]["champion_value"] == 0.55
    given.approve()
    assert given.turn.state == "canary" and given.serving.kept[0].model_version == made.number
    given.serving.end(noria.system(), "promoted", evidence={"words": "not worse"})
    noria.settle()
    assert given.states == ["triggered", "training", "comparing", "awaiting_approval", "canary", "promoted"]
    assert noria.app.registry.version(noria.op(), "flights@champion").number == made.number
    with noria.app.db.read() as tx:
        chain = [e.kind for e in cause_chain(tx, noria.facts("canary.started")[0].seq)]
    assert chain == ["alert.opened", "loop.turn_started", *["loop.turn_advanced"] * 3, "canary.started"]
    waited_for = {step.state: step.after for step in given.turn.steps}
    assert waited_for["canary"] == noria.facts("approval.granted")[0].seq
    assert waited_for["promoted"] == noria.facts("canary.promoted")[0].seq
    started = noria.facts("loop.turn_started")[0]
    assert started.cause == alert and started.actor.startswith("trigger:flights for ")


def test_another_monitors_alert_is_not_ours(noria: Noria, given: Given) -> None:
    given.declare()
    given.alert("somebody-elses")
    noria.settle()
    assert noria.facts("loop.turn_started") == []


@pytest.mark.parametrize(
    ("loss", "more", "gate", "passes", "word"),
    [
        (0.50, {}, {}, True, "better by 0.05"),
        (0.55, {}, {}, False, "no improvement"),
        (0.60, {}, {}, False, "worse by 0.05"),
        (0.54, {}, {"min_improvement": 0.02}, False, "at least 0.02"),
        (0.50, {"log_loss_p": 0.2}, {"max_p": 0.05}, False, "p is 0.2"),
        (0.50, {"log_loss_p": 0.01}, {"max_p": 0.05}, True, "better"),
        (0.50, {}, {"max_p": 0.05}, False, "no log_loss_p"),
        (0.50, {"log_loss_difference_low": -0.09, "log_loss_difference_high": 0.01}, {"needs_interval": True}, False, "reaches"),
        (0.50, {"log_loss_difference_low": -0.09, "log_loss_difference_high": -0.01}, {"needs_interval": True}, True, "better"),
        (0.50, {}, {"needs_interval": True}, False, "no log_loss_difference_low"),
        (0.50, {}, {"direction": "higher"}, False, "worse"),
        (0.50, {}, {"split": "other"}, False, "Not both"),
        (0.50, {}, {"metric": "auc"}, False, "Not both"),
        (None, {}, {}, False, "Not both"),
    ],
)  # fmt: skip
def test_the_gate_passes_only_what_is_shown_to_be_better(
    noria: Noria, given: Given, loss: float | None, more: dict[str, float], gate: dict[str, Any], passes: bool, word: str
) -> None:
    given.declare(gate={"metric": "log_loss", **gate})
    given.alert()
    noria.settle()
    given.train(loss, **more)
    assert given.turn.state == ("awaiting_approval" if passes else "rejected")
    assert word in given.turn.reason, given.turn.reason
    assert given.turn.comparison and given.turn.comparison.passed is passes


def test_numbers_from_other_data_are_not_compared(noria: Noria, given: Given) -> None:
    given.declare()
    given.alert()
    noria.settle()
    made = given.version(0.40, dataset="d3")
    given.pipelines.end(noria.system(), given.turn.pipeline_run_id, "succeeded", version=f"flights@{made.number}")
    noria.settle()
    assert given.turn.state == "rejected" and "same dataset version" in given.turn.reason


@pytest.mark.parametrize(
    "output", [{}, {"version": None}, {"version": "trains@1"}, {"version": 99}, {"version": [1]}, {"version": True}]
)
def test_a_pipeline_that_names_no_version_fails_the_turn(noria: Noria, given: Given, output: dict[str, Any]) -> None:
    given.declare()
    given.alert()
    noria.settle()
    given.pipelines.end(noria.system(), given.turn.pipeline_run_id, "succeeded", **output)
    noria.settle()
    assert given.turn.state == "failed" and given.turn.reason


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_pipeline_that_ends_badly_ends_the_turn(noria: Noria, given: Given, state: str) -> None:
    given.declare()
    given.alert()
    noria.settle()
    given.pipelines.end(noria.system(), given.turn.pipeline_run_id, state)
    noria.settle()
    assert given.turn.state == "failed" and state in given.turn.reason


def test_a_missing_pipeline_fails_the_turn_with_its_sentence(noria: Noria, given: Given) -> None:
    given.declare(pipeline="missing")
    given.alert()
    noria.settle()
    assert given.turn.state == "failed" and "no pipeline" in given.turn.reason


def test_a_rejected_approval_rejects_the_turn(noria: Noria, given: Given) -> None:
    given.declare()
    given.alert()
    noria.settle()
    given.train()
    given.approve("reject")
    assert given.turn.state == "rejected" and "seen" in given.turn.reason
    assert given.serving.kept == []


def test_whoever_made_the_loop_cannot_approve_it(noria: Noria, given: Given) -> None:
    given.declare()
    given.alert()
    noria.settle()
    given.train()
    noria.app.access.grant(noria.system(), _grant("team", "approver"))
    noria.app.access.forget_caches()
    answer = given.team.post(f"/api/v1/approvals/{given.turn.approval_id}/approve", json={})
    assert answer.status_code == 403
    noria.settle()
    assert given.turn.state == "awaiting_approval"


def _grant(principal: str, role: str) -> Any:
    from noria.access.model import Grant

    return Grant(principal=principal, role=role)


def test_a_worse_canary_is_rolled_back_and_the_champion_stays(noria: Noria, given: Given) -> None:
    given.declare(approval={"mode": "auto"})
    given.alert()
    noria.settle()
    given.train()
    assert given.turn.state == "canary"
    given.serving.end(noria.system(), "rolled_back", "Brier 0.45 against 0.19", {"canary": 0.45})
    noria.settle()
    assert given.turn.state == "rolled_back" and "0.45 against 0.19" in given.turn.reason
    assert noria.app.registry.version(noria.op(), "flights@champion").number == 1


def test_a_loop_without_a_canary_deploys_at_once(noria: Noria, given: Given) -> None:
    given.declare(approval={"mode": "auto"}, canary={"steps": []})
    given.alert()
    noria.settle()
    made = given.train()
    assert given.turn.state == "promoted" and given.serving.deployed == [made.label]


def test_a_policy_still_decides_over_a_loop(noria: Noria, given: Given) -> None:
    rule = PolicySpec(name="two-people", action="endpoint.deploy", conditions=[MinApprovals(count=2)])
    noria.app.policies.put(noria.op(), rule) if hasattr(noria.app.policies, "put") else noria.app.policies.save(
        noria.op(), rule
    )
    given.declare(approval={"mode": "auto"})
    given.alert()
    noria.settle()
    given.train()
    assert given.turn.state == "rejected" and "two-people" in given.turn.reason


def test_a_loop_waits_for_somebody_elses_canary(noria: Noria, given: Given) -> None:
    given.declare(approval={"mode": "auto"})
    given.alert()
    noria.settle()
    other = given.version(0.9)
    given.serving.canaries.start(
        noria.system(), "flights", other.label, steps=[10], guard=given.loops.loop(noria.op(), "flights").spec.canary.guard
    )
    made = given.train()
    assert given.turn.state == "comparing"
    given.serving.end(noria.system(), "rolled_back")
    noria.settle()
    assert given.turn.state == "canary" and given.serving.kept[0].model_version == made.number


@pytest.mark.parametrize("act", ["submit", "start_canary"])
def test_a_crash_after_an_act_repeats_nothing(noria: Noria, given: Given, act: str) -> None:
    given.declare(approval={"mode": "auto"})
    given.pipelines.dies_after = given.serving.dies_after = act
    given.alert()
    crashed = 0
    for _ in range(4):
        try:
            noria.settle()
            if given.turn.state == "training":
                given.train()
        except Crash:
            crashed += 1
    assert crashed == 1
    assert given.turn.state == "canary"
    assert len(given.pipelines.runs) == len(given.serving.kept) == len(noria.facts("loop.turn_started")) == 1


def test_a_deleted_loop_keeps_its_turns_facts(noria: Noria, given: Given) -> None:
    given.declare()
    given.alert()
    noria.settle()
    assert given.team.delete("/api/v1/loops/flights").status_code == 409
    given.team.post("/api/v1/loops/flights/stop")
    turn = given.turn.id
    assert given.team.delete("/api/v1/loops/flights").status_code == 204
    assert given.team.get(f"/api/v1/turns/{turn}").json()["state"] == "stopped"
    assert given.team.get("/api/v1/loops/flights").status_code == 404
