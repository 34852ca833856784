"""Tries that run elsewhere: a worker holds the step and its lease, and a job of its executor does the work.

The job comes with a ticket, which works once, and is given all it needs and a token of its own. What it prints and returns goes
straight to the server and counts only while this try is the one that holds the step, exactly as if the worker itself sent it.

Invariant: of one try at most one job ever begins, however often an executor starts it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from noria.access.service import Access
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database
from noria.kernel.errors import Conflict, Forbidden, NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op, Ops
from noria.pipelines import elsewhere_store, run_store, step_store
from noria.pipelines.elsewhere_store import Handed
from noria.pipelines.model.elsewhere import AskingHow, Begin, Begun, Handing, Ticket, Told
from noria.pipelines.model.runs import PipelineRun
from noria.pipelines.model.steps import StepRun
from noria.pipelines.model.values import stored
from noria.pipelines.model.work import Finish, Held, LogChunk, Orders
from noria.pipelines.service import Pipelines
from noria.pipelines.work import STEP_ACTIONS, TOKEN_LIFETIME_S, TOKEN_MARGIN_S, Work

TICKET_LIFETIME_S = 30 * 86_400.0  # a cluster may have a long queue; once its try is over nothing can be begun with it
BUILD_MARGIN_S = 1800.0  # an environment may be built before a step's time counts
NOTE_LENGTH_MAX, PLACE_LENGTH_MAX = 4000, 300
JOB_ACTIONS = STEP_ACTIONS | {"pipeline.attempt"}


class Elsewhere:
    """What workers and jobs ask about such a try."""

    def __init__(
        self, db: Database, ops: Ops, access: Access, blobs: BlobStore, pipelines: Pipelines, work: Work
    ) -> None:  # fmt: skip
        self._db, self._ops, self._access, self._blobs = db, ops, access, blobs
        self._pipelines, self._work = pipelines, work

    # --- the worker's side ------------------------------------------------------------------------------------------------

    def hand_on(self, op: Op, handing: Handing) -> Ticket:
        """The ticket for a job that is to do a try. Raises Conflict when another worker has the step, or a job began already."""
        op.require("pipeline.work")
        with self._db.read() as tx:
            step = step_store.step(tx, handing.step_run_id)
            run = run_store.run(tx, step.run_id) if step else None
        if step is None or run is None:
            raise NotFound(f"There is no step run {handing.step_run_id}.")
        with self._db.system_write() as tx:
            elsewhere_store.lock(tx, step.id, handing.attempt)
            found = elsewhere_store.handed(tx, step.id, handing.attempt)
            _check_current(step, found, handing.worker)
            assert found is not None
            if found.begun:
                raise Conflict("A job has begun with this try already.", ref=Ref("step_run", step.id))
            secret = self._access.delegate(
                tx, op, name=f"{run.pipeline}/{step.name}", owner=run.owner, actions=frozenset({"pipeline.attempt"}),
                lifetime_s=TICKET_LIFETIME_S,
            )  # fmt: skip
            elsewhere_store.hand_on(tx, step.id, handing.attempt, ticket=self._access.token_id(secret), place=handing.place)
        return Ticket(ticket=secret)

    def told(self, op: Op, asking: AskingHow) -> Told:
        """What became of a try that a worker handed on. A note is a line in its log, unless a job writes there by now.

        Raises Conflict for a try that another process of the agent has adopted.
        """
        op.require("pipeline.work")
        step_id, number = asking.held.step_run_id, asking.held.attempt
        if asking.note:
            self._note(asking)
        with self._db.read() as tx:
            found = elsewhere_store.handed(tx, step_id, number)
        if found is None:
            raise NotFound("There is no such try.")
        if found.worker != asking.worker:
            raise Conflict("Another worker has this try, and its job with it.", ref=Ref("step_run", step_id))
        return Told(
            state=found.state, has_begun=bool(found.begun), log_bytes=found.log_bytes, is_held=found.is_current
        )  # fmt: skip

    def _note(self, asking: AskingHow) -> None:
        with self._db.system_write() as tx:
            elsewhere_store.lock(tx, asking.held.step_run_id, asking.held.attempt)
            found = elsewhere_store.handed(tx, asking.held.step_run_id, asking.held.attempt)
            if found and found.is_current and found.worker == asking.worker and not found.begun:
                self._work.keep_text(
                    tx,
                    LogChunk(
                        worker=asking.worker, step_run_id=asking.held.step_run_id, attempt=asking.held.attempt,
                        offset=found.log_bytes, text=asking.note[:NOTE_LENGTH_MAX],
                    ),
                )  # fmt: skip

    # --- the job's side ---------------------------------------------------------------------------------------------------

    def begin(self, op: Op, step_run_id: str, number: int, begin: Begin) -> Begun:
        """A job begins a try: its inputs, its code and a token bound to it.

        Raises Conflict when the try is over, another worker's, or another job began with it; Forbidden with another ticket.
        """
        step, run, _ = self._known(op, step_run_id, number)
        if not begin.key:
            raise Conflict("A job begins with a key of its own.")
        with self._db.system_write() as tx:
            elsewhere_store.lock(tx, step_run_id, number)
            found = elsewhere_store.handed(tx, step_run_id, number)
            _check_ticket(op, found)
            assert found is not None
            _check_current(step, found, found.worker)
            if found.begun not in ("", begin.key):
                raise Conflict(
                    "Another job has begun with this try already; the executor started it twice.",
                    ref=Ref("step_run", step_run_id),
                )
            timeout_s = self._pipelines.plan(run).spec_of(step).timeout_s
            lifetime_s = TOKEN_LIFETIME_S if timeout_s is None else timeout_s + BUILD_MARGIN_S + TOKEN_MARGIN_S
            given = self._work.assignment(tx, op, run, step, actions=JOB_ACTIONS, lifetime_s=lifetime_s)
            place = replace(
                found.place, node=begin.node[:PLACE_LENGTH_MAX], python=begin.python[:PLACE_LENGTH_MAX],
                job=begin.job[:PLACE_LENGTH_MAX] or found.place.job,
            )  # fmt: skip
            elsewhere_store.save_begun(
                tx, step_run_id, number, key=begin.key, holder=self._access.token_id(given.token), place=place
            )
        return Begun(assignment=given, worker=found.worker, log_bytes=found.log_bytes)

    def beat(self, op: Op, step_run_id: str, number: int) -> Orders:
        """What a job is to stop: its try, when somebody cancelled it or it is another's by now. The lease is its worker's to renew."""
        step, run, found = self._holding(op, step_run_id, number)
        held = Held(step_run_id=step_run_id, attempt=number)
        if not found.is_current:
            return Orders(lost=[held])
        return Orders(cancel=[held]) if run.state == "cancelling" or step.stop_by else Orders()

    def append_log(self, op: Op, step_run_id: str, number: int, chunk: LogChunk) -> None:
        """Keep a piece of a job's output. Raises Conflict for a try that is over."""
        _, _, found = self._holding(op, step_run_id, number)
        chunk = replace(chunk, step_run_id=step_run_id, attempt=number)
        self._for_its_worker(found, chunk, lambda worker: self._work.keep_log(replace(chunk, worker=worker)))

    def finish(self, op: Op, step_run_id: str, number: int, done: Finish) -> None:
        """Record how a try ended; saying it twice is no error. Raises Conflict when it is another's by now."""
        _, _, found = self._holding(op, step_run_id, number)
        done = replace(done, step_run_id=step_run_id, attempt=number, next=None)
        self._for_its_worker(found, done, lambda worker: self._work.end(op, replace(done, worker=worker)))

    def _for_its_worker(self, found: Handed, of: LogChunk | Finish, say: Callable[[str], Any]) -> None:
        """Say it in the name of the worker that holds the try; once more when the agent came back in this very moment."""
        try:
            say(found.worker)
        except Conflict:
            with self._db.read() as tx:
                now = elsewhere_store.handed(tx, of.step_run_id, of.attempt)
            if now is None or now.worker == found.worker:
                raise
            say(now.worker)

    def blob(self, op: Op, step_run_id: str, number: int) -> Callable[[str], Any]:
        """Opens the bytes that a try needs: its code, its lock, its pickled inputs, and no others."""
        step, run, _ = self._holding(op, step_run_id, number)
        plan = self._pipelines.plan(run)
        spec = plan.spec_of(step)
        with self._db.read() as tx:
            inputs = self._work.inputs(tx, run, step)
        allowed = {plan.spec.code.archive_digest, *(p.digest for value in inputs.values() for p in stored(value))}
        allowed |= {spec.env.lock_digest} if spec.env else set()

        def opened(digest: str) -> Any:
            if digest not in allowed:
                raise Forbidden("These bytes are no part of what the step was given.")
            return self._blobs.open(digest)

        return opened

    def may_write(self, op: Op, step_run_id: str, number: int) -> None:
        """Raises unless the caller is the job of this try, and the try goes on."""
        _, _, found = self._holding(op, step_run_id, number)
        if not found.is_current:
            raise Conflict("This attempt was taken over.", ref=Ref("step_run", step_run_id))

    # --- who asks ---------------------------------------------------------------------------------------------------------

    def _known(self, op: Op, step_run_id: str, number: int) -> tuple[StepRun, PipelineRun, Handed]:
        step = self._pipelines.step_run(op, "pipeline.attempt", step_run_id)
        with self._db.read() as tx:
            run = run_store.run(tx, step.run_id)
            found = elsewhere_store.handed(tx, step_run_id, number)
        if run is None or found is None:
            raise NotFound(f"{step.name} has no attempt {number}.")
        return step, run, found

    def _holding(self, op: Op, step_run_id: str, number: int) -> tuple[StepRun, PipelineRun, Handed]:
        """Raises Forbidden for all but the token that this very try was given."""
        step, run, found = self._known(op, step_run_id, number)
        if not found.holder or op.actor.token_id != found.holder:
            raise Forbidden("This token is not the one of this attempt.")
        return step, run, found


def _check_ticket(op: Op, found: Handed | None) -> None:
    if found is None or not found.ticket or op.actor.token_id != found.ticket:
        raise Forbidden("This ticket is not the one of this attempt.")


def _check_current(step: StepRun, found: Handed | None, worker: str) -> None:
    if found is None or not found.is_current or found.worker != worker:
        raise Conflict("This attempt is over, or another worker has the step by now.", ref=Ref("step_run", step.id))
