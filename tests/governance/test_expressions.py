"""Conditions in CEL: only true opens."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from noria.governance import expressions
from noria.governance.conditions import Judged
from noria.governance.expressions import judge_expression
from noria.kernel.errors import Forbidden
from tests.conftest import Noria
from tests.governance.test_policies import EVIDENCE, approved, gate, put

RISK = """evidence.alias != "champion" || approvals.exists(a, "admin" in a.roles && a.actor != evidence.author)"""


def cel(noria: Noria, expression: str, **more: Any) -> Any:
    return put(noria, "risk", conditions=[{"type": "cel", "expression": expression, **more}])


def test_an_expression_decides(noria: Noria) -> None:
    assert cel(noria, RISK, says="The risk team approves champions.").status_code == 200
    with pytest.raises(Forbidden, match=r"risk: The risk team approves champions\."):
        gate(noria)
    assert gate(noria, EVIDENCE | {"alias": "canary"})
    noria.clock.advance(1)
    approved(noria)
    assert [v.allowed for v in gate(noria)] == [True]
    with pytest.raises(Forbidden):
        gate(noria, EVIDENCE | {"author": "user:bea"})


@pytest.mark.parametrize(
    "expression",
    ["evidnce.model == 'a'", "1", "'yes'", "evidence.model ==", "", " ", "(" * 40 + "true" + ")" * 40, "'" + "a" * 9_000 + "' == 'a'"],
    ids=lambda e: e[:20],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_when_it_is_written(noria: Noria, expression: str) -> None:
    answer = cel(noria, expression)
    assert answer.status_code == 400 and answer.json()["error"]["where"] == "conditions"
    assert noria.http.get("/api/v1/policies/risk").status_code == 404


@pytest.mark.parametrize(
    ("expression", "evidence"),
    [
        ("evidence.nope == 'a'", {}), ("evidence.text", {"text": "true"}), ("evidence.number", {"number": 1}),
        ("evidence.model", {"model": "x"}), ("evidence.n > 1", {"n": float("nan")}), ("evidence.n > 1", {"n": None}),
        ("evidence.n / 0 == 1", {"n": 1}), ("evidence.n + 1 > 0", {"n": 2**63 - 1}), ("evidence.n > 0", {"n": 2**70}),
        ("evidence.text != 'b'", {"text": "\ud800"}), ("evidence.nope || false", {}), ("!(evidence.nope == 1)", {}),
        ("evidence.l.all(a, evidence.l.all(b, evidence.l.all(c, true)))", {"l": list(range(100))}),
        ("evidence.text.matches('(a+)+$') && false", {"text": "a" * 5_000 + "b"}),
    ],
)  # fmt: skip
def test_everything_but_true_refuses(expression: str, evidence: dict[str, Any]) -> None:
    assert judge_expression(expression, evidence, 100, [], 0) != ""


def test_true_opens() -> None:
    approvals = [Judged(approvers=["p"], labels=["user:bea"], roles=[["risk"]], teams=[["eu"]], is_emergency=False)]
    for expression in (
        "true",
        "approvals.size() == 1",
        "approvals[0].actor == 'user:bea'",
        "'eu' in approvals[0].teams",
        "now_ms > 5",
        "evidence.a.b[1] == 2",
    ):
        assert judge_expression(expression, {"a": {"b": [1, 2]}}, 100, approvals, 6) == "", expression
    assert "too large" in judge_expression("true", {}, 70_000, [], 0)


def test_without_the_engine_it_cannot_be_written_and_nothing_opens(noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cel(noria, "true").status_code == 200
    expressions._compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(Forbidden, match="engine for expressions is not installed"):
        gate(noria)
    answer = cel(noria, "true && true")
    assert answer.status_code == 400 and "noria[policy]" in answer.json()["error"]["hint"]
