"""Which steps may be claimed, who holds what, and until when."""

from __future__ import annotations

from typing import Any

from noria.kernel.db import Read, Write
from noria.pipelines.model.limits import RETRY_DELAY_MAX_S
from noria.pipelines.model.steps import StepRun
from noria.pipelines.model.workers import Room
from noria.pipelines.step_store import STEP
from noria.pipelines.turns import Share, Waiting


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
        f"""select {STEP} from step_run
             where state = 'running' and lease_until_ms < :now order by lease_until_ms limit :limit""",
        now=now_ms, limit=limit,
    )  # fmt: skip


def held_by_name(tx: Read, name: str, worker: str) -> list[StepRun]:
    """Running steps of earlier workers of this name."""
    return tx.all(
        StepRun,
        f"""select {STEP} from step_run
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
