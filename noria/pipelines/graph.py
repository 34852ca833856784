"""A pipeline's graph as data: checks, parents, the values of a step's inputs, the cache key. Pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec
from blake3 import blake3
from msgspec import Struct
from msgspec.structs import replace

from noria.access.model import check_secret_name
from noria.kernel.errors import Invalid
from noria.kernel.ids import check_name
from noria.pipelines import conditions
from noria.pipelines.model.limits import (
    ANSWER_S_MAX,
    CONCURRENCY_MAX,
    PARAMS_BYTES_MAX,
    PROMPT_LENGTH_MAX,
    RETRIES_MAX,
    SECRETS_PER_STEP,
    STEPS_MAX,
)
from noria.pipelines.model.queues import DEFAULT_QUEUE
from noria.pipelines.model.sources import FromBlob, FromDict, FromFirst, FromList, FromParam, FromStep, FromValue, Source
from noria.pipelines.model.spec import RESERVED_NAMES, PipelineSpec, StepSpec
from noria.pipelines.model.steps import StepRun
from noria.pipelines.model.values import Json, Many, Named, Part, Pickle, Saved, Value
from noria.pipelines.space import SweepSpec, check_sweep

IMAGE_LENGTH_MAX = 500
_DIGEST = re.compile(r"^[0-9a-f]{64}\Z")
_PYTHON = re.compile(r"^3\.\d+(\.\d+)?\Z")
_PLACE = re.compile(r"\$\{(\w+)\}")
_FUNCTION = re.compile(r"^[\w.]+:[\w.]+\Z")


def check_spec(spec: PipelineSpec) -> None:
    """Raises Invalid when `spec` is not a pipeline that can run: unknown names, a cycle, numbers out of range."""
    check_name(spec.name, what="pipeline")
    if spec.name in RESERVED_NAMES:
        raise Invalid(f"A pipeline cannot be called {spec.name!r}.", where="name", hint="Pick another name.")
    if len(spec.steps) > STEPS_MAX:
        raise Invalid(f"The pipeline has {len(spec.steps)} steps; at most {STEPS_MAX} are allowed.", where="steps")
    if not _DIGEST.match(spec.code.archive_digest):
        raise Invalid("The code archive has no digest.", where="code")
    names = [step.name for step in spec.steps]
    if len(set(names)) != len(names):
        raise Invalid("Two steps have the same name.", where="steps")
    known = set(names)
    for step in spec.steps:
        _check_step(spec, step, known)
    for name, source in spec.outputs.items():
        _check_source(spec, source, known, where=f"outputs.{name}")
    _check_concurrency(spec)
    order(spec.steps)


def _check_concurrency(spec: PipelineSpec) -> None:
    if spec.concurrency is not None and not 1 <= spec.concurrency <= CONCURRENCY_MAX:
        raise Invalid(f"concurrency must be between 1 and {CONCURRENCY_MAX}.", where="concurrency")
    if spec.concurrency is None and (spec.concurrency_key or spec.on_busy != "queue"):
        raise Invalid("concurrency_key and on_busy say nothing without concurrency.", where="concurrency")
    for name in _PLACE.findall(spec.concurrency_key):
        if name not in spec.params:
            raise Invalid(f"concurrency_key names the parameter {name!r}, which there is not.", where="concurrency_key")


def slot_of(spec: PipelineSpec, params: Mapping[str, Any]) -> str:
    """What a run with these parameters shares with those it may have to wait for; empty when there is no limit."""
    if spec.concurrency is None:
        return ""
    key = _PLACE.sub(lambda place: _text(params[place[1]]), spec.concurrency_key)
    return f"{spec.name}/{key}"[:500] if key else spec.name


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _check_step(spec: PipelineSpec, step: StepSpec, known: set[str]) -> None:
    where = f"steps.{step.name}"
    if not step.name or len(step.name) > 200:
        raise Invalid("A step needs a name of at most 200 characters.", where="steps")
    if "[" in step.name or "]" in step.name:
        raise Invalid("A step's name has no brackets: they name the elements of a map.", where=where)
    _check_kind(step, where)
    if not 0 <= step.retries <= RETRIES_MAX:
        raise Invalid(f"retries is {step.retries}; it must be between 0 and {RETRIES_MAX}.", where=where)
    if step.timeout_s is not None and not 0 < step.timeout_s < math.inf:
        raise Invalid("A timeout is a positive number of seconds.", where=where)
    check_name(step.queue, what="queue")
    if len(step.secrets) > SECRETS_PER_STEP:
        raise Invalid(f"A step gets at most {SECRETS_PER_STEP} secrets.", where=where)
    for name in step.secrets:
        check_secret_name(name, where=where)
    if step.env and not (_DIGEST.match(step.env.lock_digest) and _PYTHON.match(step.env.python)):
        raise Invalid("An environment has the digest of its lock, and a version of Python.", where=where)
    if len(step.image) > IMAGE_LENGTH_MAX or any(sign.isspace() for sign in step.image):
        raise Invalid("image is the address of a container image, such as ghcr.io/acme/train:3.", where=where)
    if not (0 <= step.cpu < math.inf and step.gpu >= 0 and step.memory_bytes >= 0 and step.disk_bytes >= 0):
        raise Invalid("cpu, gpu, memory and disk must not be negative.", where=where)
    if not 0 <= step.retry_delay_s <= 3600:
        raise Invalid("retry_delay_s must be between 0 and 3600.", where=where)
    if step.cache_s is not None and not 0 <= step.cache_s < math.inf:
        raise Invalid("cache_s must not be negative.", where=where)
    for name in step.after:
        if name not in known:
            raise Invalid(f"Step {step.name} waits for {name!r}, which is no step.", where=where)
    for name, source in step.inputs.items():
        _check_source(spec, source, known, where=f"{where}.inputs.{name}")
    for test in step.when:
        for source in conditions.sources(test):
            _check_source(spec, source, known, where=f"{where}.when")


def _check_kind(step: StepSpec, where: str) -> None:
    if step.kind == "approve":
        if step.question is None or not 0 < len(step.question.prompt) <= PROMPT_LENGTH_MAX:
            raise Invalid(f"An approval step asks something, in at most {PROMPT_LENGTH_MAX} characters.", where=where)
        if step.timeout_s is None or step.timeout_s > ANSWER_S_MAX:
            raise Invalid(f"An approval step waits for at most {ANSWER_S_MAX // 86_400} days.", where=where)
    elif not _FUNCTION.match(step.function):
        raise Invalid(f"{step.function!r} does not name a function as module:name.", where=where)
    if (step.kind == "map") != bool(step.each) or not set(step.each) <= set(step.inputs):
        raise Invalid("A map names the inputs that it is spread over.", where=where)
    if (step.kind == "sweep") != (step.sweep is not None):
        raise Invalid("A sweep says what it searches.", where=where)
    if step.sweep is not None:
        check_sweep(step.sweep, set(step.inputs), where)
    if any(conditions.depth(test) > conditions.DEPTH_MAX for test in step.when):
        raise Invalid(f"A condition is nested at most {conditions.DEPTH_MAX} deep.", where=where)


def _check_source(spec: PipelineSpec, source: Source, known: set[str], *, where: str) -> None:
    for leaf in leaves(source):
        if isinstance(leaf, FromStep) and leaf.step not in known:
            raise Invalid(f"There is no step {leaf.step!r}.", where=where)
        if isinstance(leaf, FromParam) and leaf.name not in spec.params:
            raise Invalid(f"There is no parameter {leaf.name!r}.", where=where)
        if isinstance(leaf, FromBlob) and not _DIGEST.match(leaf.digest):
            raise Invalid("A value has no digest.", where=where)


def leaves(source: Source) -> Iterator[FromParam | FromStep | FromValue | FromBlob]:
    """Every leaf of a nested source."""
    if isinstance(source, FromList | FromFirst):
        for item in source.items:
            yield from leaves(item)
    elif isinstance(source, FromDict):
        for item in source.items.values():
            yield from leaves(item)
    else:
        yield source


def parents(step: StepSpec) -> list[str]:
    """The steps that have to end before `step` may start, each once, in the order they are named."""
    looked_at = [source for test in step.when for source in conditions.sources(test)]
    found = [leaf.step for s in (*step.inputs.values(), *looked_at) for leaf in leaves(s) if isinstance(leaf, FromStep)]
    return list(dict.fromkeys([*found, *step.after]))


def order(steps: list[StepSpec]) -> list[str]:
    """The names so that every step comes after its parents. Raises Invalid for a cycle."""
    waits = {step.name: len(parents(step)) for step in steps}
    children: dict[str, list[str]] = {step.name: [] for step in steps}
    for step in steps:
        for parent in parents(step):
            children[parent].append(step.name)
    ready, ordered = [name for name, count in waits.items() if not count], list[str]()
    while ready:
        name = ready.pop(0)
        ordered.append(name)
        for child in children[name]:
            waits[child] -= 1
            if not waits[child]:
                ready.append(child)
    if len(ordered) != len(steps):
        raise Invalid(f"The steps wait for each other in a circle: {sorted(set(waits) - set(ordered))}.", where="steps")
    return ordered


def descendants(steps: list[StepSpec], name: str) -> set[str]:
    """Every step that waits for `name`, directly or not."""
    found = {name}
    by_name = {step.name: step for step in steps}
    for other in order(steps):
        if other not in found and found.intersection(parents(by_name[other])):
            found.add(other)
    return found - {name}


def shape(spec: PipelineSpec) -> dict[str, tuple[str, ...]]:
    """Steps, what they are and what they wait for; a run may go on with another version when this is the same."""
    return {step.name: (step.kind, *sorted(parents(step))) for step in spec.steps}


def asked(step: StepSpec, queues: Mapping[str, str]) -> dict[str, Any]:
    """What a step needs of the worker that takes it. `queues`: where its run sends it instead of where its code does."""
    queue = queues.get(step.name.partition("[")[0]) or (queues.get("*") if step.queue == DEFAULT_QUEUE else "")
    return {"queue": queue or step.queue, "cpu": step.cpu, "gpu": step.gpu, "memory_bytes": step.memory_bytes}


def check_queues(spec: PipelineSpec, queues: Mapping[str, str]) -> None:
    """Raises Invalid when one is for a step that there is not, or has no good name."""
    for step, queue in queues.items():
        if step != "*" and step not in {each.name for each in spec.steps}:
            known = ", ".join(each.name for each in spec.steps)
            raise Invalid(
                f"{spec.name} has no step {step!r} to send to the queue {queue!r}.",
                where="queues",
                hint=f"Its steps: {known}.",
            )
        check_name(queue, what="queue")


def conditional(spec: PipelineSpec) -> frozenset[str]:
    """The steps that may be passed over, and those that may have to do without what such a step returns."""
    found: set[str] = set()
    by_name = {step.name: step for step in spec.steps}
    for name in order(spec.steps):
        if by_name[name].when or found.intersection(parents(by_name[name])):
            found.add(name)
    return frozenset(found)


# --- maps -----------------------------------------------------------------------------------------------------------------


def lengths(step: StepSpec, inputs: Mapping[str, Value]) -> int:
    """How many elements a map has. Raises Invalid when an input is no list, or two have different lengths."""
    found = {name: _length(step.name, name, inputs[name]) for name in step.each}
    if len(set(found.values())) > 1:
        said = ", ".join(f"{name} has {count}" for name, count in found.items())
        raise Invalid(f"{step.name} is spread over lists of different lengths: {said}.")
    return next(iter(found.values()))


def _length(step: str, name: str, value: Value) -> int:
    if isinstance(value, Json) and isinstance(value.value, list):
        return len(value.value)
    if isinstance(value, Many):
        return len(value.items)
    if isinstance(value, Pickle) and value.length is not None:
        return value.length
    if isinstance(value, Part):
        raise Invalid(
            f"{step} cannot be spread over {name}: it lies inside a stored {value.value.type or 'value'}.",
            hint="Return the list itself, or in a tuple or dict.",
        )
    kind = type(value.value).__name__ if isinstance(value, Json) else getattr(value, "type", "dict")
    raise Invalid(f"{step} is spread over {name}, which is no list but of type {kind}.")


def element(step: StepSpec, index: int, maps: Collection[str]) -> StepSpec:
    """The step for item `index` of a map. `maps`: the steps that are maps themselves, whose elements are steps too."""
    inputs = {
        name: _item(source, index, maps) if name in step.each else source for name, source in step.inputs.items()
    }  # fmt: skip
    return replace(
        step, name=f"{step.name}[{index}]", kind="call", each=[], keep_going=False, when=[], after=[], inputs=inputs
    )


def trial(step: StepSpec, number: int, params: Mapping[str, Any]) -> StepSpec:
    """The step for one trial of a sweep."""
    inputs = {**step.inputs, **{name: FromValue(value) for name, value in params.items()}}
    return replace(step, name=f"{step.name}[{number}]", kind="call", sweep=None, when=[], after=[], inputs=inputs)


def trial_params(step: StepSpec, sweep: SweepSpec) -> dict[str, Any]:
    """The parameters that a trial was made with."""
    found = {name: step.inputs[name] for name in sweep.space}
    return {name: source.value for name, source in found.items() if isinstance(source, FromValue)}


def metric(value: Value | None, name: str) -> float | None:
    """The number that a trial is judged by, in what it returned; None when there is none."""
    if name and isinstance(value, Named):
        value = value.items.get(name)
    elif name and isinstance(value, Json):
        value = Json(value.value.get(name)) if isinstance(value.value, dict) else None
    found = value.value if isinstance(value, Json) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return float(found)


def _item(source: Source, index: int, maps: Collection[str]) -> Source:
    if isinstance(source, FromStep):
        if not source.path and source.step in maps:
            return FromStep(f"{source.step}[{index}]")
        return FromStep(source.step, [*source.path, index])
    if isinstance(source, FromParam):
        return FromParam(source.name, [*source.path, index])
    if isinstance(source, FromValue):
        return FromValue(source.value[index])
    if isinstance(source, FromList):
        return source.items[index]
    if isinstance(source, FromFirst):
        return FromFirst([_item(item, index, maps) for item in source.items])
    raise Invalid("A map is spread over lists.")


def bind_params(spec: PipelineSpec, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run with defaults filled in. Raises Invalid for one that is unknown, missing or cannot change."""
    if len(msgspec.json.encode(params)) > PARAMS_BYTES_MAX:
        raise Invalid("The parameters are too large.", where="params", hint="Pass a dataset's name instead of its rows.")
    for name in params:
        if name not in spec.params:
            known = ", ".join(spec.params) or "none"
            raise Invalid(f"{spec.name} has no parameter {name!r}.", where="params", hint=f"Its parameters: {known}.")
    bound = {}
    for name, declared in spec.params.items():
        if name in params:
            bound[name] = params[name]
        elif declared.required:
            raise Invalid(f"{spec.name} needs the parameter {name!r}.", where="params")
        else:
            bound[name] = declared.default
    for name, value in spec.fixed.items():
        if bound.get(name) != value:
            raise Invalid(
                f"The parameter {name!r} shapes the graph of {spec.name}, which was registered with {value!r}.",
                where="params",
                hint="Submit it from Python or with: noria pipeline run FILE --param; that registers the other shape.",
            )
    return bound


def resolve(
    source: Source, params: Mapping[str, Any], outputs: Mapping[str, Value | None], absent: Collection[str] = ()
) -> Value:
    """The value of an input, once its parents have ended. `outputs` is by step name; what `absent` steps would give is None."""
    if isinstance(source, FromParam):
        return pick(Json(params[source.name]), source.path, step=f"the parameter {source.name}")
    if isinstance(source, FromValue):
        return Json(source.value)
    if isinstance(source, FromBlob):
        return source.saved or Pickle(source.digest, source.size_bytes)
    if isinstance(source, FromList):
        return simplify(Many([resolve(item, params, outputs, absent) for item in source.items]))
    if isinstance(source, FromDict):
        return simplify(Named({key: resolve(item, params, outputs, absent) for key, item in source.items.items()}))
    if isinstance(source, FromFirst):
        there = next((item for item in source.items if not conditions.missing(item, absent)), None)
        return Json(source.default) if there is None else resolve(there, params, outputs, absent)
    if source.step in absent:
        return Json(None)
    value = outputs.get(source.step)
    return pick(value if value is not None else Json(None), source.path, step=source.step)


def pick(value: Value, path: list[str | int], *, step: str = "") -> Value:
    """The part of `value` at `path`. Raises Invalid when it is not there; what lies in a blob is looked up by the step."""
    for at, key in enumerate(path):
        if isinstance(value, Pickle | Saved):
            return Part(value, path[at:])
        if isinstance(value, Part):
            return Part(value.value, [*value.path, *path[at:]])
        try:
            if isinstance(value, Many):
                value = value.items[int(key)]
            elif isinstance(value, Named):
                value = value.items[str(key)]
            else:
                value = Json(value.value[key])
        except (KeyError, IndexError, TypeError, ValueError) as cause:
            raise Invalid(f"What {step or 'the step'} returned has no part {key!r}.", where=step) from cause
    return value


def simplify(value: Value) -> Value:
    """A list or dict of plain values is a plain value itself."""
    if isinstance(value, Many) and value.kind == "list" and all(isinstance(item, Json) for item in value.items):
        return Json([item.value for item in value.items if isinstance(item, Json)])
    if isinstance(value, Named) and all(isinstance(item, Json) for item in value.items.values()):
        return Json({key: item.value for key, item in value.items.items() if isinstance(item, Json)})
    return value


def plain(value: Value | None) -> Any:
    """A value as a person reads it: JSON as it is, anything stored by type and digest."""
    if value is None:
        return None
    if isinstance(value, Json):
        return value.value
    if isinstance(value, Many):
        return [plain(item) for item in value.items]
    if isinstance(value, Named):
        return {key: plain(item) for key, item in value.items.items()}
    kept = value.value if isinstance(value, Part) else value
    return {"type": kept.type, "digest": kept.digest, "size_bytes": kept.size_bytes}


class CacheKey(Struct, frozen=True):
    """What decides whether a step's earlier result can be taken: its code, and each input."""

    key: str
    code: str
    inputs: dict[str, str]


def cache_key(pipeline: str, step: StepSpec, inputs: Mapping[str, Value]) -> CacheKey:
    """The key of a step's result. The same function with the same inputs has the same key in any run of the pipeline."""
    digests = {name: _digest(value) for name, value in sorted(inputs.items()) if name not in step.cache_ignore}
    code = "+".join(filter(None, (step.code_digest, step.env.lock_digest if step.env else "", step.image)))
    text = msgspec.json.encode([pipeline, step.function, code, digests], order="sorted")
    return CacheKey(blake3(text).hexdigest(), code, digests)


def why_not_cached(key: CacheKey, last: Mapping[str, Any] | None) -> str:
    """One sentence: how this key differs from the last result of the same step."""
    if last is None:
        return "It has no earlier result."
    if last["code"] != key.code:
        is_same_code = str(last["code"]).partition("+")[0] == key.code.partition("+")[0]
        return f"Its {'environment' if is_same_code else 'code'} changed since its last result."
    before: Mapping[str, str] = last["inputs"]
    for name, digest in key.inputs.items():
        if before.get(name) != digest:
            return f"Its input {name!r} differs from that of its last result."
    return "Its last result is too old."


def _digest(value: Value) -> str:
    return blake3(msgspec.json.encode(_identity(value), order="sorted")).hexdigest()[:32]


def _identity(value: Value) -> Any:
    if isinstance(value, Json):
        return ["json", value.value]
    if isinstance(value, Pickle):
        return ["pickle", value.digest]
    if isinstance(value, Saved):  # the same bytes are another value to another materialiser, or under another name
        return ["saved", value.materialiser, value.version, value.name, value.digest]
    if isinstance(value, Part):
        return ["part", value.value.digest if isinstance(value.value, Pickle) else _identity(value.value), value.path]
    if isinstance(value, Many):
        return [value.kind, [_identity(item) for item in value.items]]
    return ["named", {key: _identity(item) for key, item in value.items.items()}]


class Plan:
    """A pipeline's spec, ready to be asked: steps by name, which are maps, which may be passed over, what rests on what."""

    def __init__(self, spec: PipelineSpec) -> None:
        self.spec = spec
        self.steps = {step.name: step for step in spec.steps}
        self.maps = frozenset(step.name for step in spec.steps if step.kind == "map")
        self.conditional = conditional(spec)

    def spec_of(self, step: StepRun) -> StepSpec:
        """The spec of a step run, also of one that was made at run time."""
        return step.spec or self.steps[step.name]

    def below(self, name: str) -> set[str]:
        """Every step that waits for `name`, directly or not."""
        return descendants(self.spec.steps, name)
