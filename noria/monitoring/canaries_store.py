"""The rows of canary tests and what they saw."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from noria.kernel.db import Read, Write, js


class CanaryTestRow(Struct, frozen=True, kw_only=True):
    """How far the test of one canary has come."""

    canary_id: str
    endpoint: str
    label_seq: int
    judgements: int
    state: dict[str, Any]
    is_over: bool


def canary_test(tx: Read, canary_id: str) -> CanaryTestRow | None:
    return tx.one(
        CanaryTestRow,
        "select canary_id, endpoint, label_seq, judgements, state, is_over from canary_test where canary_id = :id",
        id=canary_id,
    )


def put_canary_test(tx: Write, row: CanaryTestRow, *, was_label_seq: int | None) -> bool:
    """Write how far the test has come, unless another judge was faster; False then."""
    args = {**msgspec.structs.asdict(row), "state": js(row.state)}
    if was_label_seq is None:
        return bool(
            tx.run(
                """insert into canary_test (canary_id, endpoint, label_seq, judgements, state, is_over)
                   values (:canary_id, :endpoint, :label_seq, :judgements, :state, :is_over)
                   on conflict (canary_id) do nothing""",
                **args,
            )
        )
    args.pop("endpoint")
    return bool(
        tx.run(
            """update canary_test set label_seq = :label_seq, judgements = :judgements, state = :state, is_over = :is_over
                where canary_id = :canary_id and label_seq = :was""",
            was=was_label_seq, **args,
        )
    )  # fmt: skip


def add_judgement(
    tx: Write, canary_id: str, number: int, endpoint: str, at_ms: int, event_at_ms: int, evidence: str
) -> None:
    tx.run(
        """insert into canary_judgement (canary_id, number, endpoint, at_ms, event_at_ms, evidence)
           values (:canary_id, :number, :endpoint, :at_ms, :event_at_ms, :evidence)""",
        canary_id=canary_id, number=number, endpoint=endpoint, at_ms=at_ms, event_at_ms=event_at_ms, evidence=evidence,
    )  # fmt: skip


def judgements(tx: Read, *, endpoint: str = "", canary_id: str = "", limit: int = 1000) -> list[str]:
    """Evidence rows as JSON, newest first."""
    column, value = ("canary_id", canary_id) if canary_id else ("endpoint", endpoint)
    return tx.column(
        f"select evidence from canary_judgement where {column} = :value order by at_ms desc, number desc limit :limit",
        value=value, limit=limit,
    )  # fmt: skip
