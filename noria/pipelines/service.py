"""Pipelines: registration, runs, and the scheduler that moves them.

Mechanism: a run is rows. A step counts what it still waits for; when one ends, only its children are touched. A worker
claims a ready step for a lease and renews it; when it falls silent, the step is ready again. Nothing is replayed.
Invariants: every transition is one transaction, with its fact; it locks the run's row first, so two never interleave; a
result counts only from the worker and the attempt that hold the step, so a step that succeeded never runs again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import msgspec
from blake3 import blake3
from msgspec.structs import replace

from noria.access.policy import BYTES, DATA, EXPERIMENT, MODEL, READ, USE
from noria.access.service import Access
from noria.datasets.service import Datasets
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read, Write, js
from noria.kernel.errors import Conflict, Invalid, NotFound, TooMuch
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.ticks import Ticks
from noria.pipelines import graph, store
from noria.pipelines.model import (
    LOG_BYTES_MAX,
    LOG_PAGE_BYTES,
    LOST_MAX,
    RETRY_DELAY_MAX_S,
    RUN_ENDED,
    STEP_ENDED,
    Assignment,
    Beat,
    Claim,
    Claimed,
    Finish,
    FromBlob,
    Held,
    Hello,
    LogChunk,
    Logs,
    Orders,
    Pipeline,
    PipelineRun,
    PipelineRunView,
    PipelineSpec,
    PipelineVersion,
    StepRun,
    StepSpec,
    StepView,
    Value,
    Welcome,
)
from noria.registry.service import Registry
from noria.tracking.service import Tracking

LEASE_S = 30.0
TOKEN_LIFETIME_S = 24 * 3600.0  # of a step without a timeout
TOKEN_MARGIN_S = 300.0
CANDIDATES = 8  # ready steps a claim looks at before it gives up to other workers
# What a step may do for the owner of its run, at most: never grant rights, delete, deploy, or start other runs.
STEP_ACTIONS = READ | BYTES | EXPERIMENT | DATA | MODEL | USE | {"model.promote", "approval.request", "me.read"}


class Pipelines:
    """Work that must finish."""

    def __init__(
        self,
        db: Database,
        ops: Ops,
        blobs: BlobStore,
        ticks: Ticks,
        access: Access,
        datasets: Datasets,
        tracking: Tracking,
        registry: Registry,
        *,
        lease_s: float = LEASE_S,
    ) -> None:
        self._db, self._ops, self._blobs, self._ticks, self._access = db, ops, blobs, ticks, access
        self._datasets, self._tracking, self._registry = datasets, tracking, registry
        self.lease_s = lease_s
        self._versions: dict[tuple[str, int], PipelineVersion] = {}
        self._submitted: dict[str, int] = {}
        self._is_awake = False
        self._lock = threading.Lock()

    @property
    def changes(self) -> int:
        """Grows with every commit that wrote facts; a waiting worker looks again when it does."""
        return self._db.wakeups.count

    # --- pipelines --------------------------------------------------------------------------------------------------

    def register(self, op: Op, spec: PipelineSpec) -> Pipeline:
        """Keep `spec` as a new version of its pipeline, unless it is the latest already. Raises Invalid, Forbidden."""
        op.require("pipeline.register", on=Ref("pipeline", spec.name))
        graph.check_spec(spec)
        self._check_blobs(spec)
        digest = blake3(msgspec.json.encode(spec, order="sorted")).hexdigest()
        with self._db.write(op) as tx:
            store.lock_pipeline(tx, spec.name)
            found = store.pipeline(tx, spec.name)
            latest = store.version(tx, spec.name, found.version) if found else None
            if found and latest and latest.digest == digest:
                return found
            made = Pipeline(
                id=found.id if found else new_id(op.at_ms), name=spec.name, version=found.version + 1 if found else 1,
                description=spec.description, created_at_ms=found.created_at_ms if found else op.at_ms,
                updated_at_ms=op.at_ms, owner=owner_of(op) or (found.owner if found else ""),
            )  # fmt: skip
            version = PipelineVersion(
                pipeline=spec.name, number=made.version, digest=digest, created_at_ms=op.at_ms, actor=op.actor.label,
                owner=made.owner, spec=spec,
            )  # fmt: skip
            store.save_pipeline(tx, made)
            store.add_version(tx, version)
            tx.emit(
                "pipeline.registered", Ref("pipeline", spec.name), version=made.version,
                code_digest=spec.code.archive_digest, source_commit=spec.code.commit,
            )  # fmt: skip
        return made

    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]:
        """Those of `digests` that code, environments or values of steps need; for the collector of unused blobs."""
        return store.digests_in_use(tx, digests)

    def _check_blobs(self, spec: PipelineSpec) -> None:
        """A row never names a blob that was not stored first."""
        sources = [*spec.outputs.values(), *(s for step in spec.steps for s in step.inputs.values())]
        digests = {leaf.digest for source in sources for leaf in graph.leaves(source) if isinstance(leaf, FromBlob)}
        digests |= {d for d in (spec.code.archive_digest, spec.code.diff_digest, spec.environment_digest) if d}
        for digest in sorted(digests):
            if not self._blobs.has(digest):
                raise Invalid(
                    f"The blob {digest[:12]} was not uploaded.", where="code", hint="PUT /api/v1/blobs/{digest} comes first."
                )

    def pipeline(self, op: Op, name: str) -> Pipeline:
        """A pipeline with its latest spec. Raises NotFound."""
        with self._db.read() as tx:
            found = store.pipeline(tx, name)
        _see(op, "pipeline.read", found.name if found else None, f"There is no pipeline {name!r}.")
        assert found is not None
        return replace(found, spec=self._version(name, found.version).spec)

    def pipelines(self, op: Op, *, limit: int | None = None, page: str = "") -> Page[Pipeline]:
        """Every pipeline the caller may read, by name."""
        size, names = check_limit(limit), visible_names(op, "pipeline.read")
        after = str(decode_token(page, size=1)[0]) if page else ""
        with self._db.read() as tx:
            found = store.pipelines(tx, names=names, after=after, limit=size)
        return Page(found, encode_token(found[-1].name) if len(found) == size else None)

    def versions(self, op: Op, name: str, *, limit: int | None = None, page: str = "") -> Page[PipelineVersion]:
        """A pipeline's versions, newest first."""
        self.pipeline(op, name)
        size = check_limit(limit)
        before = int(decode_token(page, size=1)[0]) if page else 1 << 60
        with self._db.read() as tx:
            found = store.versions(tx, name, before=before, limit=size)
        return Page(found, encode_token(found[-1].number) if len(found) == size else None)

    def latest(self, name: str) -> PipelineVersion:
        """The version that a run gets now. Raises NotFound. Asks for no right: for triggers and schedules, which did."""
        return self._to_submit(name, None)[0]

    def check_params(self, name: str, params: dict[str, Any]) -> None:
        """Raises Invalid or NotFound when a run with these parameters could not be submitted."""
        graph.bind_params(self.latest(name).spec, params)

    def _version(self, name: str, number: int) -> PipelineVersion:
        """A version; immutable, so it is kept in memory."""
        if (name, number) not in self._versions:
            with self._db.read() as tx:
                found = store.version(tx, name, number)
            if found is None:
                raise NotFound(f"The pipeline {name!r} has no version {number}.")
            if len(self._versions) > 200:
                self._versions.clear()
            self._versions[name, number] = found
        return self._versions[name, number]

    # --- runs -------------------------------------------------------------------------------------------------------

    def submit(
        self, op: Op, pipeline: str, params: dict[str, Any], *, cause: int | None = None, unique: str = "",
        version: int | None = None,
    ) -> PipelineRun:  # fmt: skip
        """Start a run; with `unique`, at most one run ever has that key, and it is given back.

        Raises NotFound, Invalid (parameters), Forbidden.
        """
        op.require("pipeline.run", on=Ref("pipeline", pipeline))
        op = op.because(cause) if cause is not None else op
        found, spec = self._to_submit(pipeline, version)
        bound = graph.bind_params(spec, params)
        with self._db.write(op) as tx:
            run, _ = self.submit_in(tx, found, bound, unique=unique)
        return run

    def _to_submit(self, name: str, number: int | None) -> tuple[PipelineVersion, PipelineSpec]:
        if number is None:
            with self._db.read() as tx:
                latest = store.pipeline(tx, name)
            if latest is None:
                raise NotFound(f"There is no pipeline {name!r}.", hint="Register it with: noria pipeline run FILE.")
            number = latest.version
        found = self._version(name, number)
        return found, found.spec

    def submit_in(
        self, tx: Write, version: PipelineVersion, bound: dict[str, Any], *, unique: str = ""
    ) -> tuple[PipelineRun, bool]:
        """Start a run in the caller's transaction: (the run, whether it is new). For triggers and schedules."""
        op, spec = tx.op, version.spec
        assert op is not None
        if unique and (earlier := store.run_by_unique(tx, unique)):
            return earlier, False
        run = PipelineRun(
            id=new_id(op.at_ms), pipeline=spec.name, version=version.number, state="queued", params=bound,
            created_at_ms=op.at_ms, actor=op.actor.label, owner=owner_of(op) or version.owner, cause=op.cause,
            remaining=len(spec.steps),
        )  # fmt: skip
        if not store.add_run(tx, run, unique=unique):
            earlier = store.run_by_unique(tx, unique)
            assert earlier is not None
            return earlier, False
        ids = {step.name: new_id(op.at_ms) for step in spec.steps}
        steps, waits = [], []
        for position, name in enumerate(graph.order(spec.steps)):
            step = _step_spec(spec, name)
            above = graph.parents(step)
            waits += [(ids[parent], ids[name]) for parent in above]
            steps.append(
                StepRun(
                    id=ids[name],
                    run_id=run.id,
                    name=name,
                    position=position,
                    state="waiting",
                    waits=len(above),
                    attempt=0,
                    due_at_ms=op.at_ms,
                )
            )
        store.add_steps(tx, steps, waits)
        tx.emit("pipeline_run.submitted", _run_ref(run), pipeline=spec.name, version=version.number, params=bound)
        tx.link(_run_ref(run), "run_of", Ref("pipeline", spec.name))
        run = self._make_ready(tx, run, spec, [s for s in steps if not s.waits])
        return self._settle(tx, run, spec), True

    def pipeline_run(self, op: Op, run_id: str) -> PipelineRun:
        """One run. Raises NotFound."""
        with self._db.read() as tx:
            found = store.run(tx, run_id)
        _see(op, "pipeline.read", found.pipeline if found else None, f"There is no pipeline run {run_id!r}.")
        assert found is not None
        return found

    def pipeline_run_view(self, op: Op, run_id: str) -> PipelineRunView:
        """One run with its steps, their tries and its graph."""
        run = self.pipeline_run(op, run_id)
        spec = self._version(run.pipeline, run.version).spec
        with self._db.read() as tx:
            run = store.run(tx, run_id) or run
            steps, tries = store.steps(tx, run_id), store.attempts(tx, run_id)
            workers = store.workers_count(tx, op.at_ms - int(self.lease_s * 1000))
            fact = store.submitted(tx, run_id)
        by_name = {step.name: step for step in spec.steps}
        views = [
            StepView(
                step=step, attempts=tries.get(step.id, []), description=by_name[step.name].description,
                depends_on=graph.parents(by_name[step.name]),
            )
            for step in steps
        ]  # fmt: skip
        dag = [(parent, view.step.name) for view in views for parent in view.depends_on]
        return PipelineRunView(run=run, steps=views, dag=dag, workers=workers, code=spec.code, fact=fact)

    def pipeline_runs(
        self, op: Op, *, pipeline: str = "", state: str = "", limit: int | None = None, page: str = ""
    ) -> Page[PipelineRun]:
        """Runs, newest first."""
        size, names = check_limit(limit), visible_names(op, "pipeline.read")
        before = str(decode_token(page, size=1)[0]) if page else ""
        with self._db.read() as tx:
            found = store.runs(tx, pipeline=pipeline, state=state, names=names, before=before, limit=size)
        return Page(found, encode_token(found[-1].id) if len(found) == size else None)

    def cancel(self, op: Op, run_id: str) -> PipelineRun:
        """Stop a run: what waits is cancelled now, what runs is stopped by its worker. A run that ended stays as it is."""
        found = self._mine(op, "pipeline.cancel", run_id)
        with self._db.write(op) as tx:
            run = self._lock_run(tx, run_id)
            if run.state in RUN_ENDED or run.state == "cancelling":
                return run
            tx.emit("pipeline_run.cancel_asked", _run_ref(run), pipeline=run.pipeline)
            for step in store.steps(tx, run_id):
                if step.state in ("waiting", "ready"):
                    store.save_step(tx, replace(step, state="cancelled", ended_at_ms=op.at_ms))
                    run = replace(run, remaining=run.remaining - 1)
            run = replace(run, state="cancelling")
            return self._settle(tx, run, self._version(found.pipeline, found.version).spec)

    def resume(self, op: Op, run_id: str, *, version: int | None = None) -> PipelineRun:
        """Go on with a run that failed or was cancelled: steps that succeeded keep their results, the others run again.

        `version`: use the code of this version, which must have the same steps.
        Raises Conflict when the run goes on or has succeeded, Invalid when the steps differ.
        """
        found = self._mine(op, "pipeline.run", run_id)
        before = self._version(found.pipeline, found.version).spec
        number = version or found.version
        spec = self._version(found.pipeline, number).spec
        if graph.shape(spec) != graph.shape(before):
            raise Invalid(
                f"Version {number} of {found.pipeline} has other steps than this run.", where="version",
                hint="Submit a new run; steps with a cache are not repeated.",
            )  # fmt: skip
        with self._db.write(op) as tx:
            run = self._lock_run(tx, run_id)
            if run.state not in ("failed", "cancelled"):
                raise Conflict(f"The run is {run.state}; only a failed or cancelled one can be resumed.", ref=_run_ref(run))
            steps = store.steps(tx, run_id)
            done = {step.name for step in steps if step.state == "succeeded"}
            waiting = [step for step in steps if step.name not in done]
            again = [
                replace(
                    step, state="waiting", failures=0, losses=0, error="", ended_at_ms=None, due_at_ms=op.at_ms,
                    waits=len([p for p in graph.parents(_step_spec(spec, step.name)) if p not in done]),
                )
                for step in waiting
            ]  # fmt: skip
            for step in again:
                store.save_step(tx, step)
            run = replace(run, state="running", version=number, error="", ended_at_ms=None, remaining=len(again))
            tx.emit("pipeline_run.resumed", _run_ref(run), pipeline=run.pipeline, version=number)
            run = self._make_ready(tx, run, spec, [step for step in again if not step.waits])
            return self._settle(tx, run, spec)

    def logs(self, op: Op, step_run: str, offset: int = 0) -> Logs:
        """What a step printed, from byte `offset` on. Raises NotFound."""
        if offset < 0:
            raise Invalid("offset is a number of bytes.", where="offset")
        with self._db.read() as tx:
            step = store.step(tx, step_run)
            run = store.run(tx, step.run_id) if step else None
        _see(op, "pipeline.read", run.pipeline if run else None, f"There is no step run {step_run!r}.")
        assert step is not None
        with self._db.read() as tx:
            chunks = store.log_chunks(tx, step_run, offset, LOG_PAGE_BYTES // 1024)
        text, upto = _cut(chunks, offset)
        return Logs(text=text, offset=offset, next=upto, done=step.state in STEP_ENDED and upto >= step.log_bytes)

    def _mine(self, op: Op, action: str, run_id: str) -> PipelineRun:
        with self._db.read() as tx:
            found = store.run(tx, run_id)
        _see(op, action, found.pipeline if found else None, f"There is no pipeline run {run_id!r}.")
        assert found is not None
        return found

    def _lock_run(self, tx: Write, run_id: str) -> PipelineRun:
        run = store.lock_run(tx, run_id)
        assert run is not None, f"the pipeline run {run_id} vanished"
        return run

    # --- the workers' side ------------------------------------------------------------------------------------------

    def hello(self, op: Op, hello: Hello) -> Welcome:
        """A worker starts. What an earlier worker of its name held is free again at once."""
        op.require("pipeline.work")
        with self._db.write(op) as tx:
            store.save_worker(
                tx, worker=hello.worker, name=hello.name, host=hello.host, pid=hello.pid, slots=hello.slots, at_ms=op.at_ms
            )
        with self._db.read() as tx:
            orphans = store.held_by_name(tx, hello.name, hello.worker) if hello.name else []
        for step in orphans:
            self._lose(step)
        from noria import __version__

        return Welcome(lease_s=self.lease_s, server_version=__version__)

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
            is_gone = store.worker_seen_at(tx, claim.worker) == 0  # it said goodbye; this request was on its way before
            candidates = [] if is_gone else store.due(tx, op.at_ms, CANDIDATES)
        for step_id, run_id in candidates:
            taken = self._take(self._because(op, run_id), claim.worker, step_id, run_id)
            if taken is None:
                continue
            run, step, spec, inputs = taken
            timeout_s = _step_spec(spec, step.name).timeout_s
            token = self._access.delegate(
                op, name=f"{run.pipeline}/{step.name}", owner=run.owner, actions=STEP_ACTIONS,
                lifetime_s=TOKEN_LIFETIME_S if timeout_s is None else timeout_s + TOKEN_MARGIN_S,
            )  # fmt: skip
            return Claimed(
                assignment=Assignment(
                    step_run_id=step.id, run_id=run.id, pipeline=run.pipeline, step=step.name,
                    function=_step_spec(spec, step.name).function, entry=spec.entry, attempt=step.attempt, inputs=inputs,
                    reads=step.reads, code=spec.code,
                    lease_s=self.lease_s, timeout_s=timeout_s, token=token, cache_reason=step.reason,
                )
            )  # fmt: skip
        return Claimed()

    def _take(
        self, op: Op, worker: str, step_id: str, run_id: str
    ) -> tuple[PipelineRun, StepRun, PipelineSpec, dict[str, Value]] | None:
        """Make `worker` the holder of a ready step; None when somebody else was quicker or it cannot run."""
        with self._db.write(op) as tx:
            run = self._lock_run(tx, run_id)
            step = store.step(tx, step_id)
            if step is None or step.state != "ready" or step.due_at_ms > op.at_ms or run.state not in ("queued", "running"):
                return None
            spec = self._version(run.pipeline, run.version).spec
            try:
                above = store.named_steps(tx, run.id, graph.parents(_step_spec(spec, step.name)))
                inputs = self._inputs(tx, run, _step_spec(spec, step.name))
            except Invalid as error:
                run = self._fail_for_good(tx, run, spec, step, error.message)
                self._settle(tx, run, spec)
                return None
            step = replace(
                step, state="running", attempt=step.attempt + 1, worker=worker,
                reads=sorted({ref for parent in above for ref in parent.reads}), started_at_ms=step.started_at_ms or op.at_ms,
                lease_until_ms=op.at_ms + int(self.lease_s * 1000),
            )  # fmt: skip
            store.save_step(tx, step)
            store.add_attempt(tx, step.id, step.attempt, worker, op.at_ms)
            if step.attempt > 1:
                self._note(tx, step, f"attempt {step.attempt}")
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
        lease_ms = int(self.lease_s * 1000)
        with self._db.read() as tx:
            rows = {(row["id"], int(row["attempt"])): row for row in store.held(tx, beat.worker)}
            seen_at = store.worker_seen_at(tx, beat.worker)
        is_due = any(int(row["lease_until_ms"]) - op.at_ms < lease_ms * 3 // 4 for row in rows.values())
        if is_due or seen_at is None or op.at_ms - seen_at > lease_ms // 4:
            with self._db.system_write() as tx:
                store.renew(tx, beat.worker, op.at_ms + lease_ms)
                if not store.seen_worker(tx, beat.worker, op.at_ms):
                    store.save_worker(tx, worker=beat.worker, name="", host="", pid=0, slots=1, at_ms=op.at_ms)
        cancel, lost = [], list[Held]()
        for held in beat.held:
            row = rows.get((held.step_run_id, held.attempt))
            if row is None:
                lost.append(held)
            elif row["run_state"] == "cancelling":
                cancel.append(held)
        return Orders(cancel=cancel, lost=lost)

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
            run = self._lock_run(tx, known.run_id)
            step = store.step(tx, done.step_run_id)
            assert step is not None
            if (step.state, step.worker, step.attempt) != ("running", done.worker, done.attempt):
                if self._was_finished(tx, step, done):
                    return
                raise Conflict("Another worker has this step by now; the result is dropped.", ref=Ref("step_run", step.id))
            spec = self._version(run.pipeline, run.version).spec
            store.end_attempt(
                tx, step.id, step.attempt, state=done.outcome, at_ms=op.at_ms, error=done.error, exit_code=done.exit_code,
                environment=done.environment_digest,
            )  # fmt: skip
            self._link_reads(tx, run, done.reads)
            step = replace(step, reads=sorted({*step.reads, *done.reads}))
            run = self._end_step(tx, run, spec, step, done)
            self._settle(tx, run, spec)

    def _was_finished(self, tx: Read, step: StepRun, done: Finish) -> bool:
        """Was this very result recorded before, and its answer lost?"""
        tries = store.attempts(tx, step.run_id).get(step.id, [])
        return any((t.number, t.worker, t.state) == (done.attempt, done.worker, done.outcome) for t in tries)

    def _link_reads(self, tx: Write, run: PipelineRun, reads: Iterable[str]) -> None:
        for text in sorted(set(reads)):
            ref = Ref.parse(text)
            if ref.kind in ("dataset_version", "model_version", "run"):
                tx.link(_run_ref(run), "read", ref)

    # --- transitions, inside a transaction that holds the run ---------------------------------------------------------

    def _end_step(self, tx: Write, run: PipelineRun, spec: PipelineSpec, step: StepRun, done: Finish) -> PipelineRun:
        assert tx.op is not None
        if done.outcome == "succeeded":
            return self._succeed(tx, run, spec, step, done.outputs)
        if done.outcome == "lost":
            return self._give_back(tx, run, spec, step)
        if run.state == "cancelling" or done.outcome == "cancelled":
            store.save_step(tx, _ended(step, "cancelled", tx.op.at_ms))
            return replace(run, remaining=run.remaining - 1)
        step_spec = _step_spec(spec, step.name)
        step = replace(step, failures=step.failures + 1)
        if step.failures > step_spec.retries:
            return self._fail_for_good(tx, run, spec, step, done.error)
        delay_s = min(RETRY_DELAY_MAX_S, step_spec.retry_delay_s * 2 ** (step.failures - 1))
        store.save_step(
            tx,
            replace(
                step, state="ready", due_at_ms=tx.op.at_ms + int(delay_s * 1000), worker="", lease_until_ms=None,
                error=done.error,
            ),
        )  # fmt: skip
        self._note(tx, step, f"attempt {step.attempt} failed; the next one starts in {delay_s:g} s")
        self._emit_failed(tx, run, step, done.error, will_retry=True)
        return run

    def _succeed(self, tx: Write, run: PipelineRun, spec: PipelineSpec, step: StepRun, outputs: Value | None) -> PipelineRun:
        run, children = self._record(tx, run, step, outputs)
        if step.cache_key:
            self._remember(tx, run, spec, replace(step, outputs=outputs))
        return run if run.state == "cancelling" else self._make_ready(tx, run, spec, children)

    def _record(
        self, tx: Write, run: PipelineRun, step: StepRun, outputs: Value | None, *, cached_from: str = ""
    ) -> tuple[PipelineRun, list[StepRun]]:
        """Write down a result: (the run, the steps that wait for nothing any more)."""
        assert tx.op is not None
        step = _ended(step, "succeeded", tx.op.at_ms)
        store.save_step(tx, replace(step, outputs=outputs, error="", cached_from=cached_from))
        tx.emit(
            "step_run.succeeded", Ref("step_run", step.id), run_id=run.id, step=step.name, attempt=step.attempt,
            cached_from=cached_from,
        )  # fmt: skip
        return replace(run, remaining=run.remaining - 1), store.count_down(tx, step.id)

    def _make_ready(self, tx: Write, run: PipelineRun, spec: PipelineSpec, steps: list[StepRun]) -> PipelineRun:
        """Put steps that wait for nothing on the queue, or take their results from the cache; then their children."""
        queue = list(steps)
        while queue:
            step = queue.pop(0)
            step_spec = _step_spec(spec, step.name)
            found = None
            if step_spec.cache_s is not None:
                found, step = self._look_up(tx, run, step, step_spec)
            if found is None:
                store.save_step(tx, replace(step, state="ready"))
                continue
            outputs = msgspec.json.decode(found["outputs"], type=Value)
            source = store.step(tx, found["step_run_id"])
            step = replace(step, reads=source.reads if source else [])
            self._link_reads(tx, run, step.reads)
            run, children = self._record(tx, run, step, outputs, cached_from=found["step_run_id"])
            queue += children
        return run

    def _look_up(
        self, tx: Write, run: PipelineRun, step: StepRun, step_spec: StepSpec
    ) -> tuple[dict[str, Any] | None, StepRun]:
        """The cached result of a step, if there is one that counts; and the step with the reason."""
        assert tx.op is not None and step_spec.cache_s is not None
        try:
            inputs = self._inputs(tx, run, step_spec)
        except Invalid:
            return None, step  # the claim fails it, with the reason
        key = graph.cache_key(run.pipeline, step_spec, inputs)
        found = store.cached(tx, key.key)
        if found and step_spec.cache_s and tx.op.at_ms - int(found["created_at_ms"]) > step_spec.cache_s * 1000:
            found = None
        if found:
            return found, replace(
                step, cache_key=key.key, started_at_ms=tx.op.at_ms,
                reason=f"From the cache: the code and the inputs are those of step run {found['step_run_id']}.",
            )  # fmt: skip
        last = store.last_cached(tx, run.pipeline, step.name)
        decoded = last and {"code": last["code"], "inputs": msgspec.json.decode(last["inputs"])}
        return None, replace(step, cache_key=key.key, reason=graph.why_not_cached(key, decoded))

    def _remember(self, tx: Write, run: PipelineRun, spec: PipelineSpec, step: StepRun) -> None:
        assert tx.op is not None
        step_spec = _step_spec(spec, step.name)
        key = graph.cache_key(run.pipeline, step_spec, self._inputs(tx, run, step_spec))
        store.add_cached(
            tx, key=key.key, pipeline=run.pipeline, step=step.name, step_run_id=step.id, outputs=js(step.outputs),
            code=key.code, inputs=js(key.inputs), at_ms=tx.op.at_ms,
        )  # fmt: skip

    def _inputs(self, tx: Read, run: PipelineRun, step: StepSpec) -> dict[str, Value]:
        outputs = store.outputs(tx, run.id, graph.parents(step))
        return {name: graph.resolve(source, run.params, outputs) for name, source in step.inputs.items()}

    def _fail_for_good(self, tx: Write, run: PipelineRun, spec: PipelineSpec, step: StepRun, error: str) -> PipelineRun:
        """The step failed; what depends on it is skipped, what does not goes on."""
        assert tx.op is not None
        store.save_step(tx, replace(_ended(step, "failed", tx.op.at_ms), error=error))
        self._emit_failed(tx, run, step, error, will_retry=False)
        below = graph.descendants(spec.steps, step.name)
        skipped = [s for s in store.steps(tx, run.id) if s.name in below and s.state == "waiting"]
        for other in skipped:
            store.save_step(tx, replace(_ended(other, "skipped", tx.op.at_ms), reason=f"{step.name} failed."))
        text = run.error or f"Step {step.name} failed: {error}"
        return replace(run, remaining=run.remaining - 1 - len(skipped), error=text)

    def _emit_failed(self, tx: Write, run: PipelineRun, step: StepRun, error: str, *, will_retry: bool) -> None:
        tx.emit(
            "step_run.failed", Ref("step_run", step.id), run_id=run.id, step=step.name, attempt=step.attempt,
            error=error[:500], will_retry=will_retry,
        )  # fmt: skip

    def _give_back(self, tx: Write, run: PipelineRun, spec: PipelineSpec, step: StepRun) -> PipelineRun:
        """Its worker is gone: the step is ready for another, unless it was to stop or it loses every worker."""
        assert tx.op is not None
        tx.emit(
            "step_run.lost",
            Ref("step_run", step.id),
            run_id=run.id,
            step=step.name,
            attempt=step.attempt,
            worker=step.worker,
        )
        step = replace(step, losses=step.losses + 1)
        if run.state == "cancelling":
            store.save_step(tx, _ended(step, "cancelled", tx.op.at_ms))
            return replace(run, remaining=run.remaining - 1)
        if step.losses >= LOST_MAX:
            error = f"Its worker vanished {step.losses} times; the step may be what stops it (memory?)."
            return self._fail_for_good(tx, run, spec, step, error)
        self._note(tx, step, f"the worker {step.worker} is gone; another one takes the step")
        store.save_step(tx, replace(step, state="ready", due_at_ms=tx.op.at_ms, worker="", lease_until_ms=None))
        return run

    def _settle(self, tx: Write, run: PipelineRun, spec: PipelineSpec) -> PipelineRun:
        """End the run when nothing of it remains; write its row either way."""
        assert tx.op is not None
        if run.remaining == 0 and run.state not in RUN_ENDED:
            run = self._end_run(tx, run, spec)
        store.save_run(tx, run)
        return run

    def _end_run(self, tx: Write, run: PipelineRun, spec: PipelineSpec) -> PipelineRun:
        assert tx.op is not None
        ref, run = _run_ref(run), replace(run, ended_at_ms=tx.op.at_ms, started_at_ms=run.started_at_ms or tx.op.at_ms)
        if run.state == "cancelling":
            tx.emit("pipeline_run.cancelled", ref, pipeline=run.pipeline)
            return replace(run, state="cancelled")
        if not run.error:
            names = {leaf.step for source in spec.outputs.values() for leaf in graph.leaves(source) if hasattr(leaf, "step")}
            known = store.outputs(tx, run.id, sorted(names))
            try:
                outputs = {name: graph.resolve(source, run.params, known) for name, source in spec.outputs.items()}
            except Invalid as error:
                run = replace(run, error=error.message)
            else:
                shown = {name: graph.plain(value) for name, value in outputs.items()}
                tx.emit("pipeline_run.succeeded", ref, pipeline=run.pipeline, outputs=shown)
                return replace(run, state="succeeded", outputs=outputs)
        tx.emit("pipeline_run.failed", ref, pipeline=run.pipeline, error=run.error[:1000])
        return replace(run, state="failed")

    def _note(self, tx: Write, step: StepRun, text: str) -> None:
        """A line of the scheduler in the step's output."""
        line = f"── {text} ──\n"
        store.append_log(tx, step.id, line, attempt=None, size_bytes=len(line.encode()))

    # --- what time does -----------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Free the steps of workers that fell silent. The first time after a start it forgives the silence."""
        now_ms = self._ops.clock.now_ms()
        with self._lock:
            if not self._is_awake:
                with self._db.system_write() as tx:
                    store.renew_all(tx, now_ms + int(self.lease_s * 1000))
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
            run = self._lock_run(tx, held.run_id)
            step = store.step(tx, held.id)
            if step is None or (step.state, step.worker, step.attempt) != ("running", held.worker, held.attempt):
                return
            if expired_before_ms is not None and (step.lease_until_ms or 0) >= expired_before_ms:
                return
            store.end_attempt(
                tx, step.id, step.attempt, state="lost", at_ms=op.at_ms, error=f"The worker {step.worker} is gone."
            )
            spec = self._version(run.pipeline, run.version).spec
            self._settle(tx, self._give_back(tx, run, spec, step), spec)

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


def owner_of(op: Op) -> str:
    """Whose rights a run has: the caller's; '' for Noria itself, which has no rights to lend."""
    return "" if op.actor.kind == "system" else op.actor.on_behalf_of or op.actor.id


def _see(op: Op, action: str, pipeline: str | None, missing: str) -> None:
    """Ask for `action` on the pipeline; what is not there, and what may not be read, are told apart only with rights."""
    if pipeline is None:
        op.require(action)
        raise NotFound(missing)
    op.require(action, on=Ref("pipeline", pipeline))


def visible_names(op: Op, action: str) -> list[str] | None:
    """The pipelines on which the caller may do `action`; None means all."""
    scopes = op.visible(action)
    return None if scopes is None else [s.removeprefix("pipeline:") for s in scopes if s.startswith("pipeline:")]


def _run_ref(run: PipelineRun) -> Ref:
    return Ref("pipeline_run", run.id)


def _step_spec(spec: PipelineSpec, name: str) -> StepSpec:
    return next(step for step in spec.steps if step.name == name)


def _ended(step: StepRun, state: Any, at_ms: int) -> StepRun:
    return replace(step, state=state, ended_at_ms=at_ms, lease_until_ms=None)


def _cut(chunks: list[tuple[int, str]], offset: int) -> tuple[str, int]:
    """The text from byte `offset` on, and the offset after it; whole characters only."""
    parts, upto = [], offset
    for start, text in chunks:
        body = text.encode()
        if start + len(body) <= upto:
            continue
        if upto - offset >= LOG_PAGE_BYTES:
            break
        parts.append(body[max(0, upto - start) :])
        upto = start + len(body)
    return b"".join(parts).decode("utf-8", "replace"), upto
