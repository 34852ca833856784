"""The rows of pipelines. Every transition of a run first locks the run's row, so that two of them never interleave."""

from __future__ import annotations

from typing import Any

from noria.kernel.collector import mentioned
from noria.kernel.db import Read, Write, js
from noria.pipelines.model import (
    RETRY_DELAY_MAX_S,
    Attempt,
    Hello,
    Pipeline,
    PipelineRun,
    PipelineVersion,
    PipelineWorker,
    Room,
    Schedule,
    StepRun,
    Trigger,
    Value,
)

_PIPELINE = "id, name, version, description, created_at_ms, updated_at_ms, owner"
_VERSION = "pipeline, number, digest, created_at_ms, actor, owner, spec"
_RUN = """id, pipeline, version, state, params, created_at_ms, started_at_ms, ended_at_ms, actor, owner, cause, error,
          remaining, outputs"""
_STEP = """id, run_id, name, position, state, waits, attempt, failures, losses, due_at_ms, started_at_ms, ended_at_ms,
           worker, lease_until_ms, error, cache_key, cached_from, reason, log_bytes, outputs, reads,
           cpu, gpu, memory_bytes"""
_WORKER = "id, name, host, pid, slots, started_at_ms, seen_at_ms, cpus, memory_bytes, gpus"
_SCHEDULE = """id, name, pipeline, cron, time_zone, params, is_enabled, owner, created_at_ms, next_at_ms, last_at_ms,
               last_run_id, error"""
_TRIGGER = """id, name, pipeline, kinds, filter, params, cooldown_s, is_enabled, owner, created_at_ms, last_at_ms,
              last_run_id, skipped, error"""


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
                                         unique_key, remaining)
               values (:id, :pipeline, :version, :state, :params, :created, :actor, :owner, :cause, :unique_key, :remaining)
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


def save_run(tx: Write, found: PipelineRun) -> None:
    tx.run(
        """update pipeline_run
              set state = :state, version = :version, started_at_ms = :started, ended_at_ms = :ended, error = :error,
                  remaining = :remaining, outputs = :outputs
            where id = :id""",
        id=found.id, state=found.state, version=found.version, started=found.started_at_ms, ended=found.ended_at_ms,
        error=found.error[:4000], remaining=found.remaining, outputs=js(found.outputs),
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
    tx.many(
        """insert into step_run (id, run_id, name, position, state, waits, attempt, due_at_ms, cpu, gpu, memory_bytes)
           values (:id, :run_id, :name, :position, :state, :waits, 0, :due, :cpu, :gpu, :memory)""",
        [
            {"id": s.id, "run_id": s.run_id, "name": s.name, "position": s.position, "state": s.state, "waits": s.waits,
             "due": s.due_at_ms, "cpu": s.cpu, "gpu": s.gpu, "memory": s.memory_bytes}
            for s in steps
        ],
    )  # fmt: skip
    tx.many(
        "insert into step_wait (parent_id, child_id) values (:parent, :child)",
        [{"parent": parent, "child": child} for parent, child in waits],
    )


def step(tx: Read, step_id: str) -> StepRun | None:
    return tx.one(StepRun, f"select {_STEP} from step_run where id = :id", id=step_id)


def steps(tx: Read, run_id: str) -> list[StepRun]:
    return tx.all(StepRun, f"select {_STEP} from step_run where run_id = :id order by position limit 2000", id=run_id)


def named_steps(tx: Read, run_id: str, names: list[str]) -> list[StepRun]:
    """These steps of a run."""
    if not names:
        return []
    return tx.all(
        StepRun,
        f"select {_STEP} from step_run where run_id = :id and name in :names order by position limit 2000",
        id=run_id, names=names,
    )  # fmt: skip


def outputs(tx: Read, run_id: str, names: list[str]) -> dict[str, Value | None]:
    """What these steps of a run returned, by name."""
    return {s.name: s.outputs for s in named_steps(tx, run_id, names)}


def save_step(tx: Write, found: StepRun) -> None:
    tx.run(
        """update step_run
              set state = :state, waits = :waits, attempt = :attempt, failures = :failures, losses = :losses,
                  due_at_ms = :due, started_at_ms = :started, ended_at_ms = :ended, worker = :worker,
                  lease_until_ms = :lease, error = :error, cache_key = :cache_key, cached_from = :cached_from,
                  reason = :reason, outputs = :outputs, reads = :reads, cpu = :cpu, gpu = :gpu, memory_bytes = :memory
            where id = :id""",
        id=found.id, state=found.state, waits=found.waits, attempt=found.attempt, failures=found.failures,
        losses=found.losses, due=found.due_at_ms, started=found.started_at_ms, ended=found.ended_at_ms,
        worker=found.worker, lease=found.lease_until_ms, error=found.error[:4000], cache_key=found.cache_key,
        cached_from=found.cached_from, reason=found.reason, reads=js(found.reads), cpu=found.cpu, gpu=found.gpu,
        memory=found.memory_bytes,
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
             order by position limit 2000""",
        parent=parent_id,
    )  # fmt: skip


def due(tx: Read, now_ms: int, limit: int, free: Room) -> list[tuple[str, str]]:
    """(step, run) ids that may be claimed now and fit into `free`, the longest due first."""
    found = tx.rows(
        """select s.id, s.run_id from step_run s
            where s.state = 'ready' and s.due_at_ms <= :now
              and s.cpu <= :cpus and s.memory_bytes <= :memory and s.gpu <= :gpus
              and (s.due_at_ms <= :upto or (s.cpu = 0 and s.memory_bytes = 0 and s.gpu = 0))
            order by s.due_at_ms, s.run_id, s.position limit :limit""",
        now=now_ms, limit=limit, cpus=free.cpus, memory=free.memory_bytes, gpus=free.gpus,
        upto=now_ms if free.kept_for_ms is None else free.kept_for_ms,
    )  # fmt: skip
    return [(row["id"], row["run_id"]) for row in found]


def longest_left_out(tx: Read, before_ms: int, whole: Room, free: Room) -> int | None:
    """Since when the oldest step waits that would fit into the `whole` worker but not into what is `free` of it."""
    found = tx.scalar(
        """select min(due_at_ms) from step_run
            where state = 'ready' and due_at_ms < :before
              and cpu <= :cpus and memory_bytes <= :memory and gpu <= :gpus
              and (cpu > :free_cpus or memory_bytes > :free_memory or gpu > :free_gpus)""",
        before=before_ms, cpus=whole.cpus, memory=whole.memory_bytes, gpus=whole.gpus, free_cpus=free.cpus,
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
        """select s.id, s.attempt, s.lease_until_ms, r.state as run_state, a.started_at_ms
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
        """insert into pipeline_worker (id, name, host, pid, slots, started_at_ms, seen_at_ms, cpus, memory_bytes, gpus)
           values (:id, :name, :host, :pid, :slots, :at_ms, :at_ms, :cpus, :memory, :gpus)
           on conflict (id) do update set seen_at_ms = excluded.seen_at_ms""",
        id=hello.worker, name=hello.name, host=hello.host, pid=hello.pid, slots=hello.slots, at_ms=at_ms, cpus=hello.cpus,
        memory=hello.memory_bytes, gpus=hello.gpus,
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
                                     next_at_ms)
               values (:id, :name, :pipeline, :cron, :zone, :params, :enabled, :owner, :created, :next)
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


def add_trigger(tx: Write, made: Trigger) -> bool:
    return bool(
        tx.run(
            """insert into trigger (id, name, pipeline, kinds, filter, params, cooldown_s, is_enabled, owner, created_at_ms)
               values (:id, :name, :pipeline, :kinds, :filter, :params, :cooldown, :enabled, :owner, :created)
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


def delete_trigger(tx: Write, name: str) -> int:
    return tx.run("delete from trigger where name = :name", name=name)


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
    "select outputs from step_run where outputs is not null", "select outputs, inputs from cache_entry",
    "select distinct environment_digest from attempt",
)  # fmt: skip


def digests_in_use(tx: Read, digests: list[str]) -> set[str]:
    """Those of `digests` that a specification or a value names, wherever in it."""
    found: set[str] = set()
    for sql in _NAMING_BLOBS:
        found |= mentioned(tx, sql, digests)
    return found
