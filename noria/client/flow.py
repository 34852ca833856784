"""What a pipeline's function says besides calling steps: conditions, choices, questions to people.

with noria.when(score["auc"] > 0.9):
    noria.approve("promote?", evidence=[score], to="approver", timeout="2d")
    register(model)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from noria.client.durations import seconds
from noria.client.tracing import Each, First, Output, condition, tracing
from noria.kernel.errors import Invalid
from noria.pipelines.conditions import source_name
from noria.pipelines.model.conditions import Truth
from noria.pipelines.model.sources import FromFirst, FromStep, Source
from noria.pipelines.model.spec import Question, StepSpec

_MISSING: Any = object()


@contextmanager
def when(test: Any) -> Iterator[None]:
    """Steps in the block run only if `test` holds once it is known; else they are passed over, with the reason.

    `test`: a comparison of outputs with values or each other (`score["auc"] > 0.9`), several joined with `&`, `|`, `~`, or an
    output itself, for its plain truth.
    """
    with tracing("noria.when").guarded(condition(test).test):
        yield


def choose(*outputs: Any, default: Any = _MISSING) -> Any:
    """The first of `outputs` whose step was not passed over; how branches come together again.

    Without `default`, what uses it is passed over when none is there.
    """
    trace = tracing("noria.choose")
    if not outputs or not all(isinstance(o, Output | First) for o in outputs):
        raise Invalid("noria.choose takes what steps return.", hint="For instance noria.choose(a, b, default=None).")
    has_default = default is not _MISSING
    items = [trace.source(output) for output in outputs]
    return First(FromFirst(items, default=default if has_default else None, has_default=has_default))


def each(values: Any) -> Each:
    """A list for `step.map`, given by name: `train.map(table=t, rate=noria.each([0.1, 0.2]))`."""
    return Each(values)


def approve(
    prompt: str, *, evidence: Any = (), to: str = "", timeout: str | float = "7d", required: int = 1, name: str = "approve"
) -> Output:  # fmt: skip
    """Ask people whether to go on. What the pipeline's function (or the `when` block around it) calls later waits for a yes.

    `evidence`: outputs to show, as a list or a dict. `to`: the role that may answer; by default whoever may decide on approvals.
    `timeout`: then it counts as no. `required`: how many different people have to agree.
    Returns the answer, `{"approved": ..., "by": [...], "comment": ...}`; after a no, what waits for it is passed over.
    """
    trace = tracing("noria.approve")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Invalid("An approval asks something.", hint='noria.approve("promote?")')
    inputs = {key: trace.source(value) for key, value in _evidence(evidence).items()}
    step = trace.name(name)
    trace.steps.append(
        StepSpec(
            name=step, kind="approve", inputs=inputs, description=prompt, timeout_s=seconds(timeout), when=list(trace.guards),
            question=Question(prompt=prompt, role=to, required=required),
        )
    )  # fmt: skip
    trace.guards.append(Truth(FromStep(step, ["approved"])))
    return Output(step, (), dict)


def _evidence(evidence: Any) -> dict[str, Any]:
    """Outputs by the name under which they are shown."""
    if isinstance(evidence, dict):
        return {str(key): value for key, value in evidence.items()}
    items = list(evidence) if isinstance(evidence, list | tuple) else [evidence]
    trace = tracing("noria.approve")
    found: dict[str, Any] = {}
    for i, item in enumerate(items):
        source: Source = trace.source(item)
        name = source_name(source) if isinstance(item, Output) else f"value {i + 1}"
        found[name if name not in found else f"{name} {i + 1}"] = item
    return found
