"""The edges of runs that were made in a step: to their pipeline run, and to every dataset version they rest on. And of a run that
was made again: to the one that it repeats.

A subscriber of `run.created`; linking twice changes nothing.
"""

from __future__ import annotations

from contextlib import suppress

from noria.kernel.db import Database, Read
from noria.kernel.errors import NotFound
from noria.kernel.events import Event
from noria.kernel.ids import Ref
from noria.kernel.op import Ops
from noria.pipelines import step_store
from noria.tracking.service import Tracking


class RunLineage:
    """See the module."""

    name = "pipelines.lineage"

    def __init__(self, db: Database, ops: Ops, tracking: Tracking) -> None:
        self._db, self._ops, self._tracking = db, ops, tracking

    def interest(self, _: Read) -> frozenset[str]:
        return frozenset({"run.created"})

    def handle(self, event: Event) -> None:
        op = self._ops.system("pipelines.lineage", cause=event.seq)
        run = Ref.parse(event.subject)
        try:
            tags = self._tracking.run(op, run.id).tags
        except NotFound:  # deleted for good meanwhile
            return
        self._link_repeated(run, tags.get("noria.reproduces", ""), event.seq)
        pipeline_run = tags.get("noria.pipeline_run", "")
        if not pipeline_run:
            return
        with self._db.write(op) as tx:
            # Tags are the client's word: an edge is drawn only to what there is, and what the run itself has read.
            steps = {step.id: step for step in step_store.steps(tx, pipeline_run)}
            step = steps.get(tags.get("noria.step_run", ""))
            if step is None:
                return
            tx.link(run, "made_by", Ref("pipeline_run", pipeline_run))
            for ref in step.reads:
                tx.link(run, "read", Ref.parse(ref))

    def _link_repeated(self, run: Ref, repeated: str, cause: int) -> None:
        """The run that this one was made again from, when there is one."""
        op = self._ops.system("pipelines.lineage", cause=cause)
        with suppress(NotFound):
            if repeated and self._tracking.run(op, repeated):
                with self._db.write(op) as tx:
                    tx.link(run, "reproduces", Ref("run", repeated))
