"""The workers' side: claims, leases, output, results, and what happens to the steps of a worker that falls silent.

Invariant: a result counts only from the worker and the attempt that hold the step.
"""

from __future__ import annotations

import threading
from typing import Any

from msgspec.structs import replace

from noria.access.policy import BYTES, DATA, EXPERIMENT, MODEL, READ, USE
from noria.access.service import Access
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Conflict, Forbidden, Invalid, NotFound, TooMuch
from noria.kernel.ids import Ref, check_name
from noria.kernel.op import Actor, Op, Ops
from noria.kernel.ticks import Ticks
from noria.pipelines import (
    attempt_store,
    claim_store,
    elsewhere_store,
    graph,
    queue_store,
    rooms,
    run_store,
    step_store,
    worker_store,
)
from noria.pipelines.graph import Plan
from noria.pipelines.model.limits import LOG_BYTES_MAX, QUEUES_MAX
from noria.pipelines.model.queues import DEFAULT_QUEUE
from noria.pipelines.model.runs import PipelineRun, Replay
from noria.pipelines.model.spec import StepSpec
from noria.pipelines.model.steps import StepRun
from noria.pipelines.model.values import Value
from noria.pipelines.model.work import Assignment, Beat, Claim, Claimed, Finish, Held, Hello, LogChunk, Orders, Welcome
from noria.pipelines.model.workers import PipelineWorker, Room
from noria.pipelines.service import Pipelines, owner_of
from noria.pipelines.transitions import Transitions, lock_run
from noria.pipelines.turns import in_turn

TOKEN_LIFETIME_S = 24 * 3600.0  # of a step without a timeout
TOKEN_MARGIN_S = 300.0
UNKNOWN_AFTER_MS = 10_000  # how long the answer to a claim may be under way
ORPHANED_MS = 86_400_000  # for so long an agent that comes back is told which jobs of its former self are to end
CLOCK_JUMP_MS = 1000  # beyond what a clock that is kept right moves between two looks
CANDIDATES = 8  # ready steps a claim looks at before it gives up to other workers
# What a step may do for the owner of its run, at most: never grant rights, delete, deploy, or start other runs.
LATE_ACTIONS = frozenset({"pipeline.attempt"})  # what a job may still ask once its try is over
STEP_ACTIONS = (
    READ | BYTES | EXPERIMENT | DATA | MODEL | USE | {"model.promote", "approval.request", "me.read", "pipeline.report"}
)

REPLAY_ACTIONS = READ | BYTES | {"me.read"}


class Work:
    """What workers ask, and the reconciler that frees the steps of silent ones: it looks once a second."""

    name = "pipelines.sweeper"
    every_s = 1.0
    wake_on: frozenset[str] = frozenset()

    def __init__(
        self, db: Database, ops: Ops, ticks: Ticks, access: Access, pipelines: Pipelines, transitions: Transitions
    ) -> None:
        self._db, self._ops, self._ticks, self._access = db, ops, ticks, access
        self._pipelines, self._transitions = pipelines, transitions
        self._drift_ms: int | None = None  # what the clock shows less what it measures, at the last look
        self._lock = threading.Lock()

    @property
    def changes(self) -> int:
        """Grows with every commit that wrote facts; a waiting worker looks again when it does."""
        return self._db.wakeups.count

    def hello(self, op: Op, hello: Hello) -> Welcome:
        """A worker starts. What an earlier process of its name held is its own again where a job goes on with it, else free."""
        op.require("pipeline.work")
        if not 0 < len(hello.queues) <= QUEUES_MAX:
            raise Invalid(f"A worker serves between 1 and {QUEUES_MAX} queues.", where="queues")
        for name in hello.queues:
            check_name(name, what="queue")
        with self._db.write(op) as tx:
            worker_store.save_worker(tx, hello, op.at_ms, principal=op.actor.id)
        with self._db.read() as tx:
            former = claim_store.held_by_name(tx, hello.name, hello.worker) if hello.name else []
        for step in former:
            if not self._adopt(op, hello, step):
                self._lose(step)
        from noria import __version__

        adopted, orphans = self._left_elsewhere(op, hello) if hello.adopts else ([], [])
        return Welcome(
            lease_s=self._pipelines.lease_s, server_version=__version__, adopted=adopted, orphans=orphans
        )  # fmt: skip

    def _adopt(self, op: Op, hello: Hello, held: StepRun) -> bool:
        """Make a worker the holder of a try with which a job elsewhere goes on, in the place of its former self. The number of
        the try stays, and with it the job; False when it is not this worker's to take, or not as it was read any more."""
        if not hello.adopts or held.queue not in hello.queues:
            return False
        with self._db.write(self._pipelines.because(op, held.run_id)) as tx:
            lock_run(tx, held.run_id)
            step, found = step_store.step(tx, held.id), elsewhere_store.handed(tx, held.id, held.attempt)
            if step is None or found is None or not found.is_current or found.worker != held.worker:
                return False
            if not found.ticket or found.place.executor != hello.adopts:
                return False
            if not elsewhere_store.is_same_agent(tx, held.worker, hello.worker):
                return False
            assert tx.op is not None
            lease_until_ms = tx.op.at_ms + int(self._pipelines.lease_s * 1000)
            # The step's row before that of the try, as output is kept: the other way round, its job and this would wait for each other.
            step_store.save_step(tx, replace(step, worker=hello.worker, lease_until_ms=lease_until_ms))
            elsewhere_store.pass_on(tx, step.id, step.attempt, worker=hello.worker)
            self._transitions.note(tx, step, f"the agent {hello.name} is back; the job {found.place.job} goes on")
            tx.emit(
                "step_run.adopted", Ref("step_run", step.id), run_id=step.run_id, step=step.name, attempt=step.attempt,
                worker=hello.worker, former=held.worker,
            )  # fmt: skip
        return True

    def _left_elsewhere(self, op: Op, hello: Hello) -> tuple[list[Assignment], list[Held]]:
        """What a worker that starts holds already, also when it asks again; and the jobs of which nobody wants to know any more."""
        adopted = []
        with self._db.read() as tx:
            for step in elsewhere_store.held_elsewhere(tx, hello.worker):
                run = run_store.run(tx, step.run_id)
                assert run is not None
                adopted.append(self._assigned(run, self._pipelines.plan(run), step, {}, "", {}))
            gone = elsewhere_store.orphans(tx, hello.worker, op.at_ms - ORPHANED_MS)
        return adopted, [held for held, place in gone if place.executor == hello.adopts]

    def goodbye(self, op: Op, beat: Beat) -> None:
        """A worker stops; what it held is free again."""
        op.require("pipeline.work")
        with self._db.write(op) as tx:
            worker_store.gone_worker(tx, beat.worker)
        for held in beat.held:
            with self._db.read() as tx:
                step = step_store.step(tx, held.step_run_id)
            if step and step.state == "running" and (step.worker, step.attempt) == (beat.worker, held.attempt):
                self._lose(step)

    def claim(self, op: Op, claim: Claim) -> Claimed:
        """Hand one ready step to a worker, with its inputs and a token; empty when there is none.

        A claim that is made again, since its answer was lost, is given what it was given before.
        """
        op.require("pipeline.work")
        op = self._ops.mint(op.actor)  # a long poll is older than its answer
        with self._db.read() as tx:
            worker = worker_store.worker(tx, claim.worker)
            is_gone = worker is not None and worker.seen_at_ms == 0  # it said goodbye; this request was on its way before
            if before := claim_store.given_for(tx, claim.worker, claim.key) if claim.key else None:
                candidates = [before]
            else:
                candidates = [] if is_gone else self._in_turn(tx, worker, op.at_ms, CANDIDATES)
        for step_id, run_id in candidates:
            because = self._pipelines.because(op, run_id)
            with self._db.write(because) as tx:
                run = lock_run(tx, run_id)
                given = self._given_again(tx, run, claim, step_id) if before else self._hand_out(tx, run, claim, step_id)
            if given is not None:
                return Claimed(assignment=given)
        return Claimed()

    def _in_turn(self, tx: Read, worker: PipelineWorker | None, now_ms: int, each: int) -> list[tuple[str, str]]:
        """(step, run) ids that this worker may take, in the order of their turns."""
        names = worker.queues if worker else [DEFAULT_QUEUE]
        waiting = claim_store.waiting_for(tx, now_ms, each, self._room(tx, worker, now_ms), names)
        if len(waiting) > 1 or (waiting and queue_store.queue_rules(tx)):
            waiting = in_turn(waiting, claim_store.running(tx), queue_store.queue_rules(tx))
        return [(step.id, step.run_id) for step in waiting[:each]]

    def _room(self, tx: Read, worker: PipelineWorker | None, now_ms: int) -> Room:
        """What is free on a worker. When a step has waited long for more than that, room is kept for it."""
        whole = rooms.whole(worker)
        used = claim_store.promised(tx, worker.id) if worker else {}
        free = rooms.free(whole, used)
        if free == whole:
            return free
        return replace(
            free,
            kept_for_ms=claim_store.longest_left_out(
                tx, now_ms - rooms.KEPT_AFTER_MS, whole, free, worker.queues if worker else [DEFAULT_QUEUE]
            ),
        )

    def replay(self, op: Op, step_run_id: str) -> Replay:
        """What it takes to run a step again elsewhere, with a token of the caller's that can only read.

        Raises NotFound, Forbidden, Conflict when what it needs is not there yet.
        """
        step = self._pipelines.step_run(op, "pipeline.run", step_run_id)
        with self._db.read() as tx:
            run = run_store.run(tx, step.run_id)
            assert run is not None
            plan = self._pipelines.plan(run)
            spec = plan.spec_of(step)
            if spec.kind != "call":
                raise Conflict(f"{step.name} runs no code of its own.", hint="Name one of its elements, such as train[0].")
            if step.state in ("waiting", "skipped"):
                raise Conflict(f"{step.name} is {step.state}; it has no inputs yet.")
            inputs = self._transitions.inputs(tx, run, spec)
        with self._db.system_write() as write:
            token = self._access.delegate(
                write, op, name=f"replay of {run.pipeline}/{step.name}", owner=owner_of(op) or run.owner,
                actions=REPLAY_ACTIONS, lifetime_s=TOKEN_LIFETIME_S,
            )  # fmt: skip
        return Replay(
            step_run_id=step.id, run_id=run.id, pipeline=run.pipeline, step=step.name, function=spec.function,
            entry=plan.spec.entry, inputs=inputs, code=plan.spec.code, python=plan.spec.python,
            environment_digest=plan.spec.environment_digest, token=token,
        )  # fmt: skip

    def _hand_out(self, tx: Write, run: PipelineRun, claim: Claim, step_id: str) -> Assignment | None:
        """Make the worker the holder of a ready step; None when somebody else was quicker or it cannot run."""
        op = tx.op
        assert op is not None
        step = step_store.step(tx, step_id)
        if step is None or step.state != "ready" or step.due_at_ms > op.at_ms or run.state not in ("queued", "running"):
            return None
        rule = queue_store.lock_queue(tx, step.queue)
        if rule is not None and rule.quota is not None and queue_store.running_in(tx, step.queue) >= rule.quota:
            return None
        plan = self._pipelines.plan(run)
        try:
            above = step_store.named_steps(tx, run.id, graph.parents(plan.spec_of(step)))
            inputs = self._transitions.inputs(tx, run, plan.spec_of(step))
            secrets = self._secrets(tx, op, run, plan.spec_of(step), step)
        except (Invalid, NotFound, Forbidden) as error:
            run = self._transitions.fail_for_good(tx, run, plan, step, error.message)
            self._transitions.settle(tx, run, plan)
            return None
        step = replace(
            step, state="running", attempt=step.attempt + 1, worker=claim.worker,
            reads=sorted({ref for parent in above for ref in parent.reads}), started_at_ms=step.started_at_ms or op.at_ms,
            lease_until_ms=op.at_ms + int(self._pipelines.lease_s * 1000),
        )  # fmt: skip
        step_store.save_step(tx, step)
        attempt_store.add_attempt(tx, step.id, step.attempt, claim.worker, op.at_ms, claim=claim.key)
        if step.attempt > 1:
            self._transitions.note(tx, step, f"attempt {step.attempt}")
        tx.emit(
            "step_run.started", Ref("step_run", step.id), run_id=run.id, step=step.name, attempt=step.attempt,
            worker=claim.worker,
        )  # fmt: skip
        if run.state == "queued":
            run_store.save_run(tx, replace(run, state="running", started_at_ms=op.at_ms))
        return self._assignment(tx, run, plan, step, inputs, secrets)

    def _secrets(self, tx: Write, op: Op, run: PipelineRun, spec: StepSpec, step: StepRun) -> dict[str, str]:
        """What a step asked for by name, as far as the owner of its run may use it. Raises NotFound, Forbidden."""
        if not spec.secrets:
            return {}
        owner = self._ops.mint(Actor(kind="trigger", id=run.id, name=run.pipeline, on_behalf_of=run.owner))
        who = owner if run.owner else op
        return self._access.vault.given(tx, op, who, Ref("pipeline", run.pipeline), spec.secrets, Ref("step_run", step.id))

    def _given_again(self, tx: Write, run: PipelineRun, claim: Claim, step_id: str) -> Assignment | None:
        """What a worker was given for this very claim, unless it was taken away meanwhile."""
        if claim_store.given_for(tx, claim.worker, claim.key) != (step_id, run.id):
            return None
        step, plan = step_store.step(tx, step_id), self._pipelines.plan(run)
        assert step is not None and tx.op is not None
        inputs = self._transitions.inputs(tx, run, plan.spec_of(step))
        return self._assignment(tx, run, plan, step, inputs, self._secrets(tx, tx.op, run, plan.spec_of(step), step))

    def inputs(self, tx: Read, run: PipelineRun, step: StepRun) -> dict[str, Value]:
        """What a step is given. Raises Invalid when it is not there."""
        return self._transitions.inputs(tx, run, self._pipelines.plan(run).spec_of(step))

    def assignment(
        self, tx: Write, op: Op, run: PipelineRun, step: StepRun, *, actions: frozenset[str], lifetime_s: float
    ) -> Assignment:
        """The try that a step is in, for a job that does it elsewhere, with a token of its own."""
        token = self._access.delegate(
            tx, op, name=f"{run.pipeline}/{step.name}", owner=run.owner, actions=actions, lifetime_s=lifetime_s
        )
        plan = self._pipelines.plan(run)
        secrets = self._secrets(tx, op, run, plan.spec_of(step), step)
        return self._assigned(run, plan, step, self.inputs(tx, run, step), token, secrets)

    def _assignment(
        self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, inputs: dict[str, Value], secrets: dict[str, str]
    ) -> Assignment:  # fmt: skip
        asked = plan.spec_of(step)
        assert tx.op is not None
        token = self._access.delegate(
            tx, tx.op, name=f"{run.pipeline}/{step.name}", owner=run.owner, actions=STEP_ACTIONS,
            lifetime_s=TOKEN_LIFETIME_S if asked.timeout_s is None else asked.timeout_s + TOKEN_MARGIN_S,
            of=_token_of(step),
        )  # fmt: skip
        return self._assigned(run, plan, step, inputs, token, secrets)

    def _assigned(
        self, run: PipelineRun, plan: Plan, step: StepRun, inputs: dict[str, Value], token: str, secrets: dict[str, str]
    ) -> Assignment:  # fmt: skip
        asked = plan.spec_of(step)
        return Assignment(
            step_run_id=step.id, run_id=run.id, pipeline=run.pipeline, step=step.name, function=asked.function,
            entry=plan.spec.entry, attempt=step.attempt, inputs=inputs, reads=step.reads, code=plan.spec.code,
            cpu=asked.cpu, gpu=asked.gpu, memory_bytes=asked.memory_bytes, disk_bytes=asked.disk_bytes,
            env=asked.env, image=asked.image,
            lease_s=self._pipelines.lease_s, timeout_s=asked.timeout_s, token=token, cache_reason=step.reason,
            secrets=secrets,
        )  # fmt: skip

    def beat(self, op: Op, beat: Beat) -> Orders:
        """A worker is alive: its leases are renewed, and it learns what to stop."""
        op.require("pipeline.work")
        lease_ms = int(self._pipelines.lease_s * 1000)
        with self._db.read() as tx:
            rows = {(row["id"], int(row["attempt"])): row for row in claim_store.held(tx, beat.worker)}
            known = worker_store.worker(tx, beat.worker)
            seen_at = known.seen_at_ms if known else None
        left_ms = [int(row["lease_until_ms"]) - op.at_ms for row in rows.values()]
        is_due = any(not lease_ms * 3 // 4 <= left <= lease_ms for left in left_ms)  # more than a lease: the clock went back
        if is_due or seen_at is None or op.at_ms - seen_at > lease_ms // 4:
            with self._db.system_write() as tx:
                claim_store.renew(tx, beat.worker, [held.step_run_id for held in beat.held], op.at_ms + lease_ms)
                if not worker_store.seen_worker(tx, beat.worker, op.at_ms):
                    worker_store.save_worker(tx, Hello(worker=beat.worker, name=""), op.at_ms, principal=op.actor.id)
        self._take_back_unknown(op, beat, rows, since_ms=known.started_at_ms if known else 0)
        cancel, lost = [], list[Held]()
        for held in beat.held:
            row = rows.get((held.step_run_id, held.attempt))
            if row is None:
                lost.append(held)
            elif row["run_state"] == "cancelling" or row["stop_by"]:
                cancel.append(held)
        return Orders(cancel=cancel, lost=lost)

    def _take_back_unknown(
        self, op: Op, beat: Beat, rows: dict[tuple[str, int], dict[str, Any]], *, since_ms: int
    ) -> None:  # fmt: skip
        """Free what the worker does not know it holds: the answer to its claim was lost on the way. `since_ms`: it started then,
        and what it adopted is older."""
        known = {(held.step_run_id, held.attempt) for held in beat.held}
        for (step_id, attempt), row in rows.items():
            if (step_id, attempt) not in known and op.at_ms - max(since_ms, int(row["started_at_ms"])) > UNKNOWN_AFTER_MS:
                with self._db.read() as tx:
                    step = step_store.step(tx, step_id)
                if step and (step.worker, step.attempt) == (beat.worker, attempt):
                    self._lose(step)

    def append_log(self, op: Op, chunk: LogChunk) -> None:
        """Keep a piece of a step's output; one that arrives twice is kept once. Raises Conflict for a former holder."""
        op.require("pipeline.work")
        self.keep_log(chunk)

    def keep_log(self, chunk: LogChunk) -> None:
        """The same, for a caller that was checked already."""
        with self._db.system_write() as tx:
            self.keep_text(tx, chunk)

    def keep_text(self, tx: Write, chunk: LogChunk) -> None:
        """The same, in the caller's transaction."""
        body = chunk.text.encode("utf-8", "replace")
        kept = attempt_store.attempt_log_bytes(tx, chunk.step_run_id, chunk.attempt, chunk.worker)
        if kept is None:
            raise Conflict("This attempt was taken over.", ref=Ref("step_run", chunk.step_run_id))
        if chunk.offset > kept:
            raise Conflict(f"The output is known up to byte {kept}; this piece starts at {chunk.offset}.")
        body = body[kept - chunk.offset :]
        if not body:
            return
        if kept + len(body) > LOG_BYTES_MAX + 4096:
            raise TooMuch(f"An attempt keeps at most {LOG_BYTES_MAX >> 20} MiB of output.")
        text = body.decode("utf-8", "replace").replace("\x00", "\ufffd")
        size = attempt_store.append_log(tx, chunk.step_run_id, text, attempt=chunk.attempt, size_bytes=len(text.encode()))
        tx.after_commit(lambda: self._ticks.tick(Ref("step_run", chunk.step_run_id), {"log_bytes": size}))

    def finish(self, op: Op, done: Finish) -> Claimed:
        """Record how an attempt ended; saying it twice is no error. Raises Conflict when another worker holds the step.

        The next step, when the worker would like one, is handed out in the same transaction if it belongs to the same run:
        a chain costs one request and one commit for each step.
        """
        op.require("pipeline.work")
        return self.end(op, done)

    def end(self, op: Op, done: Finish) -> Claimed:
        """The same, for a caller that was checked already."""
        with self._db.read() as tx:
            known = step_store.step(tx, done.step_run_id)
        if known is None:
            raise NotFound(f"There is no step run {done.step_run_id}.")
        because = self._pipelines.because(op, known.run_id)
        with self._db.write(because) as tx:
            run = lock_run(tx, known.run_id)
            step = step_store.step(tx, done.step_run_id)
            assert step is not None
            given = None
            if (step.state, step.worker, step.attempt) == ("running", done.worker, done.attempt):
                run = self._end(tx, run, step, done)
                given = self._next_in(tx, run, done.next) if done.next else None
            elif not self._was_finished(tx, step, done):
                raise Conflict("Another worker has this step by now; the result is dropped.", ref=Ref("step_run", step.id))
        if given is not None:
            return Claimed(assignment=given)
        return self.claim(op, done.next) if done.next else Claimed()

    def _end(self, tx: Write, run: PipelineRun, step: StepRun, done: Finish) -> PipelineRun:
        plan = self._pipelines.plan(run)
        if done.text:
            chunk = LogChunk(
                worker=done.worker, step_run_id=step.id, attempt=done.attempt, offset=done.offset, text=done.text
            )
            self.keep_text(tx, chunk)
        assert tx.op is not None
        attempt_store.end_attempt(
            tx, step.id, step.attempt, state=done.outcome, at_ms=tx.op.at_ms, error=done.error, exit_code=done.exit_code,
            environment=done.environment_digest, memory_peak_bytes=done.memory_peak_bytes,
        )  # fmt: skip
        self._end_tokens(tx, step)
        self._transitions.link_reads(tx, run, done.reads)
        step = replace(step, reads=sorted({*step.reads, *done.reads}))
        return self._transitions.settle(tx, self._transitions.end_step(tx, run, plan, step, done), plan)

    def _end_tokens(self, tx: Write, step: StepRun) -> None:
        """With a try ends its token; that of a job elsewhere is left what it takes to be told that its try is over."""
        self._access.end_delegated(tx, _token_of(step))
        found = elsewhere_store.handed(tx, step.id, step.attempt)
        if found and found.holder:
            self._access.narrow(tx, found.holder, LATE_ACTIONS)

    def _next_in(self, tx: Write, run: PipelineRun, claim: Claim) -> Assignment | None:
        """The step whose turn it is, if it is one of this run, which this transaction holds."""
        assert tx.op is not None
        first = self._in_turn(tx, worker_store.worker(tx, claim.worker), tx.op.at_ms, 1)
        return self._hand_out(tx, run, claim, first[0][0]) if first and first[0][1] == run.id else None

    def _was_finished(self, tx: Read, step: StepRun, done: Finish) -> bool:
        """Was this very result recorded before, and its answer lost?"""
        tries = attempt_store.attempts(tx, step.run_id).get(step.id, [])
        return any((t.number, t.worker, t.state) == (done.attempt, done.worker, done.outcome) for t in tries)

    # --- what time does -----------------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Free the steps of workers that fell silent.

        The first time after a start it forgives the silence; and when the machine's clock was set meanwhile, forward or back:
        leases begin anew, and what is due later than it can be is due now.
        """
        now_ms, measured_ms = self._ops.clock.now_ms(), int(self._ops.clock.monotonic_s() * 1000)
        with self._lock:
            drift_ms, self._drift_ms = self._drift_ms, now_ms - measured_ms
            if drift_ms is None or abs(self._drift_ms - drift_ms) > CLOCK_JUMP_MS:
                with self._db.system_write() as tx:
                    claim_store.start_clock(tx, now_ms, now_ms + int(self._pipelines.lease_s * 1000))
                return
        with self._db.read() as tx:
            silent = claim_store.expired(tx, now_ms)
        for step in silent:
            self._lose(step, expired_before_ms=now_ms)

    def _lose(self, held: StepRun, *, expired_before_ms: int | None = None) -> None:
        """Take a step from the worker that held it in this attempt, unless that changed meanwhile."""
        op = self._pipelines.because(self._ops.system("pipelines"), held.run_id)
        with self._db.write(op) as tx:
            run = lock_run(tx, held.run_id)
            step = step_store.step(tx, held.id)
            if step is None or (step.state, step.worker, step.attempt) != ("running", held.worker, held.attempt):
                return
            if expired_before_ms is not None and (step.lease_until_ms or 0) >= expired_before_ms:
                return
            attempt_store.end_attempt(
                tx, step.id, step.attempt, state="lost", at_ms=op.at_ms, error=f"The worker {step.worker} is gone."
            )
            self._end_tokens(tx, step)
            plan = self._pipelines.plan(run)
            self._transitions.settle(tx, self._transitions.give_back(tx, run, plan, step), plan)


def _token_of(step: StepRun) -> str:
    """Whose token it is: that of a try, with which it ends."""
    return f"{step.id}/{step.attempt}"
