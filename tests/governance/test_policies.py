"""What is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from noria.governance.conditions import Judged, Metric, MinApprovals, SameHoldout, judge_conditions, number_at
from noria.governance.policy_model import Match, PolicySpec, applies
from noria.kernel.errors import Forbidden
from noria.kernel.ids import Ref
from noria.kernel.op import Actor, Op
from tests.conftest import Noria

DIGEST = "d" * 64
VERSION = Ref("model_version", "01" * 16)
EVIDENCE: dict[str, Any] = {
    "model": "fraud", "version": 2, "digest": DIGEST, "author": "user:ada", "alias": "champion",
    "evaluation": {"dataset_version": "dv2", "split": "test", "metrics": {"auc": 0.91, "val.loss": 0.5}},
    "champion_evaluation": {"dataset_version": "dv2", "split": "test", "metrics": {"auc": 0.90, "val.loss": 0.55}},
}  # fmt: skip


def put(noria: Noria, name: str = "four-eyes", **spec: Any) -> Any:
    body = {"action": "model.promote", "conditions": [{"type": "min_approvals", "count": 1}]} | spec
    return noria.http.put(f"/api/v1/policies/{name}", json=body)


def gate(noria: Noria, evidence: dict[str, Any] = EVIDENCE, *, op: Op | None = None, action: str = "model.promote") -> Any:
    """Ask in the middle of a write transaction, as a slice does; the transaction leaves a trace if it commits."""
    op = op or noria.op()
    with noria.app.db.write(op) as tx:
        tx.link(VERSION, "passed", Ref("gate", action))
        return op.gate(action, VERSION, evidence)


def passed(noria: Noria) -> int:
    with noria.app.db.read() as tx:
        return int(tx.scalar("select count(*) from edge where kind = 'passed'"))


def test_without_policies_nothing_is_refused_and_nothing_written(noria: Noria) -> None:
    assert gate(noria) == []
    assert noria.facts() == [] and noria.http.get("/api/v1/verdicts").json()["items"] == []


def test_a_refusal_rolls_the_act_back_and_keeps_the_verdict(noria: Noria) -> None:
    assert put(noria, message="Ask the risk team.").status_code == 200
    with pytest.raises(
        Forbidden, match=r"four-eyes: 1 approval of digest dddddddddddd needed, 0 given \(Ask the risk team.\)"
    ):
        gate(noria)
    assert passed(noria) == 0
    (verdict,) = noria.http.get("/api/v1/verdicts").json()["items"]
    assert (verdict["allowed"], verdict["policy"], verdict["policy_version"]) == (False, "four-eyes", 1)
    (fact,) = noria.facts("policy.judged")
    assert (
        fact.actor == "user:ada" and not fact.data["allowed"] and fact.data["evidence_digest"] == verdict["evidence_digest"]
    )


def test_an_approval_of_these_bytes_opens_the_gate_and_of_others_does_not(noria: Noria) -> None:
    put(noria)
    approved(noria, digest="e" * 64)
    with pytest.raises(Forbidden):
        gate(noria)
    noria.clock.advance(1)
    approved(noria)
    assert [v.allowed for v in gate(noria)] == [True]
    assert passed(noria) == 1
    allowed = noria.http.get("/api/v1/verdicts", params={"policy": "four-eyes"}).json()["items"]
    assert [v["allowed"] for v in allowed] == [True, False]


def approved(noria: Noria, *, digest: str = DIGEST, action: str = "model.promote", **evidence: Any) -> None:
    loops = noria.app.ops.system("loops")
    asked = noria.app.approvals.request(loops, VERSION, action, digest, evidence)
    noria.app.approvals.approve(noria.app.ops.mint(Actor(kind="user", id="local", name="bea")), asked.id)


def test_an_approval_expires(noria: Noria) -> None:
    put(noria)
    approved(noria)
    gate(noria)
    noria.clock.advance(7 * 86_400 + 1)
    with pytest.raises(Forbidden, match="0 given"):
        gate(noria)


def test_an_approval_for_another_place_or_act_does_not_count(noria: Noria) -> None:
    put(noria)
    approved(noria, alias="staging")
    approved(noria, action="endpoint.deploy")
    with pytest.raises(Forbidden):
        gate(noria)
    put(noria, conditions=[{"type": "min_approvals", "of_action": "endpoint.deploy"}])
    assert gate(noria)


def test_nobody_approves_what_they_made(noria: Noria) -> None:
    put(noria, conditions=[{"type": "approver_not_author"}])
    approved(noria)
    assert gate(noria)
    with pytest.raises(Forbidden, match="somebody else than user:bea"):
        gate(noria, EVIDENCE | {"author": "user:bea"})
    with pytest.raises(Forbidden, match="names no author"):
        gate(noria, {k: v for k, v in EVIDENCE.items() if k != "author"})


def test_a_warning_lets_through_and_is_kept(noria: Noria) -> None:
    put(noria, mode="warn")
    (verdict,) = gate(noria)
    assert not verdict.allowed and passed(noria) == 1
    assert noria.facts("policy.judged")[0].data["allowed"]


def test_a_disabled_policy_is_silent_and_saving_twice_changes_nothing(noria: Noria) -> None:
    assert put(noria, enabled=False).json()["version"] == 1
    assert put(noria, enabled=False).json()["version"] == 1
    assert gate(noria) == []
    assert put(noria).json()["version"] == 2
    assert [f.data["version"] for f in noria.facts("policy.saved")] == [1, 2]
    assert noria.http.delete("/api/v1/policies/four-eyes").status_code == 204
    assert noria.http.get("/api/v1/policies/four-eyes").status_code == 404
    assert gate(noria) == []


def test_the_gate_can_be_asked_outside_a_transaction(noria: Noria) -> None:
    put(noria)
    with pytest.raises(Forbidden):
        noria.op().gate("model.promote", VERSION, EVIDENCE)
    assert len(noria.facts("policy.judged")) == 1


def test_a_policy_is_tried_without_a_trace(noria: Noria) -> None:
    put(noria, match={"models": ["credit*"]})
    tried = noria.http.post("/api/v1/policies/four-eyes/try", json={"subject": str(VERSION), "evidence": EVIDENCE}).json()
    assert tried["applies"] is False and tried["allowed"] is False
    assert noria.facts("policy.judged") == []
    assert gate(noria) == []


@pytest.mark.parametrize(
    "body",
    [
        {"action": "no.such"},
        {"conditions": []},
        {"conditions": [{"type": "nonsense"}]},
        {"conditions": [{"type": "min_approvals", "count": 0}]},
        {"conditions": [{"type": "min_approvals"}] * 17},
        {"conditions": [{"type": "metric", "path": "a", "op": ">="}]},
        {"conditions": [{"type": "metric", "path": "a", "op": ">=", "value": 1, "than": "b"}]},
        {"conditions": [{"type": "metric", "path": "a", "op": "==", "value": 1}]},
        {"match": {"models": ["x"] * 51}},
        {"mode": "maybe"},
        {"surprise": 1},
    ],
)
def test_a_rule_that_cannot_be_judged_is_refused(noria: Noria, body: dict[str, Any]) -> None:
    refused = put(noria, **body)
    assert refused.status_code == 400, refused.text
    assert noria.facts() == []


def test_only_who_may_writes_policies(noria: Noria) -> None:
    bob = noria.as_("bob", "maintainer")
    assert bob.get("/api/v1/policies").status_code == 200
    assert bob.put("/api/v1/policies/x", json={"action": "model.promote", "conditions": []}).status_code == 403


def test_evidence_that_is_too_large_denies(noria: Noria) -> None:
    put(noria, conditions=[{"type": "metric", "path": "evaluation.metrics.auc", "op": ">=", "value": 0.5}])
    assert gate(noria)
    with pytest.raises(Forbidden, match="256 KiB"):
        gate(noria, EVIDENCE | {"padding": "x" * (257 << 10)})


# --- conditions, pure -------------------------------------------------------------------------------------------------


def reasons(condition: Any, evidence: dict[str, Any] = EVIDENCE, approvals: list[Judged] | None = None) -> list[str]:
    return judge_conditions([condition], evidence, {"": approvals or []})


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Metric(path="evaluation.metrics.auc", op=">=", value=0.91), True),
        (Metric(path="evaluation.metrics.auc", op=">=", value=0.92), False),
        (Metric(path="evaluation.metrics.auc", op="<=", value=0.92), True),
        (Metric(path="evaluation.metrics.auc", op=">=", than="champion_evaluation.metrics.auc"), True),
        (Metric(path="evaluation.metrics.auc", op=">=", than="champion_evaluation.metrics.auc", margin=0.02), False),
        (Metric(path="evaluation.metrics.val.loss", op="<=", than="champion_evaluation.metrics.val.loss"), True),
        (Metric(path="evaluation.metrics.f1", op=">=", value=0.1), False),
        (Metric(path="version", op=">=", value=2), True),
        (Metric(path="model", op=">=", value=0), False),
        (SameHoldout(), True),
    ],
)
def test_conditions(condition: Any, holds: bool) -> None:
    assert (not reasons(condition)) == holds


def test_numbers_that_are_none_deny() -> None:
    condition = Metric(path="x", op="<=", value=1)
    for value in (float("nan"), float("-inf"), True, "0", None, [], {}, 10**400):
        assert reasons(condition, {"x": value}), value
    assert number_at({"a": {"b.c": {"d": 1}}}, "a.b.c.d") == 1.0


def test_the_first_model_is_what_the_policy_says() -> None:
    first = EVIDENCE | {"champion_evaluation": None}
    unknown = {k: v for k, v in EVIDENCE.items() if k != "champion_evaluation"}
    for make in (
        lambda f: SameHoldout(first=f),
        lambda f: Metric(path="evaluation.metrics.auc", op=">=", than="champion_evaluation.metrics.auc", first=f),
    ):
        assert not reasons(make("pass"), first) and reasons(make("deny"), first)
        assert reasons(make("pass"), unknown), "evidence that is missing is not a null"
        assert reasons(make("pass"), first | {"champion_version": 3}), "a champion that was not evaluated is no first model"


def test_another_holdout_is_no_comparison() -> None:
    other = EVIDENCE | {"champion_evaluation": {"dataset_version": "dv1", "split": "test"}}
    assert reasons(SameHoldout(), other) == ["evaluated on dataset_version 'dv2', the champion on 'dv1'"]


def test_counting_people() -> None:
    two = [
        Judged(approvers=["1"], labels=["user:a"], roles=[["approver"]], teams=[[]], is_emergency=False),
        Judged(approvers=["1"], labels=["user:a"], roles=[["approver"]], teams=[[]], is_emergency=False),
    ]
    assert reasons(MinApprovals(count=2), approvals=two), "one person twice is one person"
    other = Judged(approvers=["2"], labels=["user:b"], roles=[["admin"]], teams=[[]], is_emergency=False)
    assert not reasons(MinApprovals(count=2), approvals=[*two, other])
    assert reasons(MinApprovals(count=2, role="approver"), approvals=[*two, other])
    emergency = [Judged(approvers=["1"], labels=["user:a"], roles=[[]], teams=[[]], is_emergency=True)]
    assert not reasons(MinApprovals(count=2), approvals=emergency)
    assert reasons(MinApprovals(count=2, allow_emergency=False), approvals=emergency)
    assert reasons(MinApprovals(), EVIDENCE | {"digest": ""}, approvals=two)


def test_a_match_without_evidence_applies() -> None:
    match = Match(models=["fraud*"], aliases=["champion"])
    assert applies(match, {"model": "fraud-eu", "alias": "champion"})
    assert not applies(match, {"model": "credit", "alias": "champion"})
    assert not applies(match, {"model": "fraud", "alias": "staging"})
    assert applies(match, {"model": "fraud"}), "no alias in the evidence: fail closed"


def test_a_spec_is_its_own_summary() -> None:
    assert PolicySpec(name="a", action="b", conditions=[MinApprovals()]) == PolicySpec(
        name="a", action="b", conditions=[MinApprovals()]
    )
