"""The rows of pipelines. Every transition of a run first locks the run's row, so that two of them never interleave."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from noria.kernel.collector import mentioned
from noria.kernel.db import Read, Write, js
from noria.kernel.things import things
from noria.pipelines.model import (
    RETRY_DELAY_MAX_S,
    Attempt,
    Hello,
    Json,
    Many,
    Pipeline,
    PipelineRun,
    PipelineVersion,
    PipelineWorker,
    Queue,
    QueueRule,
    Room,
    Schedule,
    StepRun,
    Trigger,
    Value,
)
from noria.pipelines.turns import Share, Waiting

things("pipeline", "select name from pipeline")

_PIPELINE = "id, name, version, description, created_at_ms, updated_at_ms, owner, is_paused"
_VERSION = "pipeline, number, digest, created_at_ms, actor, owner, spec"
_RUN = """id, pipeline, version, state, params, created_at_ms, started_at_ms, ended_at_ms, actor, owner, cause, error,
          remaining, outputs, is_paused, slot, origin_run_id"""
_STEP = """id, run_id, name, position, state, waits, attempt, failures, losses, due_at_ms, started_at_ms, ended_at_ms,
           worker, lease_until_ms, error, cache_key, cached_from, reason, log_bytes, outputs, reads, kind, parent_id, item,
           approval_id, stop_by, spec, cpu, gpu, memory_bytes, queue, owner, pipeline"""
_WORKER = "id, name, host, pid, slots, started_at_ms, seen_at_ms, cpus, memory_bytes, gpus, queues"
_SCHEDULE = """id, name, pipeline, cron, time_zone, params, is_enabled, owner, created_at_ms, next_at_ms, last_at_ms,
               last_run_id, error, catch_up, is_declared"""
_TRIGGER = """id, name, pipeline, kinds, filter, params, cooldown_s, is_enabled, owner, created_at_ms, last_at_ms,
              last_run_id, skipped, error, files, is_hook, is_declared"""


# --- pipelines and their versions ---------------------------------------------------------------------------------------


def pipeline(tx: Read, name: str) -> Pipeline | None:
    return tx.one(Pipeline, f"select {_PIPELINE} from pipeline where name = :name", name=name)


def pipelines(tx: Read, *, names: list[str] | None, after: str, limit: int) -> list[Pipeline]:
    where, args = "", dict[str, Any]()
    if names is not None:
        where, args = "and name in :names", {"names": names}
    return tx.all(
        Pipeline,
        f"select {_PIPELINE} from pipeline where name > :after {where} order by name limit :limit",
        after=after, limit=limit, **args,
    )  # fmt: skip


def version(tx: Read, name: str, number: int) -> PipelineVersion | None:
    return tx.one(
        PipelineVersion,
        f"select {_VERSION} from pipeline_version where pipeline = :name and number = :number",
        name=name, number=number,
    )  # fmt: skip


def versions(tx: Read, name: str, *, before: int, limit: int) -> list[PipelineVersion]:
    return tx.all(
        PipelineVersion,
        f"""select {_VERSION} from pipeline_version
             where pipeline = :name and number < :before order by number desc limit :limit""",
        name=name, before=before, limit=limit,
    )  # fmt: skip


def lock_pipeline(tx: Write, name: str) -> None:
    """Let one registration at a time number its version."""
    tx.run("update pipeline set version = version where name = :name", name=name)


def save_pipeline(tx: Write, found: Pipeline) -> None:
    tx.run(
        """insert into pipeline (id, name, version, description, created_at_ms, updated_at_ms, owner)
           values (:id, :name, :version, :description, :created, :updated, :owner)
           on conflict (name) do update
              set version = excluded.version, description = excluded.description, updated_at_ms = excluded.updated_at_ms,
                  owner = excluded.owner""",
        id=found.id, name=found.name, version=found.version, description=found.description,
        created=found.created_at_ms, updated=found.updated_at_ms, owner=found.owner,
    )  # fmt: skip


def pause_pipeline(tx: Write, name: str, is_paused: bool) -> bool:
    """False when it was so already."""
    return bool(
        tx.run(
            "update pipeline set is_paused = :is_paused where name = :name and is_paused <> :is_paused",
            name=name, is_paused=is_paused,
        )
    )  # fmt: skip


def add_version(tx: Write, made: PipelineVersion) -> None:
    tx.run(
        """insert into pipeline_version (pipeline, number, digest, created_at_ms, actor, owner, spec)
           values (:pipeline, :number, :digest, :created, :actor, :owner, :spec)""",
        pipeline=made.pipeline, number=made.number, digest=made.digest, created=made.created_at_ms, actor=made.actor,
        owner=made.owner, spec=js(made.spec),
    )  # fmt: skip


# --- runs -----------------------------------------------------------------------------------------------------------------


def add_run(tx: Write, run: PipelineRun, *, unique: str) -> bool:
    """False when a run with this unique key exists."""
    return bool(
        tx.run(
            """insert into pipeline_run (id, pipeline, version, state, params, created_at_ms, actor, owner, cause,
                                         unique_key, remaining, slot, origin_run_id)
               values (:id, :pipeline, :version, :state, :params, :created, :actor, :owner, :cause, :unique_key, :remaining,
                       :slot, :origin)
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
    tx: Read, *, pipeline: str, state: str, names: list[str] | None, before: str, limit: int
) -> list[PipelineRun]:  # fmt: skip
    where, args = ["1 = 1"], dict[str, Any]()
    for clause, name, value in (
        ("pipeline = :pipeline", "pipeline", pipeline),
        ("state = :state", "state", state),
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


# --- steps ----------------------------------------------------------------------------------------------------------------


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
    return tx.all(StepRun, f"select {_STEP} from step_run where parent_id = :id order by item limit 2000", id=map_id)


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
    return tx.one(StepRun, f"select {_STEP} from step_run where approval_id = :id", id=approval_id)


def idle(tx: Read, run_id: str) -> list[StepRun]:
    """Steps that wait for nothing but their run: what begins when it goes on."""
    return tx.all(
        StepRun,
        f"""select {_STEP} from step_run
             where run_id = :id and state = 'waiting' and waits = 0 order by position, item limit 2000""",
        id=run_id,
    )


def step(tx: Read, step_id: str) -> StepRun | None:
    return tx.one(StepRun, f"select {_STEP} from step_run where id = :id", id=step_id)


def steps(tx: Read, run_id: str) -> list[StepRun]:
    return tx.all(StepRun, f"select {_STEP} from step_run where run_id = :id order by position, item limit 2000", id=run_id)


def named_steps(tx: Read, run_id: str, names: list[str]) -> list[StepRun]:
    """These steps of a run."""
    if not names:
        return []
    return tx.all(
        StepRun,
        f"select {_STEP} from step_run where run_id = :id and name in :names order by position, item limit 2000",
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
        f"""select {_STEP} from step_run
             where state = 'waiting' and waits = 0 and id in (select child_id from step_wait where parent_id = :parent)
             order by position, item limit 2000""",
        parent=parent_id,
    )  # fmt: skip


def waiting_for(tx: Read, now_ms: int, each: int, free: Room, names: list[str]) -> list[Waiting]:
    """Steps of these queues that may be claimed now and fit into `free`: the `each` longest due of every pipeline and owner."""
    found = tx.rows(
        """with turn as (
             select id, run_id, queue, owner, pipeline, due_at_ms, position, item,
                    row_number() over (partition by queue, owner, pipeline order by due_at_ms, run_id, position, item) as place
               from step_run
              where state = 'ready' and due_at_ms <= :now and queue in :names
                and cpu <= :cpus and memory_bytes <= :memory and gpu <= :gpus
                and (due_at_ms <= :upto or (cpu = 0 and memory_bytes = 0 and gpu = 0)))
           select id, run_id, queue, owner, pipeline from turn
            where place <= :each order by due_at_ms, run_id, position, item limit 500""",
        now=now_ms, each=each, cpus=free.cpus, memory=free.memory_bytes, gpus=free.gpus, names=names,
        upto=now_ms if free.kept_for_ms is None else free.kept_for_ms,
    )  # fmt: skip
    return [Waiting(**row) for row in found]


def running(tx: Read) -> list[Share]:
    """How many steps run on workers, by queue, owner and pipeline; a map runs on none."""
    found = tx.rows(
        """select queue, owner, pipeline, count(*) as count from step_run
            where state = 'running' and worker <> '' group by queue, owner, pipeline order by queue, owner, pipeline limit 10000"""
    )
    return [Share(**row) for row in found]


def queue_rules(tx: Read) -> dict[str, Queue]:
    """What was said about queues, by name."""
    found = tx.all(Queue, "select name, priority, quota from pipeline_queue order by name limit 1000")
    return {queue.name: queue for queue in found}


def queue_counts(tx: Read, state: str) -> dict[str, int]:
    found = tx.rows(
        """select queue, count(*) as count from step_run
            where state = :state and (state = 'ready' or worker <> '') group by queue order by queue limit 1000""",
        state=state,
    )  # fmt: skip
    return {row["queue"]: int(row["count"]) for row in found}


def save_queue(tx: Write, name: str, rule: QueueRule, at_ms: int) -> None:
    tx.run(
        """insert into pipeline_queue (name, priority, quota, updated_at_ms) values (:name, :priority, :quota, :at_ms)
           on conflict (name) do update
              set priority = excluded.priority, quota = excluded.quota, updated_at_ms = excluded.updated_at_ms""",
        name=name, priority=rule.priority, quota=rule.quota, at_ms=at_ms,
    )  # fmt: skip


def delete_queue(tx: Write, name: str) -> int:
    return tx.run("delete from pipeline_queue where name = :name", name=name)


def lock_queue(tx: Write, name: str) -> Queue | None:
    """What was said about a queue, held by this transaction: one claim at a time counts what runs."""
    if not tx.run("update pipeline_queue set priority = priority where name = :name", name=name):
        return None
    return tx.one(Queue, "select name, priority, quota from pipeline_queue where name = :name", name=name)


def running_in(tx: Read, name: str) -> int:
    return int(
        tx.scalar("select count(*) from step_run where state = 'running' and worker <> '' and queue = :name", name=name) or 0
    )


def longest_left_out(tx: Read, before_ms: int, whole: Room, free: Room, names: list[str]) -> int | None:
    """Since when the oldest step waits that would fit into the `whole` worker but not into what is `free` of it."""
    found = tx.scalar(
        """select min(due_at_ms) from step_run
            where state = 'ready' and due_at_ms < :before and queue in :names
              and cpu <= :cpus and memory_bytes <= :memory and gpu <= :gpus
              and (cpu > :free_cpus or memory_bytes > :free_memory or gpu > :free_gpus)""",
        before=before_ms, names=names, cpus=whole.cpus, memory=whole.memory_bytes, gpus=whole.gpus, free_cpus=free.cpus,
        free_memory=free.memory_bytes, free_gpus=free.gpus,
    )  # fmt: skip
    return None if found is None else int(found)


def promised(tx: Read, worker: str) -> dict[str, Any]:
    """What the steps that a worker runs were promised, together."""
    return tx.rows(
        """select coalesce(sum(cpu), 0) as cpus, coalesce(sum(memory_bytes), 0) as memory_bytes, coalesce(sum(gpu), 0) as gpus
             from step_run where state = 'running' and worker = :worker""",
        worker=worker,
    )[0]  # fmt: skip


def given_for(tx: Read, worker: str, claim: str) -> tuple[str, str] | None:
    """(step, run) ids of what a worker was given for this claim, as long as it holds it."""
    found = tx.rows(
        """select s.id, s.run_id from step_run s join attempt a on a.step_run_id = s.id and a.number = s.attempt
            where s.state = 'running' and s.worker = :worker and a.claim = :claim""",
        worker=worker, claim=claim,
    )  # fmt: skip
    return (found[0]["id"], found[0]["run_id"]) if found else None


def expired(tx: Read, now_ms: int, limit: int = 100) -> list[StepRun]:
    """Running steps whose worker has been silent for longer than the lease."""
    return tx.all(
        StepRun,
        f"""select {_STEP} from step_run
             where state = 'running' and lease_until_ms < :now order by lease_until_ms limit :limit""",
        now=now_ms, limit=limit,
    )  # fmt: skip


def held_by_name(tx: Read, name: str, worker: str) -> list[StepRun]:
    """Running steps of earlier workers of this name."""
    return tx.all(
        StepRun,
        f"""select {_STEP} from step_run
             where state = 'running' and worker <> :worker
               and worker in (select id from pipeline_worker where name = :name)
             order by id limit 1000""",
        name=name, worker=worker,
    )  # fmt: skip


def held(tx: Read, worker: str) -> list[dict[str, Any]]:
    """What a worker holds, with the state of the run it belongs to."""
    return tx.rows(
        """select s.id, s.attempt, s.lease_until_ms, s.stop_by, r.state as run_state, a.started_at_ms
             from step_run s join pipeline_run r on r.id = s.run_id
                  join attempt a on a.step_run_id = s.id and a.number = s.attempt
            where s.state = 'running' and s.worker = :worker order by s.id limit 1000""",
        worker=worker,
    )


def renew(tx: Write, worker: str, step_ids: list[str], until_ms: int) -> None:
    """What a worker says it holds. A step whose handing over it never heard of is not renewed: it would stay for ever."""
    tx.run(
        "update step_run set lease_until_ms = :until where id in :ids and worker = :worker and state = 'running'",
        ids=step_ids, worker=worker, until=until_ms,
    )  # fmt: skip


def start_clock(tx: Write, now_ms: int, until_ms: int) -> None:
    """After the server was down, or the clock was set: leases begin anew, and nothing is due later than a retry can be."""
    tx.run(
        "update step_run set lease_until_ms = :until where state = 'running' and lease_until_ms <> :until", until=until_ms
    )
    tx.run(
        """update step_run set due_at_ms = :now
            where state in ('waiting', 'ready') and due_at_ms > :now and (failures = 0 or due_at_ms > :latest)""",
        now=now_ms, latest=now_ms + int(RETRY_DELAY_MAX_S * 1000),
    )  # fmt: skip


# --- attempts and logs ----------------------------------------------------------------------------------------------------


def add_attempt(tx: Write, step_id: str, number: int, worker: str, at_ms: int, *, claim: str) -> None:
    tx.run(
        """insert into attempt (step_run_id, number, worker, state, started_at_ms, claim)
           values (:id, :number, :worker, 'running', :at_ms, :claim)""",
        id=step_id, number=number, worker=worker, at_ms=at_ms, claim=claim,
    )  # fmt: skip


def end_attempt(
    tx: Write, step_id: str, number: int, *, state: str, at_ms: int, error: str = "", exit_code: int | None = None,
    environment: str = "", memory_peak_bytes: int | None = None,
) -> None:  # fmt: skip
    tx.run(
        """update attempt set state = :state, ended_at_ms = :at_ms, error = :error, exit_code = :code,
                              environment_digest = :environment, memory_peak_bytes = :peak
            where step_run_id = :id and number = :number""",
        id=step_id, number=number, state=state, at_ms=at_ms, error=error[:4000], code=exit_code, environment=environment,
        peak=memory_peak_bytes,
    )  # fmt: skip


def attempts(tx: Read, run_id: str) -> dict[str, list[Attempt]]:
    """Every try of every step of a run, by step."""
    found = tx.rows(
        """select a.step_run_id, a.number, a.worker, a.state, a.started_at_ms, a.ended_at_ms, a.exit_code, a.error,
                  a.environment_digest, a.memory_peak_bytes
             from attempt a join step_run s on s.id = a.step_run_id
            where s.run_id = :id order by a.step_run_id, a.number limit 20000""",
        id=run_id,
    )
    grouped: dict[str, list[Attempt]] = {}
    for row in found:
        step_id = row.pop("step_run_id")
        grouped.setdefault(step_id, []).append(Attempt(**row))
    return grouped


def attempt_log_bytes(tx: Read, step_id: str, number: int, worker: str) -> int | None:
    """How much of this attempt's output is kept; None when the worker does not hold it."""
    found = tx.scalar(
        """select a.log_bytes from attempt a join step_run s on s.id = a.step_run_id
            where a.step_run_id = :id and a.number = :number and a.worker = :worker and s.attempt = a.number""",
        id=step_id, number=number, worker=worker,
    )  # fmt: skip
    return None if found is None else int(found)


def append_log(tx: Write, step_id: str, text: str, *, attempt: int | None, size_bytes: int) -> int:
    """Add to a step's output; returns its new length in bytes."""
    start = int(
        tx.scalar(
            "update step_run set log_bytes = log_bytes + :n where id = :id returning log_bytes", id=step_id, n=size_bytes
        )
    )
    tx.run(
        "insert into step_log (step_run_id, start, body) values (:id, :start, :body)",
        id=step_id, start=start - size_bytes, body=text,
    )  # fmt: skip
    if attempt is not None:
        tx.run(
            "update attempt set log_bytes = log_bytes + :n where step_run_id = :id and number = :number",
            id=step_id, number=attempt, n=size_bytes,
        )  # fmt: skip
    return start


def log_chunks(tx: Read, step_id: str, offset: int, limit: int) -> list[tuple[int, str]]:
    """Pieces of a step's output from the one that holds `offset` on, oldest first."""
    first = tx.scalar(
        "select max(start) from step_log where step_run_id = :id and start <= :offset", id=step_id, offset=offset
    )
    found = tx.rows(
        "select start, body from step_log where step_run_id = :id and start >= :first order by start limit :limit",
        id=step_id, first=first or 0, limit=limit,
    )  # fmt: skip
    return [(int(row["start"]), str(row["body"])) for row in found]


# --- cache ----------------------------------------------------------------------------------------------------------------


def cached(tx: Read, key: str) -> dict[str, Any] | None:
    found = tx.rows("select step_run_id, outputs, created_at_ms from cache_entry where key = :key", key=key)
    return found[0] if found else None


def last_cached(tx: Read, pipeline: str, step: str) -> dict[str, Any] | None:
    found = tx.rows(
        """select code, inputs from cache_entry where pipeline = :pipeline and step = :step
            order by created_at_ms desc limit 1""",
        pipeline=pipeline, step=step,
    )  # fmt: skip
    return found[0] if found else None


def add_cached(
    tx: Write, *, key: str, pipeline: str, step: str, step_run_id: str, outputs: str, code: str, inputs: str, at_ms: int
) -> None:
    tx.run(
        """insert into cache_entry (key, pipeline, step, step_run_id, outputs, code, inputs, created_at_ms)
           values (:key, :pipeline, :step, :step_run_id, :outputs, :code, :inputs, :at_ms)
           on conflict (key) do update
              set step_run_id = excluded.step_run_id, outputs = excluded.outputs, created_at_ms = excluded.created_at_ms""",
        key=key, pipeline=pipeline, step=step, step_run_id=step_run_id, outputs=outputs, code=code, inputs=inputs,
        at_ms=at_ms,
    )  # fmt: skip


# --- workers --------------------------------------------------------------------------------------------------------------


def save_worker(tx: Write, hello: Hello, at_ms: int) -> None:
    tx.run(
        """insert into pipeline_worker (id, name, host, pid, slots, started_at_ms, seen_at_ms, cpus, memory_bytes, gpus,
                                        queues)
           values (:id, :name, :host, :pid, :slots, :at_ms, :at_ms, :cpus, :memory, :gpus, :queues)
           on conflict (id) do update set seen_at_ms = excluded.seen_at_ms""",
        id=hello.worker, name=hello.name, host=hello.host, pid=hello.pid, slots=hello.slots, at_ms=at_ms, cpus=hello.cpus,
        memory=hello.memory_bytes, gpus=hello.gpus, queues=js(hello.queues),
    )  # fmt: skip
    tx.run(
        """delete from pipeline_worker
            where seen_at_ms < :old and id not in (select worker from step_run where state = 'running')""",
        old=at_ms - 86_400_000,
    )  # fmt: skip


def seen_worker(tx: Write, worker: str, at_ms: int) -> bool:
    return bool(tx.run("update pipeline_worker set seen_at_ms = :at_ms where id = :id", id=worker, at_ms=at_ms))


def worker(tx: Read, worker_id: str) -> PipelineWorker | None:
    return tx.one(PipelineWorker, f"select {_WORKER} from pipeline_worker where id = :id", id=worker_id)


def workers(tx: Read, since_ms: int) -> list[PipelineWorker]:
    """Those that were heard of since."""
    return tx.all(
        PipelineWorker,
        f"select {_WORKER} from pipeline_worker where seen_at_ms >= :since order by started_at_ms, id limit 1000",
        since=since_ms,
    )  # fmt: skip


def gone_worker(tx: Write, worker: str) -> None:
    """A worker said goodbye."""
    tx.run("update pipeline_worker set seen_at_ms = 0 where id = :id", id=worker)


# --- schedules and triggers -----------------------------------------------------------------------------------------------


def add_schedule(tx: Write, made: Schedule) -> bool:
    return bool(
        tx.run(
            """insert into schedule (id, name, pipeline, cron, time_zone, params, is_enabled, owner, created_at_ms,
                                     next_at_ms, catch_up, is_declared)
               values (:id, :name, :pipeline, :cron, :zone, :params, :enabled, :owner, :created, :next, :catch_up, :declared)
               on conflict (name) do nothing""",
            id=made.id,
            name=made.name,
            pipeline=made.pipeline,
            cron=made.cron,
            zone=made.time_zone,
            params=js(made.params),
            enabled=made.is_enabled,
            owner=made.owner,
            created=made.created_at_ms,
            next=made.next_at_ms,
            catch_up=made.catch_up,
            declared=made.is_declared,
        )
    )


def schedule(tx: Read, name: str) -> Schedule | None:
    return tx.one(Schedule, f"select {_SCHEDULE} from schedule where name = :name", name=name)


def schedules(tx: Read, *, pipeline: str, names: list[str] | None, after: str, limit: int) -> list[Schedule]:
    where, args = _narrow(pipeline, names)
    return tx.all(
        Schedule,
        f"select {_SCHEDULE} from schedule where name > :after {where} order by name limit :limit",
        after=after, limit=limit, **args,
    )  # fmt: skip


def schedules_due(tx: Read, now_ms: int) -> list[Schedule]:
    return tx.all(
        Schedule,
        f"""select {_SCHEDULE} from schedule
             where is_enabled and next_at_ms <= :now order by next_at_ms limit 100""",
        now=now_ms,
    )


def move_schedule(
    tx: Write, found: Schedule, *, next_at_ms: int, last_at_ms: int | None, run_id: str, error: str, is_enabled: bool
) -> bool:  # fmt: skip
    """False when another server moved it first."""
    return bool(
        tx.run(
            """update schedule set next_at_ms = :next, last_at_ms = :last, last_run_id = :run_id, error = :error,
                                   is_enabled = :enabled
                where id = :id and next_at_ms = :was""",
            id=found.id,
            was=found.next_at_ms,
            next=next_at_ms,
            last=last_at_ms,
            run_id=run_id,
            error=error[:1000],
            enabled=is_enabled,
        )
    )


def delete_schedule(tx: Write, name: str) -> int:
    return tx.run("delete from schedule where name = :name", name=name)


def add_trigger(tx: Write, made: Trigger, *, secret: str = "") -> bool:
    return bool(
        tx.run(
            """insert into trigger (id, name, pipeline, kinds, filter, params, cooldown_s, is_enabled, owner, created_at_ms,
                                    files, is_hook, is_declared, secret)
               values (:id, :name, :pipeline, :kinds, :filter, :params, :cooldown, :enabled, :owner, :created, :files,
                       :hook, :declared, :secret)
               on conflict (name) do nothing""",
            id=made.id,
            name=made.name,
            pipeline=made.pipeline,
            kinds=js(made.kinds),
            filter=js(made.filter),
            params=js(made.params),
            cooldown=made.cooldown_s,
            enabled=made.is_enabled,
            owner=made.owner,
            created=made.created_at_ms,
            files=None if made.files is None else js(made.files),
            hook=made.is_hook,
            declared=made.is_declared,
            secret=secret,
        )
    )


def trigger(tx: Read, name: str) -> Trigger | None:
    return tx.one(Trigger, f"select {_TRIGGER} from trigger where name = :name", name=name)


def lock_trigger(tx: Write, name: str) -> Trigger | None:
    tx.run("update trigger set skipped = skipped where name = :name", name=name)
    return trigger(tx, name)


def triggers(tx: Read, *, pipeline: str, names: list[str] | None, after: str, limit: int) -> list[Trigger]:
    where, args = _narrow(pipeline, names)
    return tx.all(
        Trigger,
        f"select {_TRIGGER} from trigger where name > :after {where} order by name limit :limit",
        after=after, limit=limit, **args,
    )  # fmt: skip


def triggers_enabled(tx: Read) -> list[Trigger]:
    return tx.all(Trigger, f"select {_TRIGGER} from trigger where is_enabled order by name limit 1000")


def mark_trigger(tx: Write, found: Trigger) -> None:
    tx.run(
        """update trigger set last_at_ms = :last, last_run_id = :run_id, skipped = :skipped, error = :error,
                              is_enabled = :enabled
            where id = :id""",
        id=found.id, last=found.last_at_ms, run_id=found.last_run_id, skipped=found.skipped, error=found.error[:1000],
        enabled=found.is_enabled,
    )  # fmt: skip


def note_trigger_error(tx: Write, trigger_id: str, why: str) -> None:
    tx.run("update trigger set error = :error where id = :id", id=trigger_id, error=why[:1000])


def trigger_secret(tx: Read, name: str) -> str:
    return str(tx.scalar("select secret from trigger where name = :name", name=name) or "")


def put_trigger_secret(tx: Write, name: str, secret: str) -> None:
    tx.run("update trigger set secret = :secret where name = :name", name=name, secret=secret)


def delete_trigger(tx: Write, name: str) -> int:
    tx.run("delete from trigger_file where trigger_id in (select id from trigger where name = :name)", name=name)
    tx.run("delete from trigger_message where trigger_id in (select id from trigger where name = :name)", name=name)
    return tx.run("delete from trigger where name = :name", name=name)


def declared_triggers(tx: Read, pipeline: str) -> list[Trigger]:
    """Those that the pipeline's code made."""
    return tx.all(
        Trigger,
        f"select {_TRIGGER} from trigger where pipeline = :pipeline and is_declared order by name limit 1000",
        pipeline=pipeline,
    )


def declared_schedules(tx: Read, pipeline: str) -> list[Schedule]:
    return tx.all(
        Schedule,
        f"select {_SCHEDULE} from schedule where pipeline = :pipeline and is_declared order by name limit 1000",
        pipeline=pipeline,
    )


def files(tx: Read, trigger_id: str) -> dict[str, tuple[str, bool]]:
    """The files a trigger has seen, by path: (stamp, whether it was a fact)."""
    rows = tx.tuples("select path, stamp, is_told from trigger_file where trigger_id = :id limit 20000", id=trigger_id)
    return {path: (stamp, bool(is_told)) for path, stamp, is_told in rows}


def put_files(tx: Write, trigger_id: str, seen: list[tuple[str, str, bool]]) -> None:
    tx.many(
        """insert into trigger_file (trigger_id, path, stamp, is_told) values (:id, :path, :stamp, :told)
           on conflict (trigger_id, path) do update set stamp = excluded.stamp, is_told = excluded.is_told""",
        [{"id": trigger_id, "path": path, "stamp": stamp, "told": told} for path, stamp, told in seen],
    )


def drop_files(tx: Write, trigger_id: str, paths: list[str]) -> None:
    for start in range(0, len(paths), 500):
        some = paths[start : start + 500]
        tx.run("delete from trigger_file where trigger_id = :id and path in :paths", id=trigger_id, paths=some)


def forget_files(tx: Write, trigger_id: str) -> None:
    tx.run("delete from trigger_file where trigger_id = :id", id=trigger_id)


def add_message(tx: Write, trigger_id: str, message_id: str, at_ms: int, *, forget_before_ms: int) -> bool:
    """False when this message came before."""
    tx.run("delete from trigger_message where trigger_id = :id and at_ms < :old", id=trigger_id, old=forget_before_ms)
    return bool(
        tx.run(
            """insert into trigger_message (trigger_id, message_id, at_ms) values (:id, :message, :at_ms)
               on conflict (trigger_id, message_id) do nothing""",
            id=trigger_id, message=message_id, at_ms=at_ms,
        )
    )  # fmt: skip


def _narrow(pipeline: str, names: list[str] | None) -> tuple[str, dict[str, Any]]:
    where, args = "", dict[str, Any]()
    if pipeline:
        where, args = "and pipeline = :pipeline", {"pipeline": pipeline}
    if names is not None:
        where += " and pipeline in :names"
        args["names"] = names
    return where, args


# --- blobs --------------------------------------------------------------------------------------------------------------

_NAMING_BLOBS = (
    "select spec from pipeline_version", "select params, outputs from pipeline_run",
    "select outputs from step_run where outputs is not null", "select spec from step_run where spec is not null",
    "select outputs, inputs from cache_entry",
    "select distinct environment_digest from attempt",
)  # fmt: skip


def digests_in_use(tx: Read, digests: list[str]) -> set[str]:
    """Those of `digests` that a specification or a value names, wherever in it."""
    found: set[str] = set()
    for sql in _NAMING_BLOBS:
        found |= mentioned(tx, sql, digests)
    return found
