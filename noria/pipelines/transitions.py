"""How a run moves: every transition of its steps, inside a transaction that holds the run.

A step begins when it waits for nothing: it goes on the queue, takes its result from the cache, becomes the elements of a map,
asks people, or is passed over because a condition does not hold. Whatever it does, it ends through `_end`, and what waited for
it begins.

Invariants: each transition writes its fact in the same transaction; only the children of what ended are touched; a step that
succeeded never runs again unless somebody says so; nothing begins while the run is paused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.kernel.db import Read, Write, js
from noria.kernel.errors import Invalid
from noria.kernel.ids import Ref, new_id
from noria.pipelines import attempt_store, cache_store, conditions, graph, run_store, step_store, sweep_store
from noria.pipelines.asking import Asker
from noria.pipelines.graph import Plan
from noria.pipelines.model.conditions import Test, Truth
from noria.pipelines.model.limits import LOST_MAX, RETRY_DELAY_MAX_S, STEPS_MAX
from noria.pipelines.model.runs import RUN_ENDED, PipelineRun
from noria.pipelines.model.sources import FromStep
from noria.pipelines.model.spec import Answer, StepSpec
from noria.pipelines.model.steps import StepRun, StepState
from noria.pipelines.model.values import Json, Named, Value
from noria.pipelines.model.work import Finish
from noria.pipelines.space import best

_POORLY = (("pruned", "given up"), ("failed", "without a number"))
Moved = tuple[PipelineRun, list[StepRun]]  # the run, and the steps that wait for nothing any more


class Transitions:
    """See the module."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    # --- beginning --------------------------------------------------------------------------------------------------

    def make_ready(self, tx: Write, run: PipelineRun, plan: Plan, steps: list[StepRun]) -> PipelineRun:
        """Begin steps that wait for nothing, then what waits for nothing after them. While the run is paused, or waits for
        other runs, they stay."""
        queue = list(steps)
        while queue and not run.is_paused and run.state not in ("cancelling", "waiting"):
            run, more = self._begin(tx, run, plan, queue.pop(0))
            queue += more
        return run

    def _begin(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun) -> Moved:
        spec = plan.spec_of(step)
        try:
            if step.name in plan.conditional and (reason := self._why_passed_over(tx, run, plan, spec)):
                return self._pass_over(tx, run, plan, step, reason)
            if spec.kind == "map":
                return self._expand(tx, run, plan, step, spec)
            if spec.kind == "sweep":
                return self._begin_sweep(tx, run, step, spec)
            if spec.kind == "approve":
                return self._ask(tx, run, step, spec)
        except Invalid as error:
            return self._fail(tx, run, plan, step, error.message)
        if spec.cache_s is not None:
            found, step = self._look_up(tx, run, step, spec)
            if found:
                return self._take_cached(tx, run, plan, step, found)
        step_store.save_step(tx, replace(step, state="ready"))
        return run, []

    def _why_passed_over(self, tx: Read, run: PipelineRun, plan: Plan, spec: StepSpec) -> str:
        """Why this step is not to run; empty when it is. Its own conditions are judged in the order they were written."""
        known = step_store.results(tx, run.id, graph.parents(spec))
        for test in spec.when:
            for source in conditions.sources(test):
                if step := conditions.missing(source, known.absent):
                    return f"Its condition {conditions.name(test)} looks at {step}, which was passed over."

            def look(source: Any) -> Value:
                return graph.resolve(source, run.params, known.values, known.absent)

            if not conditions.holds(test, look):
                return self._said_no(plan, known, test) or f"{conditions.why_not(test, look)}."
        for source in spec.inputs.values():
            if step := conditions.missing(source, known.absent):
                return f"It uses what {step} would have returned, which was passed over."
        return ""

    def _said_no(self, plan: Plan, known: step_store.Results, test: Test) -> str:
        """The reason when the condition is that people agreed: what they said."""
        if not isinstance(test, Truth) or not isinstance(test.value, FromStep):
            return ""
        asked = plan.steps.get(test.value.step)
        if asked is None or asked.question is None or test.value.path != ["approved"]:
            return ""
        return f"{asked.name} was not approved. {known.reasons.get(asked.name, '')}".strip()

    def _pass_over(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, reason: str) -> Moved:
        tx.emit("step_run.skipped", Ref("step_run", step.id), run_id=run.id, step=step.name, reason=reason)
        return self._end(tx, run, plan, replace(step, reason=reason), "skipped")

    def _expand(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, spec: StepSpec) -> Moved:
        """The lists of a map are there: one step for each item, in this transaction. Raises Invalid."""
        assert tx.op is not None
        count = graph.lengths(spec, self.inputs(tx, run, spec))
        kept = {
            each.item: each for each in step_store.elements(tx, step.id)
        }  # of an earlier time; run again under their ids
        others = step_store.steps_count(tx, run.id) - len(kept)
        if others + count > STEPS_MAX:
            raise Invalid(
                f"{step.name} would become {count} steps; a run has at most {STEPS_MAX}, and this one has {others} already. "
                "Let each step do several items."
            )
        made = [self._element(tx.op.at_ms, step, graph.element(spec, i, plan.maps), i, kept.get(i)) for i in range(count)]
        step_store.remove_steps(tx, [each.id for i, each in kept.items() if i >= count])
        step_store.put_elements(tx, made)
        tx.emit("step_run.expanded", Ref("step_run", step.id), run_id=run.id, step=step.name, count=count)
        step = replace(
            step, state="running", waits=count, started_at_ms=step.started_at_ms or tx.op.at_ms,
            reason=f"It became {count} step{'' if count == 1 else 's'}.",
        )  # fmt: skip
        step_store.save_step(tx, step)
        run = replace(run, remaining=run.remaining + count)
        if not count:
            return self._end(tx, run, plan, step, "succeeded")
        return run, [each for each in made if each.state == "waiting"]

    def _element(self, at_ms: int, step: StepRun, spec: StepSpec, item: int, before: StepRun | None) -> StepRun:
        base = before or StepRun(
            id=new_id(at_ms), run_id=step.run_id, name=spec.name, position=step.position, state="waiting", waits=0, attempt=0,
            parent_id=step.id, item=item, owner=step.owner, pipeline=step.pipeline,
        )  # fmt: skip
        state: StepState = "ready" if spec.cache_s is None else "waiting"  # a cached one is looked up as it begins
        return replace(renewed(base, at_ms), state=state, spec=spec, **{**graph.asked(spec, {}), "queue": step.queue})

    def _begin_sweep(self, tx: Write, run: PipelineRun, step: StepRun, spec: StepSpec) -> Moved:
        """A sweep runs from here on. `sweeps.py` makes its trials; until it has made the last, the sweep waits for itself.

        Raises Invalid when the run has no room for them.
        """
        assert tx.op is not None and spec.sweep is not None
        old = step_store.elements(tx, step.id)
        others = step_store.steps_count(tx, run.id) - len(old)
        if others + spec.sweep.trials > STEPS_MAX:
            raise Invalid(
                f"{step.name} makes {spec.sweep.trials} trials; a run has at most {STEPS_MAX} steps, and this one has {others} others."
            )
        step_store.remove_steps(tx, [each.id for each in old])
        step_store.save_step(tx, replace(step, state="running", waits=1, started_at_ms=tx.op.at_ms))
        tx.emit("step_run.expanded", Ref("step_run", step.id), run_id=run.id, step=step.name, count=0)
        return run, []

    def add_trials(
        self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, made: int, params: list[dict[str, Any]]
    ) -> PipelineRun:
        """More trials of a sweep, after `made`."""
        assert tx.op is not None
        spec, numbers = plan.spec_of(step), range(made, made + len(params))
        trials = [
            self._element(tx.op.at_ms, step, graph.trial(spec, number, found), number, None)
            for number, found in zip(numbers, params, strict=True)
        ]
        step_store.put_elements(tx, trials)
        step_store.save_step(tx, replace(step, waits=step.waits + len(trials)))
        tx.emit("step_run.tried", Ref("step_run", step.id), run_id=run.id, step=step.name, trials=list(numbers))
        run = replace(run, remaining=run.remaining + len(trials))
        return self.make_ready(tx, run, plan, [each for each in trials if each.state == "waiting"])

    def release(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun) -> PipelineRun:
        """A sweep makes no more trials: it ends with the last of those there are."""
        run, children = self._one_less(tx, run, plan, step)
        return self.make_ready(tx, run, plan, children)

    def _ask(self, tx: Write, run: PipelineRun, step: StepRun, spec: StepSpec) -> Moved:
        """Put the question to people. Raises Invalid when the evidence cannot be shown."""
        assert tx.op is not None and spec.question is not None and spec.timeout_s is not None
        evidence = {name: graph.plain(value) for name, value in self.inputs(tx, run, spec).items()}
        until_ms = tx.op.at_ms + int(spec.timeout_s * 1000)
        approval = self._asker.ask(
            tx, run, step, spec.question, evidence=evidence, until_ms=until_ms,
        )  # fmt: skip
        step_store.save_step(
            tx,
            replace(step, state="asking", approval_id=approval, due_at_ms=until_ms, started_at_ms=tx.op.at_ms,
                    reason="It waits for an answer."),
        )  # fmt: skip
        tx.emit(
            "step_run.asked", Ref("step_run", step.id), run_id=run.id, step=step.name, prompt=spec.question.prompt,
            approval=approval,
        )  # fmt: skip
        return run, []

    def answer_to(self, tx: Read, question_id: str) -> Answer | None:
        """What people said; None while they have not."""
        return self._asker.answer(tx, question_id)

    def answer(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, answer: Answer) -> PipelineRun:
        """People answered a question, or nobody did in time: it ended well either way, and says which."""
        outputs = Json({"approved": answer.approved, "by": answer.by, "comment": answer.comment})
        step = replace(step, outputs=outputs, reason=answer.reason)
        tx.emit(
            "step_run.answered", Ref("step_run", step.id), run_id=run.id, step=step.name, approved=answer.approved,
            reason=answer.reason,
        )  # fmt: skip
        run, children = self._end(tx, run, plan, step, "succeeded")
        return self.make_ready(tx, run, plan, children)

    # --- ending -----------------------------------------------------------------------------------------------------

    def end_step(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, done: Finish) -> PipelineRun:
        """An attempt ended; `done` says how."""
        assert tx.op is not None
        if done.outcome == "succeeded":
            return self._succeed(tx, run, plan, step, done.outputs)
        if done.outcome == "lost":  # also of a run that is to stop: the try has its fact
            return self.give_back(tx, run, plan, step, done.error)
        if run.state == "cancelling" or step.stop_by:
            return self.cancel_step(tx, run, plan, step)
        if done.outcome == "cancelled":  # nobody asked for it to be cancelled, so its worker is confused
            return self.give_back(tx, run, plan, step, done.error)
        if step.parent_id and (at_step := sweep_store.pruned_at(tx, step.id, step.attempt)) is not None:
            return self._prune(tx, run, plan, step, at_step)
        spec = plan.spec_of(step)
        step = replace(step, failures=step.failures + 1)
        if step.failures > spec.retries:
            return self.fail_for_good(tx, run, plan, step, done.error)
        delay_s = min(RETRY_DELAY_MAX_S, spec.retry_delay_s * 2 ** (step.failures - 1))
        due_at_ms = tx.op.at_ms + int(delay_s * 1000)
        self._requeue(tx, run, replace(step, error=done.error, due_at_ms=due_at_ms))
        self.note(tx, step, f"attempt {step.attempt} failed; the next one starts in {delay_s:g} s")
        self._emit_failed(tx, run, step, done.error, will_retry=True)
        return run

    def _prune(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, at_step: int) -> PipelineRun:
        """A trial gave up, as it was told."""
        tx.emit("step_run.pruned", Ref("step_run", step.id), run_id=run.id, step=step.name, at_step=at_step)
        step = replace(step, reason=f"Given up at step {at_step}: worse than what other trials had reported by then.")
        run, children = self._end(tx, run, plan, step, "skipped")
        return self.make_ready(tx, run, plan, children)

    def _requeue(self, tx: Write, run: PipelineRun, step: StepRun) -> None:
        """Nobody holds the step any more, and it is to run again: now, or when its run goes on."""
        state: StepState = "waiting" if run.is_paused else "ready"
        step_store.save_step(tx, replace(step, state=state, worker="", lease_until_ms=None))

    def _succeed(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, outputs: Value | None) -> PipelineRun:
        if step.cache_key:
            self._remember(tx, run, plan, replace(step, outputs=outputs))
        run, children = self._end(tx, run, plan, replace(step, outputs=outputs, cached_from=""), "succeeded")
        return self.make_ready(tx, run, plan, children)

    def fail_for_good(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, error: str) -> PipelineRun:
        """The step failed; what depends on it is skipped, what does not goes on."""
        run, children = self._fail(tx, run, plan, step, error)
        return self.make_ready(tx, run, plan, children)

    def _fail(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, error: str) -> Moved:
        self._emit_failed(tx, run, step, error, will_retry=False)
        return self._end(tx, run, plan, replace(step, error=error), "failed")

    def cancel_step(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun) -> PipelineRun:
        """The step stops here, on request: of itself (`stop_by`), or of its run."""
        if step.state == "asking":
            self._asker.withdraw(tx, step.approval_id)
        run, children = self._end(tx, run, plan, step, "cancelled")
        return self.make_ready(tx, run, plan, children)

    def give_back(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, why: str = "") -> PipelineRun:
        """Its worker is gone, or says `why` it gives the step back: it is ready for another, unless it was to stop or loses all."""
        assert tx.op is not None
        tx.emit(
            "step_run.lost", Ref("step_run", step.id), run_id=run.id, step=step.name, attempt=step.attempt, worker=step.worker,
        )  # fmt: skip
        step = replace(step, losses=step.losses + 1)
        if run.state == "cancelling" or step.stop_by:
            return self.cancel_step(tx, run, plan, step)
        if step.losses >= LOST_MAX:
            error = f"Its worker vanished {step.losses} times; the step may be what stops it (memory?)."
            error = f"It was given back {step.losses} times; at last {why}" if why else error
            return self.fail_for_good(tx, run, plan, step, error)
        self.note(tx, step, f"{why or f'the worker {step.worker} is gone'}; another one takes the step")
        self._requeue(tx, run, replace(step, due_at_ms=tx.op.at_ms))
        return run

    def _end(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, state: StepState) -> Moved:
        """The one way a step ends: its row, its fact, and what follows for those that wait for it."""
        assert tx.op is not None
        step = replace(step, state=state, ended_at_ms=tx.op.at_ms, lease_until_ms=None)
        if state == "succeeded":
            step = replace(step, error="")
            tx.emit(
                "step_run.succeeded", Ref("step_run", step.id), run_id=run.id, step=step.name, attempt=step.attempt,
                cached_from=step.cached_from,
            )  # fmt: skip
        step_store.save_step(tx, step)
        run = replace(run, remaining=run.remaining - 1)
        if step.parent_id:
            return self._end_element(tx, run, plan, step)
        if state in ("succeeded", "skipped"):
            return run, step_store.count_down(tx, step.id)
        if run.state == "cancelling":
            return run, []
        word = "failed" if state == "failed" else f"was cancelled by {step.stop_by}"
        return self._skip_below(tx, run, plan, step, word), []

    def _end_element(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun) -> Moved:
        """The last element to end ends its map: well if all did, or if the map was told to keep going."""
        above = step_store.step(tx, step.parent_id)
        assert above is not None
        return self._one_less(tx, run, plan, above)

    def _one_less(self, tx: Write, run: PipelineRun, plan: Plan, above: StepRun) -> Moved:
        """A map or a sweep waits for one thing less."""
        above = replace(above, waits=above.waits - 1)
        if above.waits:
            step_store.save_step(tx, above)
            return run, []
        if run.state == "cancelling" or above.stop_by:
            return self._end(tx, run, plan, above, "cancelled")
        ended = step_store.elements(tx, above.id)
        if above.kind == "sweep":
            return self._end_sweep(tx, run, plan, above, ended)
        failed = [each for each in ended if each.state in ("failed", "cancelled")]
        above = replace(above, reads=sorted({ref for each in ended for ref in each.reads}))
        count = f"{len(failed)} of {len(ended)} elements did not succeed"
        if not failed:
            return self._end(tx, run, plan, above, "succeeded")
        if plan.spec_of(above).keep_going:
            return self._end(tx, run, plan, replace(above, reason=f"{count}; each of them gave None."), "succeeded")
        first = failed[0]
        why = first.error or f"cancelled by {first.stop_by}"
        return self._fail(tx, run, plan, above, f"{count}; {first.name}: {why}")

    def _end_sweep(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, ended: list[StepRun]) -> Moved:
        """The last trial ended: the sweep gives what the best one gave, and fails when none gave a number."""
        spec = plan.spec_of(step).sweep
        assert spec is not None
        trials = sweep_store.trials(tx, spec, ended)
        counts = Counter[str](trial.state for trial in trials)
        said = "".join(f", {counts[word]} {text}" for word, text in _POORLY if counts[word])
        said = f"{len(trials)} trial{'' if len(trials) == 1 else 's'}{said}"
        found = best(spec, trials)
        if found is None:
            named = f" for {spec.metric!r}" if spec.metric else ""
            first = next((each.error for each in ended if each.error), "")
            return self._fail(tx, run, plan, step, f"No trial gave a number{named}: {said}. {first}".strip())
        winner = next(each for each in ended if each.item == found.number)
        outputs = Named({
            "best": winner.outputs or Json(None), "params": Json(found.params), "value": Json(found.value),
            "trial": Json(found.number),
        })  # fmt: skip
        reason = f"Trial {found.number} was the best: {spec.metric or 'value'} {found.value:.6g}. {said}."
        step = replace(step, outputs=graph.simplify(outputs), reads=winner.reads, reason=reason)
        return self._end(tx, run, plan, step, "succeeded")

    def _skip_below(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, word: str) -> PipelineRun:
        """The step came to a bad end: what needs it is skipped, and the run will have failed."""
        assert tx.op is not None
        skipped = [
            other for other in step_store.named_steps(tx, run.id, sorted(plan.below(step.name))) if other.state == "waiting"
        ]
        for other in skipped:
            ended = replace(other, state="skipped", ended_at_ms=tx.op.at_ms, reason=f"{step.name} {word}.")
            step_store.save_step(tx, ended)
        text = f"Step {step.name} {word}" + (f": {step.error}" if step.state == "failed" else ".")
        return replace(run, remaining=run.remaining - len(skipped), error=run.error or text)

    def _emit_failed(self, tx: Write, run: PipelineRun, step: StepRun, error: str, *, will_retry: bool) -> None:
        tx.emit(
            "step_run.failed", Ref("step_run", step.id), run_id=run.id, step=step.name, attempt=step.attempt,
            error=error[:500], will_retry=will_retry,
        )  # fmt: skip

    # --- the cache --------------------------------------------------------------------------------------------------

    def _take_cached(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun, found: dict[str, Any]) -> Moved:
        source = step_store.step(tx, found["step_run_id"])
        outputs = msgspec.json.decode(found["outputs"], type=Value)
        step = replace(
            step, outputs=outputs, reads=source.reads if source else [], cached_from=found["step_run_id"],
        )  # fmt: skip
        self.link_reads(tx, run, step.reads)
        return self._end(tx, run, plan, step, "succeeded")

    def _look_up(self, tx: Write, run: PipelineRun, step: StepRun, spec: StepSpec) -> tuple[dict[str, Any] | None, StepRun]:
        """The cached result of a step, if there is one that counts; and the step with the reason."""
        assert tx.op is not None and spec.cache_s is not None
        try:
            inputs = self.inputs(tx, run, spec)
        except Invalid:
            return None, step  # the claim fails it, with the reason
        key = graph.cache_key(run.pipeline, spec, inputs)
        found = cache_store.cached(tx, key.key)
        if found and spec.cache_s and tx.op.at_ms - int(found["created_at_ms"]) > spec.cache_s * 1000:
            found = None
        if found:
            return found, replace(
                step, cache_key=key.key, started_at_ms=tx.op.at_ms,
                reason=f"From the cache: the code and the inputs are those of step run {found['step_run_id']}.",
            )  # fmt: skip
        last = cache_store.last_cached(tx, run.pipeline, step.name)
        decoded = last and {"code": last["code"], "inputs": msgspec.json.decode(last["inputs"])}
        return None, replace(step, cache_key=key.key, reason=graph.why_not_cached(key, decoded))

    def _remember(self, tx: Write, run: PipelineRun, plan: Plan, step: StepRun) -> None:
        assert tx.op is not None
        spec = plan.spec_of(step)
        key = graph.cache_key(run.pipeline, spec, self.inputs(tx, run, spec))
        cache_store.add_cached(
            tx, key=key.key, pipeline=run.pipeline, step=step.name, step_run_id=step.id, outputs=js(step.outputs),
            code=key.code, inputs=js(key.inputs), at_ms=tx.op.at_ms,
        )  # fmt: skip

    # --- the run ----------------------------------------------------------------------------------------------------

    def inputs(self, tx: Read, run: PipelineRun, spec: StepSpec) -> dict[str, Value]:
        """What a step is given. Raises Invalid when a part that it names is not there."""
        known = step_store.results(tx, run.id, graph.parents(spec))
        return {
            name: graph.resolve(source, run.params, known.values, known.absent) for name, source in spec.inputs.items()
        }  # fmt: skip

    def settle(self, tx: Write, run: PipelineRun, plan: Plan) -> PipelineRun:
        """End the run when nothing of it remains; write its row either way."""
        assert tx.op is not None
        if run.remaining == 0 and run.state not in RUN_ENDED:
            run = self._end_run(tx, run, plan)
        run_store.save_run(tx, run)
        return run

    def _end_run(self, tx: Write, run: PipelineRun, plan: Plan) -> PipelineRun:
        assert tx.op is not None
        ref = run_ref(run)
        run = replace(
            run, ended_at_ms=tx.op.at_ms, started_at_ms=run.started_at_ms or tx.op.at_ms, is_paused=False
        )  # fmt: skip
        if run.state == "cancelling":
            tx.emit("pipeline_run.cancelled", ref, pipeline=run.pipeline)
            return replace(run, state="cancelled")
        if not run.error:
            sources = plan.spec.outputs
            names = {leaf.step for source in sources.values() for leaf in graph.leaves(source) if hasattr(leaf, "step")}
            known = step_store.results(tx, run.id, sorted(names))
            try:
                outputs = {
                    name: graph.resolve(source, run.params, known.values, known.absent) for name, source in sources.items()
                }
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
        attempt_store.append_log(tx, step.id, line, attempt=None, size_bytes=len(line.encode()))

    def link_reads(self, tx: Write, run: PipelineRun, reads: Iterable[str]) -> None:
        for text in sorted(set(reads)):
            ref = Ref.parse(text)
            if ref.kind in ("dataset_version", "model_version", "run"):
                tx.link(run_ref(run), "read", ref)


def run_ref(run: PipelineRun) -> Ref:
    return Ref("pipeline_run", run.id)


def lock_run(tx: Write, run_id: str) -> PipelineRun:
    """The run, held by this transaction until it ends."""
    run = run_store.lock_run(tx, run_id)
    assert run is not None, f"the pipeline run {run_id} vanished"
    return run


def renewed(step: StepRun, at_ms: int) -> StepRun:
    """The step as it was before it began; its tries and their output stay."""
    return replace(
        step, state="waiting", failures=0, losses=0, error="", reason="", ended_at_ms=None, started_at_ms=None,
        due_at_ms=at_ms, worker="", lease_until_ms=None, outputs=None, cached_from="", cache_key="", stop_by="", approval_id="",
        reads=[],
    )  # fmt: skip
