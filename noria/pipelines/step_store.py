"""The rows of the steps of runs, and what they returned."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from noria.kernel.db import Read, Write, js
from noria.pipelines.model.steps import StepRun
from noria.pipelines.model.values import Json, Many, Value

STEP = """id, run_id, name, position, state, waits, attempt, failures, losses, due_at_ms, started_at_ms, ended_at_ms,
           worker, lease_until_ms, error, cache_key, cached_from, reason, log_bytes, outputs, reads, kind, parent_id, item,
           approval_id, stop_by, spec, cpu, gpu, memory_bytes, queue, owner, pipeline"""


def add_steps(tx: Write, steps: list[StepRun], waits: list[tuple[str, str]]) -> None:
    _insert_steps(tx, steps)
    tx.many(
        "insert into step_wait (parent_id, child_id) values (:parent, :child)",
        [{"parent": parent, "child": child} for parent, child in waits],
    )


def _insert_steps(tx: Write, steps: list[StepRun]) -> None:
    tx.many(
        """insert into step_run (id, run_id, name, position, state, waits, attempt, due_at_ms, kind, parent_id, item, spec,
                                 cpu, gpu, memory_bytes, queue, owner, pipeline)
           values (:id, :run_id, :name, :position, :state, :waits, 0, :due, :kind, :parent_id, :item, :spec, :cpu, :gpu,
                   :memory, :queue, :owner, :pipeline)""",
        [
            {"id": s.id, "run_id": s.run_id, "name": s.name, "position": s.position, "state": s.state, "waits": s.waits,
             "due": s.due_at_ms, "kind": s.kind, "parent_id": s.parent_id, "item": s.item,
             "spec": None if s.spec is None else js(s.spec), "cpu": s.cpu, "gpu": s.gpu, "memory": s.memory_bytes,
             "queue": s.queue, "owner": s.owner, "pipeline": s.pipeline}
            for s in steps
        ],
    )  # fmt: skip


def put_elements(tx: Write, steps: list[StepRun]) -> None:
    """The elements of a map: new ones, and those of an earlier time, which keep their id, their tries and their output."""
    there = set(tx.column("select id from step_run where id in :ids", ids=[s.id for s in steps])) if steps else set()
    _insert_steps(tx, [s for s in steps if s.id not in there])
    for again in steps:
        if again.id in there:
            save_step(tx, again)
            tx.run("update step_run set spec = :spec where id = :id", id=again.id, spec=js(again.spec))


def elements(tx: Read, map_id: str) -> list[StepRun]:
    """The elements of a map, in order."""
    return tx.all(StepRun, f"select {STEP} from step_run where parent_id = :id order by item limit 2000", id=map_id)


def remove_steps(tx: Write, ids: list[str]) -> None:
    """Take steps away that a run has no more; their tries and output with them."""
    if ids:
        tx.run("delete from step_log where step_run_id in :ids", ids=ids)
        tx.run("delete from attempt where step_run_id in :ids", ids=ids)
        tx.run("delete from step_report where step_run_id in :ids", ids=ids)
        tx.run("delete from step_run where id in :ids", ids=ids)


def steps_count(tx: Read, run_id: str) -> int:
    return int(tx.scalar("select count(*) from step_run where run_id = :id", id=run_id))


def step_of_question(tx: Read, approval_id: str) -> StepRun | None:
    """The step that asked."""
    return tx.one(StepRun, f"select {STEP} from step_run where approval_id = :id", id=approval_id)


def idle(tx: Read, run_id: str) -> list[StepRun]:
    """Steps that wait for nothing but their run: what begins when it goes on."""
    return tx.all(
        StepRun,
        f"""select {STEP} from step_run
             where run_id = :id and state = 'waiting' and waits = 0 order by position, item limit 2000""",
        id=run_id,
    )


def step(tx: Read, step_id: str) -> StepRun | None:
    return tx.one(StepRun, f"select {STEP} from step_run where id = :id", id=step_id)


def steps(tx: Read, run_id: str) -> list[StepRun]:
    return tx.all(StepRun, f"select {STEP} from step_run where run_id = :id order by position, item limit 2000", id=run_id)


def named_steps(tx: Read, run_id: str, names: list[str]) -> list[StepRun]:
    """These steps of a run."""
    if not names:
        return []
    return tx.all(
        StepRun,
        f"select {STEP} from step_run where run_id = :id and name in :names order by position, item limit 2000",
        id=run_id, names=names,
    )  # fmt: skip


class Results(Struct, frozen=True):
    """What steps returned, by name; `absent` were passed over; `reasons` are why each step ended as it did."""

    values: dict[str, Value | None]
    absent: frozenset[str]
    reasons: dict[str, str]


def results(tx: Read, run_id: str, names: list[str]) -> Results:
    """What these steps of a run returned; a map returns the list of what its elements did."""
    found = named_steps(tx, run_id, names)
    values = {s.name: _gathered(tx, s) if s.kind == "map" else s.outputs for s in found}
    absent = frozenset(s.name for s in found if s.state == "skipped")
    return Results(values, absent, {s.name: s.reason for s in found})


def _gathered(tx: Read, step: StepRun) -> Value:
    rows = tx.tuples("select outputs, state from step_run where parent_id = :id order by item limit 2000", id=step.id)
    items = [
        msgspec.json.decode(body, type=Value) if body is not None and state == "succeeded" else Json(None)
        for body, state in rows
    ]
    return Many(items) if any(not isinstance(i, Json) for i in items) else Json([i.value for i in items])


def save_step(tx: Write, found: StepRun) -> None:
    tx.run(
        """update step_run
              set state = :state, waits = :waits, attempt = :attempt, failures = :failures, losses = :losses,
                  due_at_ms = :due, started_at_ms = :started, ended_at_ms = :ended, worker = :worker,
                  lease_until_ms = :lease, error = :error, cache_key = :cache_key, cached_from = :cached_from,
                  reason = :reason, outputs = :outputs, reads = :reads, approval_id = :approval_id, stop_by = :stop_by,
                  cpu = :cpu, gpu = :gpu, memory_bytes = :memory, queue = :queue
            where id = :id""",
        id=found.id, state=found.state, waits=found.waits, attempt=found.attempt, failures=found.failures,
        losses=found.losses, due=found.due_at_ms, started=found.started_at_ms, ended=found.ended_at_ms,
        worker=found.worker, lease=found.lease_until_ms, error=found.error[:4000], cache_key=found.cache_key,
        cached_from=found.cached_from, reason=found.reason, reads=js(found.reads), cpu=found.cpu, gpu=found.gpu,
        memory=found.memory_bytes, queue=found.queue, approval_id=found.approval_id, stop_by=found.stop_by,
        outputs=None if found.outputs is None else js(found.outputs),
    )  # fmt: skip


def count_down(tx: Write, parent_id: str) -> list[StepRun]:
    """One parent less for each child of `parent_id`; returns the children that wait for nothing any more."""
    tx.run(
        """update step_run set waits = waits - 1
            where state = 'waiting' and id in (select child_id from step_wait where parent_id = :parent)""",
        parent=parent_id,
    )
    return tx.all(
        StepRun,
        f"""select {STEP} from step_run
             where state = 'waiting' and waits = 0 and id in (select child_id from step_wait where parent_id = :parent)
             order by position, item limit 2000""",
        parent=parent_id,
    )  # fmt: skip
