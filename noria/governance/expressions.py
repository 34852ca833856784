"""Conditions in CEL, for what the structured ones cannot say. The engine is the extra `noria[policy]`, and is not in the core.

Three variables: `evidence` (a map), `approvals` (of these bytes: `actor`, `roles`, `is_emergency`) and `now_ms`. Invariant: only the
Boolean true opens; an error, a missing field, another type, input that is too large or an engine that is missing is a reason to
refuse. The engine returns errors as values which are true in Python, so the type is asked first. It bounds nesting and iterations
itself; the sizes below bound what it does not.
"""

from __future__ import annotations

import functools
from typing import Any

from noria.governance.conditions import Judged
from noria.kernel.errors import Invalid

EXPRESSION_BYTES = 8 << 10
EVIDENCE_BYTES = 64 << 10  # joining texts is not bounded by the engine
HINT = "pip install 'noria[policy]'"


@functools.lru_cache(maxsize=512)
def _compiled(expression: str) -> Any:
    """Raises ImportError without the engine, RuntimeError for what cannot be compiled."""
    from cel_expr_python import cel

    kinds = cel.Type
    names = {"evidence": kinds.Map(kinds.STRING, kinds.DYN), "approvals": kinds.List(kinds.DYN), "now_ms": kinds.INT}
    compiled = cel.NewEnv(variables=names).compile(expression)
    if compiled.return_type() not in (kinds.BOOL, kinds.DYN):
        raise RuntimeError(f"it gives {compiled.return_type()}, not a truth value")
    return compiled


def check_expression(expression: str) -> None:
    """Raises Invalid for what cannot be judged, or when the engine is missing."""
    if not expression.strip() or len(expression.encode("utf-8", "replace")) > EXPRESSION_BYTES:
        raise Invalid(f"An expression has 1 to {EXPRESSION_BYTES} bytes.", where="conditions")
    try:
        _compiled(expression)
    except ImportError as cause:
        raise Invalid("Conditions in CEL need an engine that is not installed.", where="conditions", hint=HINT) from cause
    except (RuntimeError, ValueError, TypeError) as cause:
        reason = str(cause).split("\n")[0].removeprefix("INVALID_ARGUMENT: ERROR: ")
        raise Invalid(
            f"The expression cannot be read: {reason[:300]}", where="conditions",
            hint="It may use evidence, approvals and now_ms, and gives true or false.",
        ) from cause  # fmt: skip


def judge_expression(
    expression: str, evidence: dict[str, Any], evidence_bytes: int, approvals: list[Judged], now_ms: int
) -> str:
    """Why the expression does not hold; "" when it does."""
    if evidence_bytes > EVIDENCE_BYTES:
        return f"the evidence is larger than {EVIDENCE_BYTES >> 10} KiB, too large for an expression"
    given = [
        {"actor": label, "roles": roles, "teams": teams, "is_emergency": a.is_emergency}
        for a in approvals
        for label, roles, teams in zip(a.labels, a.roles, a.teams, strict=True)
    ]
    try:
        from cel_expr_python import cel

        found = _compiled(expression).eval(data={"evidence": evidence, "approvals": given, "now_ms": now_ms})
        if found.type() != cel.Type.BOOL:
            return f"the expression gives no truth value: {str(found.value())[:200]}"
        return "" if found.value() is True else "the expression does not hold"
    except ImportError:
        return f"the engine for expressions is not installed ({HINT})"
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        return f"the expression cannot be evaluated: {str(error)[:200]}"
