"""Queues: what was said about them, and what waits and runs in each."""

from __future__ import annotations

from noria.kernel.db import Database
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import Ref, check_name
from noria.kernel.op import Op
from noria.pipelines import queue_store, worker_store
from noria.pipelines.model.queues import DEFAULT_QUEUE, Queue, QueueRule

PRIORITY_MAX = 1000
QUOTA_MAX = 100_000


class Queues:
    """A queue needs no making; a rule may be set for one."""

    def __init__(self, db: Database, *, lease_s: float) -> None:
        self._db, self._lease_s = db, lease_s

    def queues(self, op: Op) -> list[Queue]:
        """Every queue that has a rule, a worker, or a step that waits or runs; by priority, then by name."""
        op.require("pipeline.read")
        with self._db.read() as tx:
            rules = queue_store.queue_rules(tx)
            ready, running = queue_store.queue_counts(tx, "ready"), queue_store.queue_counts(tx, "running")
            workers = worker_store.workers(tx, op.at_ms - int(self._lease_s * 1000))
        served = [name for worker in workers for name in worker.queues]
        found = [
            Queue(
                name=name, priority=rules[name].priority if name in rules else 0,
                quota=rules[name].quota if name in rules else None, ready=ready.get(name, 0), running=running.get(name, 0),
                workers=served.count(name),
            )
            for name in {DEFAULT_QUEUE, *rules, *ready, *running, *served}
        ]  # fmt: skip
        return sorted(found, key=lambda queue: (-queue.priority, queue.name))

    def set(self, op: Op, name: str, rule: QueueRule) -> Queue:
        """Set priority and quota of a queue. Raises Invalid."""
        op.require("queue.write")
        check_name(name, what="queue")
        if not -PRIORITY_MAX <= rule.priority <= PRIORITY_MAX:
            raise Invalid(f"A priority is between -{PRIORITY_MAX} and {PRIORITY_MAX}.", where="priority")
        if rule.quota is not None and not 0 <= rule.quota <= QUOTA_MAX:
            raise Invalid(f"A quota is between 0 and {QUOTA_MAX} steps.", where="quota", hint="0 lets nothing start.")
        with self._db.write(op) as tx:
            queue_store.save_queue(tx, name, rule, op.at_ms)
            tx.emit("queue.changed", Ref("queue", name), priority=rule.priority, quota=rule.quota)
        return next(queue for queue in self.queues(op) if queue.name == name)

    def delete(self, op: Op, name: str) -> None:
        """Take back what was said about a queue. Raises NotFound."""
        op.require("queue.write")
        with self._db.write(op) as tx:
            if not queue_store.delete_queue(tx, name):
                raise NotFound(f"Nothing was said about the queue {name!r}.")
            tx.emit("queue.deleted", Ref("queue", name))
