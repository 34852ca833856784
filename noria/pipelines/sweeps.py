"""Sweeps: trials are made as others end, judged by what they return or report, and given up when they fall behind.

A sweep is a step that waits for its trials and, until the last of them is made, for itself: `waits` is one more than the trials
that are open. Optuna is asked outside any transaction, from the trials as they were read; the transaction that adds trials
counts again, and does nothing when somebody else was quicker.
"""

from __future__ import annotations

import logging
import math

from noria.kernel.db import Database
from noria.kernel.errors import Conflict, Invalid, TooMuch
from noria.kernel.ids import Ref
from noria.kernel.op import Op, Ops
from noria.kernel.ticks import Ticks
from noria.pipelines import run_store, sampling, space, step_store, sweep_store
from noria.pipelines.graph import Plan
from noria.pipelines.model.steps import STEP_ENDED, StepRun
from noria.pipelines.model.sweeps import Report, Reported, Sweep, TrialView, Verdict
from noria.pipelines.service import Pipelines
from noria.pipelines.space import REPORTS_MAX, SweepSpec, Trial
from noria.pipelines.transitions import Transitions, lock_run, run_ref

log = logging.getLogger("noria.sweeps")
REPORTS_SHOWN = 200
VALUES_MAX = 20  # of one report
NAME_LENGTH_MAX = 250


class Sweeps:
    """A reconciler that makes trials, and what trials and pages ask."""

    name = "pipelines.sweeps"
    every_s = 2.0
    wake_on = frozenset({
        "step_run.expanded", "step_run.succeeded", "step_run.failed", "step_run.pruned", "step_run.skipped",
        "step_run.cancel_asked", "pipeline_run.cancel_asked", "pipeline_run.resumed", "pipeline_run.unpaused",
    })  # fmt: skip

    def __init__(self, db: Database, ops: Ops, ticks: Ticks, pipelines: Pipelines, transitions: Transitions) -> None:
        self._db, self._ops, self._ticks = db, ops, ticks
        self._pipelines, self._transitions = pipelines, transitions

    def reconcile(self) -> None:
        with self._db.read() as tx:
            found = sweep_store.under_way(tx)
        for step_id, run_id in found:
            while self._advance(step_id, run_id):
                pass

    def _advance(self, step_id: str, run_id: str) -> bool:
        """Make the trials that a sweep has room for, or let it end; False when there is nothing to do."""
        with self._db.read() as tx:
            run, step = run_store.run(tx, run_id), step_store.step(tx, step_id)
            if run is None or step is None or step.state != "running":
                return False
            elements = step_store.elements(tx, step_id)
            spec = self._spec(self._pipelines.plan(run), step)
            trials = sweep_store.trials(tx, spec, elements)
        is_open = sum(each.state not in STEP_ENDED for each in elements)
        if step.waits <= is_open:
            return False  # it was released
        params: list[dict[str, object]] | None = None
        error = ""
        if not (run.state == "cancelling" or step.stop_by or space.is_enough(spec, trials)):
            count = min(spec.parallel - is_open, spec.trials - len(trials))
            if run.is_paused or count <= 0:
                return False
            try:
                params = sampling.propose(spec, trials, count)
            except Invalid as cause:
                error = f"{cause.message} {cause.hint}".strip()
        op = self._pipelines.because(self._ops.system("pipelines"), run_id)
        with self._db.write(op) as tx:
            run = lock_run(tx, run_id)
            again = step_store.step(tx, step_id)
            if again is None or again.state != "running" or (run.is_paused and params):
                return False
            plan = self._pipelines.plan(run)
            now = step_store.elements(tx, step_id)
            if len(now) != len(elements) or again.waits <= sum(each.state not in STEP_ENDED for each in now):
                return True  # somebody was quicker; look again
            if error and not now:
                run = self._transitions.fail_for_good(tx, run, plan, again, error)
            elif params and run.state != "cancelling":
                run = self._transitions.add_trials(tx, run, plan, again, len(now), params)
            else:  # enough, stopped, or a grid without further points
                if error:
                    log.warning("the sweep %s makes no more trials: %s", step_id, error)
                    self._transitions.note(tx, again, f"no more trials: {error}")
                run = self._transitions.release(tx, run, plan, again)
            self._transitions.settle(tx, run, plan)
        return bool(params)

    def report(self, op: Op, step_run_id: str, report: Report) -> Verdict:
        """What a step says of itself while it works. Raises NotFound, Forbidden, Invalid, Conflict for a former attempt."""
        _check_report(report)
        step = self._pipelines.step_run(op, "pipeline.report", step_run_id)
        with self._db.read() as tx:
            run = run_store.run(tx, step.run_id)
            assert run is not None
            above = step_store.step(tx, step.parent_id) if step.parent_id else None
        if (step.state, step.attempt) != ("running", report.attempt):
            raise Conflict("This attempt has ended; its reports are not kept.", ref=Ref("step_run", step.id))
        with self._db.write(op, shared=True) as tx:
            if sweep_store.keep(tx, step_run_id, report, op.at_ms) > REPORTS_MAX:
                raise TooMuch(f"An attempt reports at most {REPORTS_MAX:,} times.", hint="Report every tenth step.")
            tx.after_commit(lambda: self._ticks.tick(Ref("step_run", step_run_id), {"report": report.step}))
            tx.after_commit(lambda: self._ticks.tick(run_ref(run), {"report": report.step}))
        if above is None or above.kind != "sweep":
            return Verdict()
        spec = self._spec(self._pipelines.plan(run), above)
        if not self._falls_behind(spec, above, step):
            return Verdict()
        with self._db.write(op, shared=True) as tx:
            sweep_store.prune(tx, step_run_id, report.attempt, report.step)
        return Verdict(prune=True, reason="It is worse than what other trials had reported by now.")

    def _falls_behind(self, spec: SweepSpec, above: StepRun, step: StepRun) -> bool:
        if spec.pruner == "none":
            return False
        with self._db.read() as tx:
            trials = sweep_store.trials(tx, spec, step_store.elements(tx, above.id))
        return sampling.should_prune(spec, trials, step.item)

    def sweep(self, op: Op, step_run_id: str) -> Sweep:
        """A sweep with its trials. Raises NotFound, Invalid for a step that is none."""
        step = self._pipelines.step_run(op, "pipeline.read", step_run_id)
        if step.kind != "sweep":
            raise Invalid(f"{step.name} is no sweep.", where="step")
        with self._db.read() as tx:
            run = run_store.run(tx, step.run_id)
            assert run is not None
            spec = self._spec(self._pipelines.plan(run), step)
            elements = step_store.elements(tx, step.id)
            trials = sweep_store.trials(tx, spec, elements)
        found = space.best(spec, trials)
        views = [_view(each, trial) for each, trial in zip(elements, trials, strict=True)]
        return Sweep(step=step, spec=spec, trials=views, best=found.number if found else None)

    def reported(self, op: Op, step_run_id: str) -> list[Reported]:
        """What a step has reported so far, by name; of any step, in a sweep or not. Raises NotFound, Forbidden."""
        step = self._pipelines.step_run(op, "pipeline.read", step_run_id)
        with self._db.read() as tx:
            found = sweep_store.reported(tx, step.id, step.attempt)
        return [Reported(name=name, points=_thinned(points)) for name, points in sorted(found.items())]

    def _spec(self, plan: Plan, step: StepRun) -> SweepSpec:
        found = plan.spec_of(step).sweep
        assert found is not None
        return found


def _check_report(report: Report) -> None:
    if not 0 <= report.step < 1 << 53:
        raise Invalid("A step is a whole number, at least 0.", where="step")
    if not 1 <= len(report.values) <= VALUES_MAX:
        raise Invalid(f"A report has between 1 and {VALUES_MAX} numbers.", where="values")
    for name, value in report.values.items():
        if not name or len(name) > NAME_LENGTH_MAX:
            raise Invalid(f"A number has a name of at most {NAME_LENGTH_MAX} characters.", where="values")
        if value is not None and not math.isfinite(value):
            raise Invalid("What is not finite is sent as null.", where="values")


def _view(step: StepRun, trial: Trial) -> TrialView:
    return TrialView(
        number=trial.number, step_run_id=step.id, state=step.state, outcome=trial.state, params=trial.params,
        value=trial.value, reports=_thinned(sorted(trial.reports.items())), reason=step.error or step.reason,
        started_at_ms=step.started_at_ms, ended_at_ms=step.ended_at_ms,
    )  # fmt: skip


def _thinned(points: list[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
    """Few enough to draw; the last one stays."""
    every = max(1, -(-len(points) // REPORTS_SHOWN))
    return points[::every] if not points or (len(points) - 1) % every == 0 else [*points[::every], points[-1]]
