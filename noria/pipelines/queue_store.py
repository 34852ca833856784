"""The rules of queues, and how many steps are in each."""

from __future__ import annotations

from noria.kernel.db import Read, Write
from noria.pipelines.model.queues import Queue, QueueRule


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
