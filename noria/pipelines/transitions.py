"""How a run moves: every transition of its steps, inside a transaction that holds the run.

Invariants: each transition writes its fact in the same transaction; only the children of what ended are touched; a step that
succeeded never runs again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.kernel.db import Read, Write, js
from noria.kernel.errors import Invalid
from noria.kernel.ids import Ref
from noria.pipelines import graph, store
from noria.pipelines.model import (
    LOST_MAX,
    RETRY_DELAY_MAX_S,
    RUN_ENDED,
    Finish,
    PipelineRun,
    PipelineSpec,
    StepRun,
    StepSpec,
    Value,
)


class Transitions:
    """See the module."""

    def end_step(self, tx: Write, run: PipelineRun, spec: PipelineSpec, step: StepRun, done: Finish) -> PipelineRun:
        assert tx.op is not None
        if done.outcome == "succeeded":
            return self._succeed(tx, run, spec, step, done.outputs)
        if done.outcome == "lost":
            return self.give_back(tx, run, spec, step)
        if run.state == "cancelling" or done.outcome == "cancelled":
            store.save_step(tx, _ended(step, "cancelled", tx.op.at_ms))
            return replace(run, remaining=run.remaining - 1)
        step_spec = step_spec_of(spec, step.name)
        step = replace(step, failures=step.failures + 1)
        if step.failures > step_spec.retries:
            return self.fail_for_good(tx, run, spec, step, done.error)
        delay_s = min(RETRY_DELAY_MAX_S, step_spec.retry_delay_s * 2 ** (step.failures - 1))
        store.save_step(
            tx,
            replace(
                step, state="ready", due_at_ms=tx.op.at_ms + int(delay_s * 1000), worker="", lease_until_ms=None,
                error=done.error,
            ),
        )  # fmt: skip
        self.note(tx, step, f"attempt {step.attempt} failed; the next one starts in {delay_s:g} s")
        self._emit_failed(tx, run, step, done.error, will_retry=True)
        return run

    def _succeed(self, tx: Write, run: PipelineRun, spec: PipelineSpec, step: StepRun, outputs: Value | None) -> PipelineRun:
        run, children = self._record(tx, run, step, outputs)
        if step.cache_key:
            self._remember(tx, run, spec, replace(step, outputs=outputs))
        return run if run.state == "cancelling" else self.make_ready(tx, run, spec, children)

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

    def make_ready(self, tx: Write, run: PipelineRun, spec: PipelineSpec, steps: list[StepRun]) -> PipelineRun:
        """Put steps that wait for nothing on the queue, or take their results from the cache; then their children."""
        queue = list(steps)
        while queue:
            step = queue.pop(0)
            step_spec = step_spec_of(spec, step.name)
            found = None
            if step_spec.cache_s is not None:
                found, step = self._look_up(tx, run, step, step_spec)
            if found is None:
                store.save_step(tx, replace(step, state="ready"))
                continue
            outputs = msgspec.json.decode(found["outputs"], type=Value)
            source = store.step(tx, found["step_run_id"])
            step = replace(step, reads=source.reads if source else [])
            self.link_reads(tx, run, step.reads)
            run, children = self._record(tx, run, step, outputs, cached_from=found["step_run_id"])
            queue += children
        return run

    def _look_up(
        self, tx: Write, run: PipelineRun, step: StepRun, step_spec: StepSpec
    ) -> tuple[dict[str, Any] | None, StepRun]:
        """The cached result of a step, if there is one that counts; and the step with the reason."""
        assert tx.op is not None and step_spec.cache_s is not None
        try:
            inputs = self.inputs(tx, run, step_spec)
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
        step_spec = step_spec_of(spec, step.name)
        key = graph.cache_key(run.pipeline, step_spec, self.inputs(tx, run, step_spec))
        store.add_cached(
            tx, key=key.key, pipeline=run.pipeline, step=step.name, step_run_id=step.id, outputs=js(step.outputs),
            code=key.code, inputs=js(key.inputs), at_ms=tx.op.at_ms,
        )  # fmt: skip

    def inputs(self, tx: Read, run: PipelineRun, step: StepSpec) -> dict[str, Value]:
        outputs = store.outputs(tx, run.id, graph.parents(step))
        return {name: graph.resolve(source, run.params, outputs) for name, source in step.inputs.items()}

    def fail_for_good(self, tx: Write, run: PipelineRun, spec: PipelineSpec, step: StepRun, error: str) -> PipelineRun:
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

    def give_back(self, tx: Write, run: PipelineRun, spec: PipelineSpec, step: StepRun) -> PipelineRun:
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
            return self.fail_for_good(tx, run, spec, step, error)
        self.note(tx, step, f"the worker {step.worker} is gone; another one takes the step")
        store.save_step(tx, replace(step, state="ready", due_at_ms=tx.op.at_ms, worker="", lease_until_ms=None))
        return run

    def settle(self, tx: Write, run: PipelineRun, spec: PipelineSpec) -> PipelineRun:
        """End the run when nothing of it remains; write its row either way."""
        assert tx.op is not None
        if run.remaining == 0 and run.state not in RUN_ENDED:
            run = self._end_run(tx, run, spec)
        store.save_run(tx, run)
        return run

    def _end_run(self, tx: Write, run: PipelineRun, spec: PipelineSpec) -> PipelineRun:
        assert tx.op is not None
        ref, run = run_ref(run), replace(run, ended_at_ms=tx.op.at_ms, started_at_ms=run.started_at_ms or tx.op.at_ms)
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

    def note(self, tx: Write, step: StepRun, text: str) -> None:
        """A line of the scheduler in the step's output."""
        line = f"── {text} ──\n"
        store.append_log(tx, step.id, line, attempt=None, size_bytes=len(line.encode()))

    def link_reads(self, tx: Write, run: PipelineRun, reads: Iterable[str]) -> None:
        for text in sorted(set(reads)):
            ref = Ref.parse(text)
            if ref.kind in ("dataset_version", "model_version", "run"):
                tx.link(run_ref(run), "read", ref)


def run_ref(run: PipelineRun) -> Ref:
    return Ref("pipeline_run", run.id)


def step_spec_of(spec: PipelineSpec, name: str) -> StepSpec:
    return next(step for step in spec.steps if step.name == name)


def _ended(step: StepRun, state: Any, at_ms: int) -> StepRun:
    return replace(step, state=state, ended_at_ms=at_ms, lease_until_ms=None)
