"""How many runs of a pipeline go on at once: who has to wait, who is passed over, and who is let in when there is room.

Runs share a *slot*: that of their pipeline, or one per value of its `concurrency_key`. Invariant: a slot never holds more runs
than its pipeline's `concurrency`; it is counted under the lock of the pipeline's row, which is taken before any run's.
"""

from __future__ import annotations

from msgspec.structs import replace

from noria.kernel.db import Database
from noria.kernel.op import Ops
from noria.pipelines import pipeline_store, run_store, step_store
from noria.pipelines.service import Pipelines
from noria.pipelines.transitions import Transitions, lock_run


class Admission:
    """A reconciler that lets waiting runs in; woken by every run that ends."""

    name = "pipelines.admission"
    every_s = 1.0
    wake_on = frozenset({"pipeline_run.succeeded", "pipeline_run.failed", "pipeline_run.cancelled"})

    def __init__(self, db: Database, ops: Ops, pipelines: Pipelines, transitions: Transitions) -> None:
        self._db, self._ops, self._pipelines, self._transitions = db, ops, pipelines, transitions

    def reconcile(self) -> None:
        with self._db.read() as tx:
            slots = run_store.slots_waiting(tx)
        for slot, pipeline in slots:
            while self._admit(slot, pipeline):
                pass

    def _admit(self, slot: str, pipeline: str) -> bool:
        """Let the run in that has waited longest; False when there is none or no room."""
        with self._db.read() as tx:
            first = run_store.first_waiting(tx, slot)
        if first is None:
            return False
        op = self._pipelines.because(self._ops.system("pipelines"), first)
        with self._db.write(op) as tx:
            pipeline_store.lock_pipeline(tx, pipeline)
            run = lock_run(tx, first)
            plan = self._pipelines.plan(run)
            limit = plan.spec.concurrency
            if run.state != "waiting" or run.is_paused:
                return True  # somebody was quicker; look again
            if limit is not None and len(run_store.active_in(tx, slot)) >= limit:
                return False
            run = self._transitions.make_ready(tx, replace(run, state="queued"), plan, step_store.idle(tx, run.id))
            self._transitions.settle(tx, run, plan)
        return True
