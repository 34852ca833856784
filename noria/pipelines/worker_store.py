"""The rows of workers."""

from __future__ import annotations

from noria.kernel.db import Read, Write, js
from noria.pipelines.model.work import Hello
from noria.pipelines.model.workers import PipelineWorker

_WORKER = "id, name, host, pid, slots, started_at_ms, seen_at_ms, cpus, memory_bytes, gpus, queues"


def save_worker(tx: Write, hello: Hello, at_ms: int, *, principal: str) -> None:
    tx.run(
        """insert into pipeline_worker (id, name, host, pid, slots, started_at_ms, seen_at_ms, cpus, memory_bytes, gpus,
                                        queues, principal)
           values (:id, :name, :host, :pid, :slots, :at_ms, :at_ms, :cpus, :memory, :gpus, :queues, :principal)
           on conflict (id) do update set seen_at_ms = excluded.seen_at_ms""",
        id=hello.worker, name=hello.name, host=hello.host, pid=hello.pid, slots=hello.slots, at_ms=at_ms, cpus=hello.cpus,
        memory=hello.memory_bytes, gpus=hello.gpus, queues=js(hello.queues), principal=principal,
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
