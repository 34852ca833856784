"""The rows of runs. Every transition of a run first locks its row, so that two of them never interleave."""

from __future__ import annotations

from typing import Any

from noria.kernel.db import Read, Write, js
from noria.pipelines.model.runs import PipelineRun

_RUN = """id, pipeline, version, state, params, created_at_ms, started_at_ms, ended_at_ms, actor, owner, cause, error,
          remaining, outputs, is_paused, slot, origin_run_id, queues"""


def add_run(tx: Write, run: PipelineRun, *, unique: str) -> bool:
    """False when a run with this unique key exists."""
    return bool(
        tx.run(
            """insert into pipeline_run (id, pipeline, version, state, params, created_at_ms, actor, owner, cause,
                                         unique_key, remaining, slot, origin_run_id, queues)
               values (:id, :pipeline, :version, :state, :params, :created, :actor, :owner, :cause, :unique_key, :remaining,
                       :slot, :origin, :queues)
               on conflict (unique_key) do nothing""",
            id=run.id,
            pipeline=run.pipeline,
            version=run.version,
            state=run.state,
            params=js(run.params),
            created=run.created_at_ms,
            actor=run.actor,
            owner=run.owner,
            cause=run.cause,
            unique_key=unique or run.id,
            remaining=run.remaining,
            slot=run.slot,
            origin=run.origin_run_id,
            queues=js(run.queues),
        )
    )


def run_by_unique(tx: Read, unique: str) -> PipelineRun | None:
    return tx.one(PipelineRun, f"select {_RUN} from pipeline_run where unique_key = :key", key=unique)


def run(tx: Read, run_id: str) -> PipelineRun | None:
    return tx.one(PipelineRun, f"select {_RUN} from pipeline_run where id = :id", id=run_id)


def lock_run(tx: Write, run_id: str) -> PipelineRun | None:
    """The run, held by this transaction until it ends."""
    if not tx.run("update pipeline_run set remaining = remaining where id = :id", id=run_id):
        return None
    return run(tx, run_id)


def runs(
    tx: Read, *, pipeline: str, state: str, owner: str, names: list[str] | None, before: str, limit: int
) -> list[PipelineRun]:  # fmt: skip
    where, args = ["1 = 1"], dict[str, Any]()
    for clause, name, value in (
        ("pipeline = :pipeline", "pipeline", pipeline),
        ("state = :state", "state", state),
        ("owner = :owner", "owner", owner),
        ("id < :before", "before", before),
    ):
        if value:
            where.append(clause)
            args[name] = value
    if names is not None:
        where.append("pipeline in :names")
        args["names"] = names
    return tx.all(
        PipelineRun,
        f"select {_RUN} from pipeline_run where {' and '.join(where)} order by id desc limit :limit",
        limit=limit, **args,
    )  # fmt: skip


def active_in(tx: Read, slot: str) -> list[str]:
    """The runs that hold this slot, oldest first."""
    return tx.column(
        """select id from pipeline_run
            where slot = :slot and state in ('queued', 'running', 'cancelling') order by id limit 2000""",
        slot=slot,
    )


def waiting_in(tx: Read, slot: str) -> int:
    return int(tx.scalar("select count(*) from pipeline_run where slot = :slot and state = 'waiting'", slot=slot))


def first_waiting(tx: Read, slot: str) -> str | None:
    """The run that has waited longest for this slot, and is not paused."""
    found = tx.scalar(
        "select min(id) from pipeline_run where slot = :slot and state = 'waiting' and is_paused = :no", slot=slot, no=False
    )
    return None if found is None else str(found)


def slots_waiting(tx: Read) -> list[tuple[str, str]]:
    """(slot, pipeline) for which runs wait."""
    rows = tx.rows("select distinct slot, pipeline from pipeline_run where state = 'waiting' order by slot limit 1000")
    return [(row["slot"], row["pipeline"]) for row in rows]


def save_run(tx: Write, found: PipelineRun) -> None:
    tx.run(
        """update pipeline_run
              set state = :state, version = :version, started_at_ms = :started, ended_at_ms = :ended, error = :error,
                  remaining = :remaining, outputs = :outputs, is_paused = :is_paused
            where id = :id""",
        id=found.id, state=found.state, version=found.version, started=found.started_at_ms, ended=found.ended_at_ms,
        error=found.error[:4000], remaining=found.remaining, outputs=js(found.outputs),
        is_paused=found.is_paused,
    )  # fmt: skip


def submitted(tx: Read, run_id: str) -> int | None:
    """The seq of the fact that the run was submitted."""
    found = tx.scalar(
        "select min(seq) from event where subject = :subject and kind = 'pipeline_run.submitted'",
        subject=f"pipeline_run:{run_id}",
    )
    return None if found is None else int(found)
