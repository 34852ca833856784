"""What people do to runs: stop them or one step of them, pause them, go on from where they failed, start them again.

Invariant: each is one transaction that holds the run, and leaves it in a state from which it ends by itself, is paused, or waits
for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from noria.kernel.db import Database, Write
from noria.kernel.errors import Conflict, Invalid
from noria.kernel.ids import Ref
from noria.kernel.op import Op, Ops
from noria.pipelines import graph, pipeline_store, run_store, step_store
from noria.pipelines.graph import Plan
from noria.pipelines.model.runs import RUN_ENDED, PipelineRun
from noria.pipelines.model.spec import Pipeline, StepSpec
from noria.pipelines.model.steps import STEP_ENDED, StepRun
from noria.pipelines.transitions import Transitions, lock_run, renewed, run_ref

if TYPE_CHECKING:
    from noria.pipelines.service import Pipelines


class Control:
    """See the module."""

    def __init__(self, db: Database, ops: Ops, pipelines: Pipelines, transitions: Transitions) -> None:
        self._db, self._ops, self._pipelines, self._transitions = db, ops, pipelines, transitions

    # --- stopping ---------------------------------------------------------------------------------------------------

    def cancel(self, op: Op, run_id: str) -> PipelineRun:
        """Stop a run: what waits is cancelled now, what runs is stopped by its worker. A run that ended stays as it is."""
        self._pipelines.mine(op, "pipeline.cancel", run_id)
        with self._db.write(op) as tx:
            return self.cancel_in(tx, run_id)

    def cancel_in(self, tx: Write, run_id: str) -> PipelineRun:
        """`cancel`, in the caller's transaction."""
        run = lock_run(tx, run_id)
        if run.state in RUN_ENDED or run.state == "cancelling":
            return run
        plan = self._pipelines.plan(run)
        tx.emit("pipeline_run.cancel_asked", run_ref(run), pipeline=run.pipeline)
        run = replace(run, state="cancelling", is_paused=False)
        for step in step_store.steps(tx, run_id):
            if step.state in ("waiting", "ready", "asking"):
                run = self._transitions.cancel_step(tx, run, plan, step)
        return self._transitions.settle(tx, run, plan)

    def pass_over_in(self, tx: Write, run: PipelineRun, plan: Plan, reason: str) -> PipelineRun:
        """A run that was not let in: it ends before it began, and says why."""
        run = replace(run, state="cancelling", error=reason)
        for step in step_store.steps(tx, run.id):
            run = self._transitions.cancel_step(tx, run, plan, replace(step, reason=reason))
        return self._transitions.settle(tx, run, plan)

    def cancel_step(self, op: Op, step_run_id: str) -> StepRun:
        """Stop one step; what needs it is skipped, the rest of the run goes on, and the run will have failed.

        Raises NotFound, Conflict when the step has ended.
        """
        known = self._pipelines.step_run(op, "pipeline.cancel", step_run_id)
        with self._db.write(op) as tx:
            run = lock_run(tx, known.run_id)
            step = step_store.step(tx, step_run_id) or known
            if step.state in STEP_ENDED:
                raise Conflict(f"The step {step.name} is {step.state} already.", ref=Ref("step_run", step.id))
            tx.emit("step_run.cancel_asked", Ref("step_run", step.id), run_id=run.id, step=step.name)
            run = self._stop(tx, run, self._pipelines.plan(run), replace(step, stop_by=op.actor.label))
            self._transitions.settle(tx, run, self._pipelines.plan(run))
            return step_store.step(tx, step_run_id) or step

    def _stop(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun) -> PipelineRun:
        """What waits stops here; what runs is stopped by its worker; a map stops with its elements."""
        if step.state != "running":
            return self._transitions.cancel_step(tx, run, plan, step)
        step_store.save_step(tx, step)
        if step.kind in ("map", "sweep"):
            for each in step_store.elements(tx, step.id):
                if each.state not in STEP_ENDED:
                    run = self._stop(tx, run, plan, replace(each, stop_by=step.stop_by))
        return run

    # --- pausing ----------------------------------------------------------------------------------------------------

    def pause(self, op: Op, run_id: str) -> PipelineRun:
        """Let what runs go on, and begin nothing more. Raises NotFound, Conflict for a run that has ended."""
        self._pipelines.mine(op, "pipeline.cancel", run_id)
        with self._db.write(op) as tx:
            run = lock_run(tx, run_id)
            if run.state in RUN_ENDED or run.state == "cancelling":
                raise Conflict(f"The run is {run.state}; there is nothing to pause.", ref=run_ref(run))
            if run.is_paused:
                return run
            for step in step_store.steps(tx, run_id):
                if step.state == "ready":
                    step_store.save_step(tx, replace(step, state="waiting"))
            tx.emit("pipeline_run.paused", run_ref(run), pipeline=run.pipeline)
            return self._transitions.settle(tx, replace(run, is_paused=True), self._pipelines.plan(run))

    def unpause(self, op: Op, run_id: str) -> PipelineRun:
        """Go on with a paused run."""
        self._pipelines.mine(op, "pipeline.run", run_id)
        with self._db.write(op) as tx:
            run, plan = lock_run(tx, run_id), None
            if not run.is_paused:
                return run
            plan = self._pipelines.plan(run)
            tx.emit("pipeline_run.unpaused", run_ref(run), pipeline=run.pipeline)
            run = self._transitions.make_ready(tx, replace(run, is_paused=False), plan, step_store.idle(tx, run_id))
            return self._transitions.settle(tx, run, plan)

    def pause_pipeline(self, op: Op, name: str, is_paused: bool) -> Pipeline:
        """While a pipeline is paused, neither its schedules nor its triggers start it; people still can."""
        self._pipelines.pipeline(op, name)
        op.require("trigger.write", on=Ref("pipeline", name))
        with self._db.write(op) as tx:
            if pipeline_store.pause_pipeline(tx, name, is_paused):
                tx.emit("pipeline.paused" if is_paused else "pipeline.unpaused", Ref("pipeline", name))
        return self._pipelines.pipeline(op, name)

    # --- again ------------------------------------------------------------------------------------------------------

    def resume(self, op: Op, run_id: str, *, version: int | None = None, start: str = "") -> PipelineRun:
        """Go on with a run that failed or was cancelled: steps that succeeded keep their results, the others run again.

        `version`: use the code of this version, which must have the same steps. `start`: run this step again and everything
        that rests on it, also when the run succeeded.
        Raises Conflict when the run goes on (or succeeded, without `start`), Invalid when the steps differ or there is no such.
        """
        found = self._pipelines.mine(op, "pipeline.run", run_id)
        number = version or found.version
        plan = self._pipelines.plan(replace(found, version=number))
        if graph.shape(plan.spec) != graph.shape(self._pipelines.plan(found).spec):
            raise Invalid(
                f"Version {number} of {found.pipeline} has other steps than this run.", where="version",
                hint="Submit a new run; steps with a cache are not repeated.",
            )  # fmt: skip
        with self._db.write(op) as tx:
            if found.slot:
                pipeline_store.lock_pipeline(tx, found.pipeline)
            run = lock_run(tx, run_id)
            if run.state not in ("failed", "cancelled") and not (start and run.state == "succeeded"):
                raise Conflict(
                    f"The run is {run.state}; only a failed or cancelled one can be resumed.", ref=run_ref(run),
                    hint="Name a step to start from." if run.state == "succeeded" else "",
                )  # fmt: skip
            again, elements = to_repeat(plan, step_store.steps(tx, run_id), start, op.at_ms, run.queues)
            for step in again:
                step_store.save_step(tx, step)
            step_store.put_elements(tx, elements)
            limit = plan.spec.concurrency
            is_full = bool(run.slot) and limit is not None and len(run_store.active_in(tx, run.slot)) >= limit
            run = replace(
                run, state="waiting" if is_full else "running", version=number, error="", ended_at_ms=None, is_paused=False, outputs={},
                remaining=len(again) + len(elements),
            )  # fmt: skip
            tx.emit("pipeline_run.resumed", run_ref(run), pipeline=run.pipeline, version=number, start=start)
            begin = [step for step in (*again, *elements) if step.state == "waiting" and not step.waits]
            run = self._transitions.make_ready(tx, run, plan, begin)
            return self._transitions.settle(tx, run, plan)

    def rerun(self, op: Op, run_id: str, params: dict[str, Any], *, version: int | None = None) -> PipelineRun:
        """A new run with the parameters of this one, some of them changed. Raises NotFound, Invalid, Forbidden."""
        found = self._pipelines.mine(op, "pipeline.run", run_id)
        return self._pipelines.submit(
            op,
            found.pipeline,
            {**found.params, **params},
            version=version or found.version,
            origin=run_id,
            queues=found.queues,
        )

    # --- answers ----------------------------------------------------------------------------------------------------

    def answered(self, approval_id: str) -> None:
        """A question may have been answered: if it was, its step ends. Asked again it does nothing."""
        with self._db.read() as tx:
            known = step_store.step_of_question(tx, approval_id)
        if known is None or known.state != "asking":
            return
        op = self._pipelines.because(self._ops.system("pipelines"), known.run_id)
        with self._db.write(op) as tx:
            run = lock_run(tx, known.run_id)
            step = step_store.step(tx, known.id)
            answer = self._transitions.answer_to(tx, approval_id)
            if step is None or step.state != "asking" or step.approval_id != approval_id or answer is None:
                return
            plan = self._pipelines.plan(run)
            self._transitions.settle(tx, self._transitions.answer(tx, run, plan, step, answer), plan)


def to_repeat(
    plan: Plan, steps: list[StepRun], start: str, at_ms: int, queues: Mapping[str, str]
) -> tuple[list[StepRun], list[StepRun]]:
    """What a run that goes on does again, as it is before it begins: steps of the pipeline, and elements of its maps.

    A step that was passed over stays so unless something it looked at is done again. Of a map whose list stays, only the
    elements that did not succeed are done again. Raises Invalid when there is no step `start`.
    """
    by_name = {step.name: step for step in steps}
    if start and start not in by_name:
        raise Invalid(f"The run has no step {start!r}.", where="start", hint="Its steps: " + ", ".join(plan.steps) + ".")
    first = start.partition("[")[0]
    forced = {first, *plan.below(first)} if first else set[str]()
    repeated: set[str] = set()
    again: list[StepRun] = []
    elements: list[StepRun] = []
    for name in graph.order(plan.spec.steps):
        step, spec = by_name[name], plan.steps[name]
        above = [parent for parent in graph.parents(spec) if parent in repeated]
        is_kept = step.state == "succeeded" or (step.state == "skipped" and not above)
        if is_kept and name not in forced:
            continue
        repeated.add(name)
        made = replace(renewed(step, at_ms), waits=len(above), **graph.asked(spec, queues))
        own = [each for each in steps if each.parent_id == step.id]
        if spec.kind in ("map", "sweep") and own and not above and start != name:
            todo = [each for each in own if not _is_done(spec, each) or each.name == start]
            for each in todo:
                again_spec = graph.element(spec, each.item, plan.maps) if spec.kind == "map" else each.spec
                elements.append(replace(renewed(each, at_ms), waits=0, spec=again_spec, **graph.asked(spec, queues)))
            held = 1 if spec.kind == "sweep" else 0  # a sweep that may still make trials waits for itself: sweeps.py
            made = replace(
                made, state="running", waits=len(todo) + held, started_at_ms=step.started_at_ms, reason=step.reason
            )
        again.append(made)
    return again, elements


def _is_done(spec: StepSpec, element: StepRun) -> bool:
    """Is this element kept? Also a trial that was given up: it would be again."""
    return element.state == "succeeded" or (spec.kind == "sweep" and element.state == "skipped")
