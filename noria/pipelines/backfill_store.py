"""The rows of backfills and their dates."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from noria.kernel.db import Read, Write, js
from noria.pipelines.model.backfills import Backfill, BackfillPart

_BACKFILL = """id, pipeline, version, param, first, last, step, params, parallel, state, owner, actor, created_at_ms,
               ended_at_ms, error"""
_PART = "backfill_id, position, value, state, run_id, reason"


def add(tx: Write, made: Backfill, parts: list[BackfillPart], keys: list[str]) -> None:
    tx.run(
        f"""insert into backfill ({_BACKFILL})
            values (:id, :pipeline, :version, :param, :first, :last, :step, :params, :parallel, :state, :owner, :actor,
                    :created, null, '')""",
        id=made.id, pipeline=made.pipeline, version=made.version, param=made.param, first=made.first, last=made.last,
        step=made.step, params=js(made.params), parallel=made.parallel, state=made.state, owner=made.owner, actor=made.actor,
        created=made.created_at_ms,
    )  # fmt: skip
    tx.many(
        """insert into backfill_part (backfill_id, position, value, key, state, run_id, reason)
           values (:id, :position, :value, :key, :state, :run_id, :reason)""",
        [
            {"id": made.id, "position": p.position, "value": p.value, "key": key, "state": p.state, "run_id": p.run_id,
             "reason": p.reason}
            for p, key in zip(parts, keys, strict=True)
        ],
    )  # fmt: skip


def done_already(tx: Read, keys: list[str]) -> dict[str, tuple[str, str, str]]:
    """By key: (backfill, state, run) of the dates that are done, or being done."""
    found = dict[str, tuple[str, str, str]]()
    for start in range(0, len(keys), 500):
        rows = tx.tuples(
            """select key, backfill_id, state, run_id from backfill_part
                where key in :keys and state in ('waiting', 'running', 'succeeded') order by backfill_id limit 2000""",
            keys=keys[start : start + 500],
        )
        found |= {key: (backfill, state, run) for key, backfill, state, run in rows}
    return found


def backfill(tx: Read, backfill_id: str) -> Backfill | None:
    found = tx.one(Backfill, f"select {_BACKFILL} from backfill where id = :id", id=backfill_id)
    return _counted(tx, [found])[0] if found else None


def backfills(tx: Read, *, pipeline: str, names: list[str] | None, before: str, limit: int) -> list[Backfill]:
    where, args = ["1 = 1"], dict[str, Any]()
    for clause, name, value in (("pipeline = :pipeline", "pipeline", pipeline), ("id < :before", "before", before)):
        if value:
            where.append(clause)
            args[name] = value
    if names is not None:
        where.append("pipeline in :names")
        args["names"] = names
    found = tx.all(
        Backfill, f"select {_BACKFILL} from backfill where {' and '.join(where)} order by id desc limit :limit",
        limit=limit, **args,
    )  # fmt: skip
    return _counted(tx, found)


def running(tx: Read) -> list[Backfill]:
    return tx.all(Backfill, f"select {_BACKFILL} from backfill where state = 'running' order by id limit 1000")


def _counted(tx: Read, found: list[Backfill]) -> list[Backfill]:
    rows = tx.tuples(
        """select backfill_id, state, count(*) from backfill_part where backfill_id in :ids
            group by backfill_id, state order by backfill_id, state limit 10000""",
        ids=[b.id for b in found],
    )
    counts: dict[str, dict[str, int]] = {}
    for backfill_id, state, count in rows:
        counts.setdefault(backfill_id, {})[state] = int(count)
    return [replace(b, counts=counts.get(b.id, {})) for b in found]


def parts(tx: Read, backfill_id: str, *, after: int, limit: int) -> list[BackfillPart]:
    return tx.all(
        BackfillPart,
        f"""select {_PART} from backfill_part
             where backfill_id = :id and position > :after order by position limit :limit""",
        id=backfill_id, after=after, limit=limit,
    )  # fmt: skip


def parts_in(tx: Read, backfill_id: str, state: str, *, limit: int) -> list[BackfillPart]:
    """Dates in this state, the earliest first."""
    return tx.all(
        BackfillPart,
        f"""select {_PART} from backfill_part
             where backfill_id = :id and state = :state order by position limit :limit""",
        id=backfill_id, state=state, limit=limit,
    )  # fmt: skip


def run_states(tx: Read, run_ids: list[str]) -> dict[str, tuple[str, str]]:
    """(state, error) of these runs."""
    rows = tx.tuples("select id, state, error from pipeline_run where id in :ids", ids=run_ids)
    return {run: (state, error) for run, state, error in rows}


def hold(tx: Write, backfill_id: str) -> Backfill | None:
    """The backfill, held by this transaction until it ends."""
    tx.run("update backfill set state = state where id = :id", id=backfill_id)
    return backfill(tx, backfill_id)


def save_part(tx: Write, part: BackfillPart) -> None:
    tx.run(
        """update backfill_part set state = :state, run_id = :run_id, reason = :reason
            where backfill_id = :id and position = :position""",
        id=part.backfill_id, position=part.position, state=part.state, run_id=part.run_id, reason=part.reason[:1000],
    )  # fmt: skip


def cancel_waiting(tx: Write, backfill_id: str, reason: str) -> None:
    tx.run(
        """update backfill_part set state = 'cancelled', reason = :reason
            where backfill_id = :id and state = 'waiting'""",
        id=backfill_id, reason=reason[:1000],
    )  # fmt: skip


def end(tx: Write, backfill_id: str, *, state: str, at_ms: int, error: str) -> None:
    tx.run(
        "update backfill set state = :state, ended_at_ms = :at_ms, error = :error where id = :id",
        id=backfill_id, state=state, at_ms=at_ms, error=error[:1000],
    )  # fmt: skip
