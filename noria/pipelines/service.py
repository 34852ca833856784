"""Pipelines: registration, runs, and what people do to them.

Mechanism: a run is rows. A step counts what it still waits for; when one ends, only its children are touched. A worker
claims a ready step for a lease and renews it; when it falls silent, the step is ready again. Nothing is replayed.
Invariants: every transition (transitions.py) is one transaction, with its fact; it locks the run's row first, so two never
interleave; a result counts only from the worker and the attempt that hold the step (work.py), so a step that succeeded never
runs again.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from blake3 import blake3
from msgspec.structs import replace

import noria.pipelines.model.facts  # noqa: F401  # so that what it tells is known
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.pipelines import (
    attempt_store,
    conditions,
    graph,
    pipeline_store,
    queue_store,
    rooms,
    run_store,
    step_store,
    worker_store,
)
from noria.pipelines.blobs import digests_in_use
from noria.pipelines.control import Control
from noria.pipelines.graph import Plan
from noria.pipelines.model.limits import LOG_PAGE_BYTES, WAITING_MAX
from noria.pipelines.model.queues import Queue
from noria.pipelines.model.runs import PipelineRun, PipelineRunView
from noria.pipelines.model.sources import FromBlob
from noria.pipelines.model.spec import Pipeline, PipelineSpec, PipelineVersion, StepSpec
from noria.pipelines.model.steps import STEP_ENDED, Attempt, Logs, StepRun, StepView
from noria.pipelines.model.workers import PipelineWorker
from noria.pipelines.transitions import Transitions, run_ref

LEASE_S = 30.0


class Declaring(Protocol):
    """Makes the schedules and triggers that a version's code declares."""

    def put_in(self, tx: Write, spec: PipelineSpec, before: PipelineSpec | None) -> None: ...


class Pipelines:
    """Work that must finish."""

    def __init__(
        self, db: Database, ops: Ops, blobs: BlobStore, transitions: Transitions, *, lease_s: float = LEASE_S
    ) -> None:
        self._db, self._blobs, self._transitions, self.lease_s = db, blobs, transitions, lease_s
        self.control = Control(db, ops, self, transitions)
        self.declared: Declaring | None = None
        self._versions: dict[tuple[str, int], PipelineVersion] = {}
        self._plans: dict[tuple[str, int], Plan] = {}
        self._submitted: dict[str, int] = {}

    # --- pipelines --------------------------------------------------------------------------------------------------

    def register(self, op: Op, spec: PipelineSpec) -> Pipeline:
        """Keep `spec` as a new version of its pipeline, unless it is the latest already. Raises Invalid, Forbidden."""
        op.require("pipeline.register", on=Ref("pipeline", spec.name))
        graph.check_spec(spec)
        self._check_blobs(spec)
        digest = blake3(msgspec.json.encode(spec, order="sorted")).hexdigest()
        with self._db.write(op) as tx:
            pipeline_store.lock_pipeline(tx, spec.name)
            found = pipeline_store.pipeline(tx, spec.name)
            latest = pipeline_store.version(tx, spec.name, found.version) if found else None
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
            pipeline_store.save_pipeline(tx, made)
            pipeline_store.add_version(tx, version)
            if self.declared:
                self.declared.put_in(tx, spec, latest.spec if latest else None)
            tx.emit(
                "pipeline.registered", Ref("pipeline", spec.name), version=made.version,
                code_digest=spec.code.archive_digest, source_commit=spec.code.commit,
            )  # fmt: skip
        return made

    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]:
        """Those of `digests` that code, environments or values of steps need; for the collector of unused blobs."""
        return digests_in_use(tx, digests)

    def _check_blobs(self, spec: PipelineSpec) -> None:
        """A row never names a blob that was not stored first."""
        sources = [*spec.outputs.values(), *(s for step in spec.steps for s in step.inputs.values())]
        digests = {leaf.digest for source in sources for leaf in graph.leaves(source) if isinstance(leaf, FromBlob)}
        digests |= {step.env.lock_digest for step in spec.steps if step.env}
        digests |= {d for d in (spec.code.archive_digest, spec.code.diff_digest, spec.environment_digest) if d}
        for digest in sorted(digests):
            if not self._blobs.has(digest):
                raise Invalid(
                    f"The blob {digest[:12]} was not uploaded.", where="code", hint="PUT /api/v1/blobs/{digest} comes first."
                )

    def pipeline(self, op: Op, name: str) -> Pipeline:
        """A pipeline with its latest spec. Raises NotFound."""
        with self._db.read() as tx:
            found = pipeline_store.pipeline(tx, name)
        _see(op, "pipeline.read", found.name if found else None, f"There is no pipeline {name!r}.")
        assert found is not None
        return replace(found, spec=self.version_of(name, found.version).spec)

    def pipelines(self, op: Op, *, limit: int | None = None, page: str = "") -> Page[Pipeline]:
        """Every pipeline the caller may read, by name."""
        size, names = check_limit(limit), visible_names(op, "pipeline.read")
        after = str(decode_token(page, size=1)[0]) if page else ""
        with self._db.read() as tx:
            found = pipeline_store.pipelines(tx, names=names, after=after, limit=size)
        return Page(found, encode_token(found[-1].name) if len(found) == size else None)

    def versions(self, op: Op, name: str, *, limit: int | None = None, page: str = "") -> Page[PipelineVersion]:
        """A pipeline's versions, newest first."""
        self.pipeline(op, name)
        size = check_limit(limit)
        before = int(decode_token(page, size=1)[0]) if page else 1 << 60
        with self._db.read() as tx:
            found = pipeline_store.versions(tx, name, before=before, limit=size)
        return Page(found, encode_token(found[-1].number) if len(found) == size else None)

    def latest(self, name: str) -> PipelineVersion:
        """The version that a run gets now. Raises NotFound. Asks for no right: for triggers and schedules, which did."""
        return self._to_submit(name, None)[0]

    def check_params(self, name: str, params: dict[str, Any]) -> None:
        """Raises Invalid or NotFound when a run with these parameters could not be submitted."""
        graph.bind_params(self.latest(name).spec, params)

    def version_of(self, name: str, number: int) -> PipelineVersion:
        """A version; immutable, so it is kept in memory."""
        if (name, number) not in self._versions:
            with self._db.read() as tx:
                found = pipeline_store.version(tx, name, number)
            if found is None:
                raise NotFound(f"The pipeline {name!r} has no version {number}.")
            if len(self._versions) > 200:
                self._versions.clear()
            self._versions[name, number] = found
        return self._versions[name, number]

    def plan(self, run: PipelineRun) -> Plan:
        """The steps of a run's version, ready to be asked."""
        if (run.pipeline, run.version) not in self._plans:
            if len(self._plans) > 200:
                self._plans.clear()
            self._plans[run.pipeline, run.version] = Plan(self.version_of(run.pipeline, run.version).spec)
        return self._plans[run.pipeline, run.version]

    def because(self, op: Op, run_id: str) -> Op:
        """The operation, led to by the submission of this run."""
        if run_id not in self._submitted:
            with self._db.read() as tx:
                seq = run_store.submitted(tx, run_id)
            if seq is None:
                return op
            if len(self._submitted) > 10_000:
                self._submitted.clear()
            self._submitted[run_id] = seq
        return op.because(self._submitted[run_id])

    # --- runs -------------------------------------------------------------------------------------------------------

    def submit(
        self, op: Op, pipeline: str, params: dict[str, Any], *, cause: int | None = None, unique: str = "",
        version: int | None = None, reproduces: str = "", origin: str = "", queues: dict[str, str] | None = None,
    ) -> PipelineRun:  # fmt: skip
        """Start a run; with `unique`, at most one run ever has that key, and it is given back.

        `reproduces`: the pipeline run that it repeats. `queues`: where steps go instead of where their code says.
        Raises NotFound, Invalid (parameters), Forbidden.
        """
        op.require("pipeline.run", on=Ref("pipeline", pipeline))
        op = op.because(cause) if cause is not None else op
        found, spec = self._to_submit(pipeline, version)
        bound = graph.bind_params(spec, params)
        graph.check_queues(spec, queues or {})
        if reproduces:
            self.pipeline_run(op, reproduces)
        with self._db.write(op) as tx:
            run, is_new = self.submit_in(tx, found, bound, unique=unique, origin=origin, queues=queues)
            if reproduces and is_new:
                tx.link(run_ref(run), "reproduces", Ref("pipeline_run", reproduces))
        return run

    def _to_submit(self, name: str, number: int | None) -> tuple[PipelineVersion, PipelineSpec]:
        if number is None:
            with self._db.read() as tx:
                latest = pipeline_store.pipeline(tx, name)
            if latest is None:
                raise NotFound(f"There is no pipeline {name!r}.", hint="Register it with: noria pipeline run FILE.")
            number = latest.version
        found = self.version_of(name, number)
        return found, found.spec

    def submit_in(
        self,
        tx: Write,
        version: PipelineVersion,
        bound: dict[str, Any],
        *,
        unique: str = "",
        origin: str = "",
        queues: dict[str, str] | None = None,
    ) -> tuple[PipelineRun, bool]:
        """Start a run in the caller's transaction: (the run, whether it is new). For triggers and schedules."""
        op, spec = tx.op, version.spec
        assert op is not None
        if unique and (earlier := run_store.run_by_unique(tx, unique)):
            return earlier, False
        run = PipelineRun(
            id=new_id(op.at_ms), pipeline=spec.name, version=version.number, state="queued", params=bound,
            created_at_ms=op.at_ms, actor=op.actor.label, owner=owner_of(op) or version.owner, cause=op.cause,
            remaining=len(spec.steps), origin_run_id=origin, slot=graph.slot_of(spec, bound),
            queues=queues or {},
        )  # fmt: skip
        why_not = ""
        if run.slot:
            run, why_not = self._placed(tx, run, spec)
        if not run_store.add_run(tx, run, unique=unique):
            earlier = run_store.run_by_unique(tx, unique)
            assert earlier is not None
            return earlier, False
        plan = self.plan(run)
        ids = {name: new_id(op.at_ms) for name in plan.steps}
        steps = list[StepRun]()
        waits = list[tuple[str, str]]()
        for position, name in enumerate(graph.order(spec.steps)):
            above = graph.parents(plan.steps[name])
            waits += [(ids[parent], ids[name]) for parent in above]
            steps.append(
                StepRun(
                    id=ids[name], run_id=run.id, name=name, position=position, state="waiting", waits=len(above), attempt=0,
                    due_at_ms=op.at_ms, kind=plan.steps[name].kind, owner=run.owner, pipeline=run.pipeline,
                    **graph.asked(plan.steps[name], run.queues),
                )
            )  # fmt: skip
        step_store.add_steps(tx, steps, waits)
        tx.emit("pipeline_run.submitted", run_ref(run), pipeline=spec.name, version=version.number, params=bound)
        tx.link(run_ref(run), "run_of", Ref("pipeline", spec.name))
        if why_not:
            return self.control.pass_over_in(tx, run, plan, why_not), True
        run = self._transitions.make_ready(tx, run, plan, [s for s in steps if not s.waits])
        return self._transitions.settle(tx, run, plan), True

    def _placed(self, tx: Write, run: PipelineRun, spec: PipelineSpec) -> tuple[PipelineRun, str]:
        """The run where it may go on or has to wait; and why it is passed over, if it is. Holds the pipeline's row."""
        pipeline_store.lock_pipeline(tx, spec.name)
        active = run_store.active_in(tx, run.slot)
        assert spec.concurrency is not None
        waiting = run_store.waiting_in(tx, run.slot)
        if len(active) < spec.concurrency and not waiting:
            return run, ""
        busy = f"{len(active)} of at most {spec.concurrency} runs of {run.slot} go on already"
        if spec.on_busy == "skip" and len(active) >= spec.concurrency:
            return run, f"Passed over: {busy} ({active[0]})."
        if waiting >= WAITING_MAX:
            return run, f"Passed over: {waiting} runs of {run.slot} wait already."
        if spec.on_busy == "cancel_oldest" and len(active) >= spec.concurrency:
            self.control.cancel_in(tx, active[0])
        return replace(run, state="waiting"), ""

    def pipeline_run(self, op: Op, run_id: str) -> PipelineRun:
        """One run. Raises NotFound."""
        with self._db.read() as tx:
            found = run_store.run(tx, run_id)
        _see(op, "pipeline.read", found.pipeline if found else None, f"There is no pipeline run {run_id!r}.")
        assert found is not None
        return found

    def pipeline_run_view(self, op: Op, run_id: str) -> PipelineRunView:
        """One run with its steps, their tries and its graph."""
        run = self.pipeline_run(op, run_id)
        with self._db.read() as tx:
            run = run_store.run(tx, run_id) or run
            steps, tries = step_store.steps(tx, run_id), attempt_store.attempts(tx, run_id)
            rules, busy = queue_store.queue_rules(tx), queue_store.queue_counts(tx, "running")
            workers = worker_store.workers(tx, op.at_ms - int(self.lease_s * 1000))
            fact = run_store.submitted(tx, run_id)
            before = run_store.active_in(tx, run.slot) if run.state == "waiting" else []
        plan = self.plan(run)
        views = [_view(plan.spec_of(step), step, tries.get(step.id, []), (workers, rules, busy)) for step in steps]
        dag = [(parent, view.step.name) for view in views for parent in view.depends_on if not view.step.parent_id]
        return PipelineRunView(
            run=run,
            steps=views,
            dag=dag,
            workers=len(workers),
            code=plan.spec.code,
            fact=fact,
            waiting=_why_idle(run, before, plan.spec.concurrency),
        )

    def pipeline_runs(
        self, op: Op, *, pipeline: str = "", state: str = "", limit: int | None = None, page: str = "", mine: bool = False
    ) -> Page[PipelineRun]:
        """Runs, newest first; `mine`: those that the caller started, or that a schedule or trigger of theirs did."""
        size, names = check_limit(limit), visible_names(op, "pipeline.read")
        before = str(decode_token(page, size=1)[0]) if page else ""
        owner = (op.actor.on_behalf_of or op.actor.id) if mine else ""
        with self._db.read() as tx:
            found = run_store.runs(tx, pipeline=pipeline, state=state, owner=owner, names=names, before=before, limit=size)
        return Page(found, encode_token(found[-1].id) if len(found) == size else None)

    def cancel(self, op: Op, run_id: str) -> PipelineRun:
        """Stop a run; see Control."""
        return self.control.cancel(op, run_id)

    def resume(self, op: Op, run_id: str, *, version: int | None = None, start: str = "") -> PipelineRun:
        """Go on with a run that ended; see Control."""
        return self.control.resume(op, run_id, version=version, start=start)

    def logs(self, op: Op, step_run: str, offset: int = 0) -> Logs:
        """What a step printed, from byte `offset` on. Raises NotFound."""
        if offset < 0:
            raise Invalid("offset is a number of bytes.", where="offset")
        step = self.step_run(op, "pipeline.read", step_run)
        with self._db.read() as tx:
            chunks = attempt_store.log_chunks(tx, step_run, offset, LOG_PAGE_BYTES // 1024)
        text, upto = _cut(chunks, offset)
        return Logs(text=text, offset=offset, next=upto, done=step.state in STEP_ENDED and upto >= step.log_bytes)

    def step_run(self, op: Op, action: str, step_run_id: str) -> StepRun:
        """A step of a run on whose pipeline the caller may do `action`. Raises NotFound, Forbidden."""
        with self._db.read() as tx:
            step = step_store.step(tx, step_run_id)
            run = run_store.run(tx, step.run_id) if step else None
        _see(op, action, run.pipeline if run else None, f"There is no step run {step_run_id!r}.")
        assert step is not None
        return step

    def mine(self, op: Op, action: str, run_id: str) -> PipelineRun:
        """A run on whose pipeline the caller may do `action`. Raises NotFound, Forbidden."""
        with self._db.read() as tx:
            found = run_store.run(tx, run_id)
        _see(op, action, found.pipeline if found else None, f"There is no pipeline run {run_id!r}.")
        assert found is not None
        return found


def _why_idle(run: PipelineRun, before: list[str], limit: int | None) -> str:
    """Why nothing of a run begins; empty when something may."""
    if run.is_paused:
        return "The run is paused."
    if run.state != "waiting":
        return ""
    first = f", first {before[0]}" if before else ""
    return f"It waits for its turn: {len(before)} of at most {limit} runs of {run.slot} go on{first}."


def _view(
    spec: StepSpec, step: StepRun, attempts: list[Attempt],
    around: tuple[list[PipelineWorker], dict[str, Queue], dict[str, int]],
) -> StepView:  # fmt: skip
    return StepView(
        step=replace(step, spec=None), attempts=attempts, description=spec.description, depends_on=graph.parents(spec),
        when=[conditions.name(test) for test in spec.when], question=spec.question,
        waiting=rooms.why_waiting(step, *around) if step.state == "ready" else "",
    )  # fmt: skip


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
