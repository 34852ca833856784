"""The workers' side: claims, leases, output, results, and what happens to the steps of a worker that falls silent.

Invariant: a result counts only from the worker and the attempt that hold the step.
"""

from __future__ import annotations

import threading
from typing import Any

from msgspec.structs import replace

from noria.access.policy import BYTES, DATA, EXPERIMENT, MODEL, READ, USE
from noria.access.service import Access
from noria.kernel.db import Database, Read
from noria.kernel.errors import Conflict, Invalid, NotFound, TooMuch
from noria.kernel.ids import Ref
from noria.kernel.op import Op, Ops
from noria.kernel.ticks import Ticks
from noria.pipelines import graph, rooms, store
from noria.pipelines.model import (
    LOG_BYTES_MAX,
    Assignment,
    Beat,
    Claim,
    Claimed,
    Finish,
    Held,
    Hello,
    LogChunk,
    Orders,
    PipelineRun,
    PipelineSpec,
    PipelineWorker,
    Room,
    StepRun,
    Value,
    Welcome,
)
from noria.pipelines.service import Pipelines, lock_run
from noria.pipelines.transitions import Transitions, step_spec_of

TOKEN_LIFETIME_S = 24 * 3600.0  # of a step without a timeout
TOKEN_MARGIN_S = 300.0
UNKNOWN_AFTER_MS = 10_000  # how long the answer to a claim may be under way
CANDIDATES = 8  # ready steps a claim looks at before it gives up to other workers
# What a step may do for the owner of its run, at most: never grant rights, delete, deploy, or start other runs.
STEP_ACTIONS = READ | BYTES | EXPERIMENT | DATA | MODEL | USE | {"model.promote", "approval.request", "me.read"}


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
        self._submitted: dict[str, int] = {}
        self._is_awake = False
        self._lock = threading.Lock()

    @property
    def changes(self) -> int:
        """Grows with every commit that wrote facts; a waiting worker looks again when it does."""
        return self._db.wakeups.count

    def hello(self, op: Op, hello: Hello) -> Welcome:
        """A worker starts. What an earlier worker of its name held is free again at once."""
        op.require("pipeline.work")
        with self._db.write(op) as tx:
            store.save_worker(tx, hello, op.at_ms)
        with self._db.read() as tx:
            orphans = store.held_by_name(tx, hello.name, hello.worker) if hello.name else []
        for step in orphans:
            self._lose(step)
        from noria import __version__

        return Welcome(lease_s=self._pipelines.lease_s, server_version=__version__)

    def goodbye(self, op: Op, beat: Beat) -> None:
        """A worker stops; what it held is free again."""
        op.require("pipeline.work")
        with self._db.write(op) as tx:
            store.gone_worker(tx, beat.worker)
        for held in beat.held:
            with self._db.read() as tx:
                step = store.step(tx, held.step_run_id)
            if step and step.state == "running" and (step.worker, step.attempt) == (beat.worker, held.attempt):
                self._lose(step)

    def claim(self, op: Op, claim: Claim) -> Claimed:
        """Hand one ready step to a worker, with its inputs and a token; empty when there is none."""
        op.require("pipeline.work")
        op = self._ops.mint(op.actor)  # a long poll is older than its answer
        with self._db.read() as tx:
            worker = store.worker(tx, claim.worker)
            is_gone = worker is not None and worker.seen_at_ms == 0  # it said goodbye; this request was on its way before
            candidates = [] if is_gone else store.due(tx, op.at_ms, CANDIDATES, self._room(tx, worker, op.at_ms))
        for step_id, run_id in candidates:
            taken = self._take(self._because(op, run_id), claim.worker, step_id, run_id)
            if taken is None:
                continue
            run, step, spec, inputs = taken
            asked = step_spec_of(spec, step.name)
            timeout_s = asked.timeout_s
            token = self._access.delegate(
                op, name=f"{run.pipeline}/{step.name}", owner=run.owner, actions=STEP_ACTIONS,
                lifetime_s=TOKEN_LIFETIME_S if timeout_s is None else timeout_s + TOKEN_MARGIN_S,
            )  # fmt: skip
            return Claimed(
                assignment=Assignment(
                    step_run_id=step.id, run_id=run.id, pipeline=run.pipeline, step=step.name,
                    function=asked.function, entry=spec.entry, attempt=step.attempt, inputs=inputs,
                    reads=step.reads, code=spec.code, cpu=asked.cpu, gpu=asked.gpu, memory_bytes=asked.memory_bytes,
                    disk_bytes=asked.disk_bytes, env=asked.env,
                    lease_s=self._pipelines.lease_s, timeout_s=timeout_s, token=token, cache_reason=step.reason,
                )
            )  # fmt: skip
        return Claimed()

    def _room(self, tx: Read, worker: PipelineWorker | None, now_ms: int) -> Room:
        """What is free on a worker. When a step has waited long for more than that, room is kept for it."""
        whole = rooms.whole(worker)
        used = store.promised(tx, worker.id) if worker else {}
        free = rooms.free(whole, used)
        if free == whole:
            return free
        return replace(free, kept_for_ms=store.longest_left_out(tx, now_ms - rooms.KEPT_AFTER_MS, whole, free))

    def _take(
        self, op: Op, worker: str, step_id: str, run_id: str
    ) -> tuple[PipelineRun, StepRun, PipelineSpec, dict[str, Value]] | None:
        """Make `worker` the holder of a ready step; None when somebody else was quicker or it cannot run."""
        with self._db.write(op) as tx:
            run = lock_run(tx, run_id)
            step = store.step(tx, step_id)
            if step is None or step.state != "ready" or step.due_at_ms > op.at_ms or run.state not in ("queued", "running"):
                return None
            spec = self._pipelines.version_of(run.pipeline, run.version).spec
            try:
                above = store.named_steps(tx, run.id, graph.parents(step_spec_of(spec, step.name)))
                inputs = self._transitions.inputs(tx, run, step_spec_of(spec, step.name))
            except Invalid as error:
                run = self._transitions.fail_for_good(tx, run, spec, step, error.message)
                self._transitions.settle(tx, run, spec)
                return None
            step = replace(
                step, state="running", attempt=step.attempt + 1, worker=worker,
                reads=sorted({ref for parent in above for ref in parent.reads}), started_at_ms=step.started_at_ms or op.at_ms,
                lease_until_ms=op.at_ms + int(self._pipelines.lease_s * 1000),
            )  # fmt: skip
            store.save_step(tx, step)
            store.add_attempt(tx, step.id, step.attempt, worker, op.at_ms)
            if step.attempt > 1:
                self._transitions.note(tx, step, f"attempt {step.attempt}")
            tx.emit(
                "step_run.started", Ref("step_run", step.id), run_id=run.id, step=step.name, attempt=step.attempt,
                worker=worker,
            )  # fmt: skip
            if run.state == "queued":
                run = replace(run, state="running", started_at_ms=op.at_ms)
                store.save_run(tx, run)
        return run, step, spec, inputs

    def beat(self, op: Op, beat: Beat) -> Orders:
        """A worker is alive: its leases are renewed, and it learns what to stop."""
        op.require("pipeline.work")
        lease_ms = int(self._pipelines.lease_s * 1000)
        with self._db.read() as tx:
            rows = {(row["id"], int(row["attempt"])): row for row in store.held(tx, beat.worker)}
            known = store.worker(tx, beat.worker)
            seen_at = known.seen_at_ms if known else None
        is_due = any(int(row["lease_until_ms"]) - op.at_ms < lease_ms * 3 // 4 for row in rows.values())
        if is_due or seen_at is None or op.at_ms - seen_at > lease_ms // 4:
            with self._db.system_write() as tx:
                store.renew(tx, beat.worker, op.at_ms + lease_ms)
                if not store.seen_worker(tx, beat.worker, op.at_ms):
                    store.save_worker(tx, Hello(worker=beat.worker, name=""), op.at_ms)
        self._take_back_unknown(op, beat, rows)
        cancel, lost = [], list[Held]()
        for held in beat.held:
            row = rows.get((held.step_run_id, held.attempt))
            if row is None:
                lost.append(held)
            elif row["run_state"] == "cancelling":
                cancel.append(held)
        return Orders(cancel=cancel, lost=lost)

    def _take_back_unknown(self, op: Op, beat: Beat, rows: dict[tuple[str, int], dict[str, Any]]) -> None:
        """Free what the worker does not know it holds: the answer to its claim was lost on the way."""
        known = {(held.step_run_id, held.attempt) for held in beat.held}
        for (step_id, attempt), row in rows.items():
            if (step_id, attempt) not in known and op.at_ms - int(row["started_at_ms"]) > UNKNOWN_AFTER_MS:
                with self._db.read() as tx:
                    step = store.step(tx, step_id)
                if step and (step.worker, step.attempt) == (beat.worker, attempt):
                    self._lose(step)

    def append_log(self, op: Op, chunk: LogChunk) -> None:
        """Keep a piece of a step's output; one that arrives twice is kept once. Raises Conflict for a former holder."""
        op.require("pipeline.work")
        body = chunk.text.encode("utf-8", "replace")
        with self._db.system_write() as tx:
            kept = store.attempt_log_bytes(tx, chunk.step_run_id, chunk.attempt, chunk.worker)
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
            size = store.append_log(tx, chunk.step_run_id, text, attempt=chunk.attempt, size_bytes=len(text.encode()))
        self._ticks.tick(Ref("step_run", chunk.step_run_id), {"log_bytes": size})

    def finish(self, op: Op, done: Finish) -> None:
        """Record how an attempt ended; saying it twice is no error. Raises Conflict when another worker holds the step."""
        op.require("pipeline.work")
        with self._db.read() as tx:
            known = store.step(tx, done.step_run_id)
        if known is None:
            raise NotFound(f"There is no step run {done.step_run_id}.")
        op = self._because(op, known.run_id)
        with self._db.write(op) as tx:
            run = lock_run(tx, known.run_id)
            step = store.step(tx, done.step_run_id)
            assert step is not None
            if (step.state, step.worker, step.attempt) != ("running", done.worker, done.attempt):
                if self._was_finished(tx, step, done):
                    return
                raise Conflict("Another worker has this step by now; the result is dropped.", ref=Ref("step_run", step.id))
            spec = self._pipelines.version_of(run.pipeline, run.version).spec
            store.end_attempt(
                tx, step.id, step.attempt, state=done.outcome, at_ms=op.at_ms, error=done.error, exit_code=done.exit_code,
                environment=done.environment_digest, memory_peak_bytes=done.memory_peak_bytes,
            )  # fmt: skip
            self._transitions.link_reads(tx, run, done.reads)
            step = replace(step, reads=sorted({*step.reads, *done.reads}))
            run = self._transitions.end_step(tx, run, spec, step, done)
            self._transitions.settle(tx, run, spec)

    def _was_finished(self, tx: Read, step: StepRun, done: Finish) -> bool:
        """Was this very result recorded before, and its answer lost?"""
        tries = store.attempts(tx, step.run_id).get(step.id, [])
        return any((t.number, t.worker, t.state) == (done.attempt, done.worker, done.outcome) for t in tries)

    # --- what time does -----------------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Free the steps of workers that fell silent. The first time after a start it forgives the silence."""
        now_ms = self._ops.clock.now_ms()
        with self._lock:
            if not self._is_awake:
                with self._db.system_write() as tx:
                    store.renew_all(tx, now_ms + int(self._pipelines.lease_s * 1000))
                self._is_awake = True
                return
        with self._db.read() as tx:
            silent = store.expired(tx, now_ms)
        for step in silent:
            self._lose(step, expired_before_ms=now_ms)

    def _lose(self, held: StepRun, *, expired_before_ms: int | None = None) -> None:
        """Take a step from the worker that held it in this attempt, unless that changed meanwhile."""
        op = self._because(self._ops.system("pipelines"), held.run_id)
        with self._db.write(op) as tx:
            run = lock_run(tx, held.run_id)
            step = store.step(tx, held.id)
            if step is None or (step.state, step.worker, step.attempt) != ("running", held.worker, held.attempt):
                return
            if expired_before_ms is not None and (step.lease_until_ms or 0) >= expired_before_ms:
                return
            store.end_attempt(
                tx, step.id, step.attempt, state="lost", at_ms=op.at_ms, error=f"The worker {step.worker} is gone."
            )
            spec = self._pipelines.version_of(run.pipeline, run.version).spec
            self._transitions.settle(tx, self._transitions.give_back(tx, run, spec, step), spec)

    def _because(self, op: Op, run_id: str) -> Op:
        """The operation, led to by the submission of this run."""
        if run_id not in self._submitted:
            with self._db.read() as tx:
                seq = store.submitted(tx, run_id)
            if seq is None:
                return op
            if len(self._submitted) > 10_000:
                self._submitted.clear()
            self._submitted[run_id] = seq
        return op.because(self._submitted[run_id])
