"""Pipelines in plain Python: `@step` and `@pipeline`.

A pipeline's function is called once, when it is submitted, to see which steps call which: inside it, a step returns an
`Output`, a promise of what the step will return. Everywhere else a step is the plain function it decorates.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import math
import os
import re
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints, overload
from typing import ParamSpec as Signature

from blake3 import blake3

from noria.client.api import Api, connect
from noria.client.closure import closure_digest
from noria.client.environment import capture_code, environment
from noria.kernel.errors import Invalid, NoriaError
from noria.pipelines.model import (
    INLINE_BYTES_MAX,
    FromBlob,
    FromDict,
    FromList,
    FromParam,
    FromStep,
    FromValue,
    ParamSpec,
    PipelineSpec,
    Source,
    StepSpec,
)

P = Signature("P")
R = TypeVar("R")

POLL_S = 0.2
_trace: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("noria_trace", default=None)


class PipelineFailed(Exception):
    """A run that was waited for did not succeed; `run` is how it ended."""

    def __init__(self, run: dict[str, Any]) -> None:
        super().__init__(f"The pipeline run {run['id']} {run['state']}. {run.get('error', '')}".strip())
        self.run = run


# --- steps ----------------------------------------------------------------------------------------------------------------


class Step(Generic[P, R]):
    """A function that can be a step. Called outside a pipeline it is the function."""

    def __init__(self, function: Callable[P, R], options: dict[str, Any], after: tuple[Output, ...] = ()) -> None:
        self.function = function
        self.options = options
        self._after = after
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        trace = _trace.get()
        if trace is None:
            return self.function(*args, **kwargs)
        promise: Any = trace.call(self, self._after, args, kwargs)
        return promise  # type: ignore[no-any-return]

    def after(self, *outputs: Any) -> Step[P, R]:
        """The same step, which also waits for `outputs` without taking them: `report.after(train(x))()`."""
        return Step(self.function, self.options, (*self._after, *outputs))

    def __repr__(self) -> str:
        return f"<step {self.function.__qualname__}>"


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *, name: str = ..., retries: int = ..., retry_delay: str | float = ..., timeout: str | float | None = ...,
    cache: str | float | bool = ...,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...  # fmt: skip
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    retries: int = 0,
    retry_delay: str | float = "1s",
    timeout: str | float | None = None,
    cache: str | float | bool = False,
) -> Any:
    """Make a function a step of pipelines.

    `retries`: how often it is tried again when it raises, after `retry_delay`, which doubles each time.
    `timeout`: how long one try may take, such as "10m"; then it is stopped and counts as failed.
    `cache`: True, or how old a result may be, such as "7d", to be taken instead of running the same code on the same inputs.
    """
    options = {
        "name": name, "retries": retries, "retry_delay_s": seconds(retry_delay),
        "timeout_s": None if timeout is None else seconds(timeout),
        "cache_s": None if cache is False else 0.0 if cache is True else seconds(cache),
    }  # fmt: skip
    if function is not None:
        return Step(function, options)
    return lambda decorated: Step(decorated, options)


_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def seconds(text: str | float) -> float:
    """`"10m"` as 600.0; a number is seconds. Units: ms s m h d w. Raises Invalid."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    found = _DURATION.match(str(text))
    if not found:
        raise Invalid(f"{text!r} is not a duration.", hint='Write it as "30s", "10m", "2h" or "7d".')
    return float(found[1]) * _UNITS[found[2] or "s"]


# --- promises -------------------------------------------------------------------------------------------------------------


class Output:
    """What a step will return, or a part of it: `out["auc"]`, `a, b = split(table)`."""

    def __init__(self, step: str, path: tuple[str | int, ...] = (), returns: Any = None) -> None:
        self._step, self._path, self._returns = step, path, returns

    def __getitem__(self, key: str | int) -> Output:
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise Invalid("A part of an output is named by a text or a number.")
        return Output(self._step, (*self._path, key))

    def __iter__(self) -> Iterator[Output]:
        parts = get_args(self._returns) if get_origin(self._returns) is tuple else ()
        if not parts or Ellipsis in parts:
            raise Invalid(
                f"How many things {self._step} returns is not known.",
                hint="Say it in its annotation, -> tuple[A, B], or pick one: out[0].",
            )
        return iter([self[i] for i in range(len(parts))])

    def __bool__(self) -> bool:
        raise Invalid(
            f"What {self._step} returns is known only when it has run; the pipeline cannot decide on it.",
            hint="Decide inside a step.",
        )

    def __repr__(self) -> str:
        return f"<output of {self._step}{''.join(f'[{k!r}]' for k in self._path)}>"


class _NeedsValue(Exception):
    """The pipeline used a parameter for more than passing it on; it is traced again with its value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Param:
    """A parameter that is passed on unseen, so that the graph holds for all its values."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __getattr__(self, attribute: str) -> Any:
        raise _NeedsValue(object.__getattribute__(self, "_name"))


def _needs_value(self: Any, *_: Any) -> Any:
    raise _NeedsValue(object.__getattribute__(self, "_name"))


_OPERATIONS = """bool int float complex index str repr format iter len contains getitem eq ne lt le gt ge hash add radd sub
    rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg pos abs round call fspath and rand or ror"""
for _operation in _OPERATIONS.split():
    setattr(_Param, f"__{_operation}__", _needs_value)


# --- tracing --------------------------------------------------------------------------------------------------------------


class Trace:
    """One call of a pipeline's function: the steps it made, and the values to store with them."""

    def __init__(self) -> None:
        self.steps: list[StepSpec] = []
        self.blobs: dict[str, bytes] = {}
        self._digests: dict[int, tuple[str, list[str]]] = {}

    def call(self, step: Step[Any, Any], after: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Output:
        function = step.function
        if "<locals>" in function.__qualname__ or "<lambda>" in function.__qualname__:
            raise Invalid(
                f"The step {function.__qualname__} is defined inside a function.", hint="Move it to the top of its file."
            )
        try:
            bound = inspect.signature(function).bind(*args, **kwargs)
        except TypeError as cause:
            raise Invalid(f"{function.__name__}: {cause}.") from cause
        bound.apply_defaults()
        inputs: dict[str, Source] = {}
        for name, parameter in bound.signature.parameters.items():
            mark = (
                "*"
                if parameter.kind is parameter.VAR_POSITIONAL
                else "**"
                if parameter.kind is parameter.VAR_KEYWORD
                else ""
            )
            value = bound.arguments[name]
            inputs[mark + name] = self.source(list(value) if mark == "*" else value)
        name = self._name(step.options["name"] or function.__name__)
        if id(function) not in self._digests:
            self._digests[id(function)] = closure_digest(function)  # type: ignore[arg-type]
        digest, opaque = self._digests[id(function)]
        options = {k: v for k, v in step.options.items() if k != "name"}
        self.steps.append(
            StepSpec(
                name=name, function=f"{_module_of(function)}:{function.__qualname__}", inputs=inputs,
                description=(inspect.getdoc(function) or "").split("\n")[0], after=[o._step for o in _outputs(after)],
                code_digest=digest, opaque=opaque, **options,
            )
        )  # fmt: skip
        return Output(name, (), _returns(function))

    def source(self, value: Any) -> Source:
        """Where an argument comes from."""
        if isinstance(value, Output):
            return FromStep(value._step, list(value._path))
        if type(value) is _Param:
            return FromParam(object.__getattribute__(value, "_name"))
        if isinstance(value, list | tuple) and any(_is_promise(v) for v in _flat(value)):
            return FromList([self.source(item) for item in value])
        if isinstance(value, dict) and any(_is_promise(v) for v in _flat(value)):
            return FromDict({str(key): self.source(item) for key, item in value.items()})
        if is_json(value):
            return FromValue(value)
        import cloudpickle

        body = cloudpickle.dumps(value)
        digest = blake3(body).hexdigest()
        self.blobs[digest] = body
        return FromBlob(digest, len(body))

    def _name(self, wanted: str) -> str:
        taken = {s.name for s in self.steps}
        if wanted not in taken:
            return wanted
        return next(f"{wanted}-{i}" for i in range(2, len(taken) + 3) if f"{wanted}-{i}" not in taken)


def is_json(value: Any, *, budget: int = INLINE_BYTES_MAX) -> bool:
    """Is `value` small, and exactly itself after a trip through JSON? Tuples, NaN and subclasses are not."""
    left = [budget]

    def plain(item: Any) -> bool:
        left[0] -= len(item) + 8 if isinstance(item, str) else 8
        if left[0] < 0:
            return False
        if item is None or type(item) is bool:
            return True
        if type(item) is str:
            return item.isascii() or item.encode("utf-8", "replace").decode() == item
        if type(item) is int:
            return -(1 << 53) <= item <= 1 << 53
        if type(item) is float:
            return math.isfinite(item)
        if type(item) is list:
            return all(map(plain, item))
        return type(item) is dict and all(type(k) is str and plain(k) and plain(v) for k, v in item.items())

    return plain(value)


def _flat(value: Any) -> Iterator[Any]:
    for item in value.values() if isinstance(value, dict) else value:
        yield item
        if isinstance(item, list | tuple | dict):
            yield from _flat(item)


def _is_promise(value: Any) -> bool:
    return type(value) is _Param or isinstance(value, Output)


def _outputs(values: tuple[Any, ...]) -> Iterator[Output]:
    for value in values:
        if isinstance(value, Output):
            yield value
        elif isinstance(value, list | tuple):
            yield from _outputs(tuple(value))
        else:
            raise Invalid(f"after() takes what steps return, not {type(value).__name__}.")


def _returns(function: Callable[..., Any]) -> Any:
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):  # an annotation that only exists for the type checker
        return None


def _module_of(function: Callable[..., Any]) -> str:
    """The module to import it from in a worker; the script itself has its file's name there."""
    module = function.__module__
    if module != "__main__":
        return module
    return capture_entry(sys.modules["__main__"])


def capture_entry(main: types.ModuleType) -> str:
    """The name by which a worker imports the script that runs here as `__main__`."""
    file = getattr(main, "__file__", None)
    if not file:
        raise Invalid("A pipeline has to be in a file; a console or notebook has none.", hint="Save it as pipeline.py.")
    path = Path(file).resolve()
    parts = [path.stem]
    while (path.parent / "__init__.py").exists():
        path = path.parent
        parts.insert(0, path.name)
    return ".".join(parts)


# --- pipelines ------------------------------------------------------------------------------------------------------------


class Pipeline(Generic[P, R]):
    """A function that calls steps. Called, it runs them here as plain functions; `run` sends it to the server."""

    def __init__(self, function: Callable[P, R], name: str) -> None:
        self.function = function
        self.name = name or function.__name__.replace("_", "-")
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    def trace(self, params: Mapping[str, Any] | None = None) -> tuple[PipelineSpec, dict[str, bytes]]:
        """The pipeline as data, and the blobs it needs. `params` matter only where their values shape the graph."""
        file = inspect.getsourcefile(self.function)
        if not file or not Path(file).exists():
            raise Invalid("A pipeline has to be in a file; a console or notebook has none.", hint="Save it as pipeline.py.")
        declared = self._declared()
        values = {**{n: p.default for n, p in declared.items() if not p.required}, **(params or {})}
        trace, returned, fixed = self._traced(declared, values)
        if not trace.steps:
            raise Invalid(f"The pipeline {self.name} calls no step.", hint="Decorate its functions with @noria.step.")
        code = capture_code(Path(file))
        environment_digest, environment_body = environment()
        spec = PipelineSpec(
            name=self.name, description=(inspect.getdoc(self.function) or "").split("\n")[0], entry=code.entry,
            params=declared, fixed=fixed, steps=trace.steps, outputs=_named_outputs(trace, returned), code=code.info,
            environment_digest=environment_digest, python=sys.version.split()[0],
        )  # fmt: skip
        return spec, {**trace.blobs, **code.blobs, environment_digest: environment_body}

    def _traced(self, declared: dict[str, ParamSpec], values: dict[str, Any]) -> tuple[Trace, Any, dict[str, Any]]:
        """Call the function until it asks for no further parameter's value."""
        fixed: dict[str, Any] = {}
        while True:
            trace = Trace()
            kept = _trace.set(trace)
            try:
                arguments: Any = {
                    name: fixed.get(name, _Param(name)) if name in fixed else _Param(name) for name in declared
                }
                returned: Any = self.function(**arguments)  # type: ignore[call-arg]
                return trace, returned, fixed
            except _NeedsValue as needed:
                if needed.name not in values:
                    raise Invalid(f"{self.name} needs the parameter {needed.name!r}.", where="params") from None
                fixed[needed.name] = values[needed.name]
            finally:
                _trace.reset(kept)

    def _declared(self) -> dict[str, ParamSpec]:
        declared = {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise Invalid(f"The parameter {name!r} of the pipeline {self.name} cannot be given by name.")
            is_required = parameter.default is parameter.empty
            default = None if is_required else parameter.default
            if not is_json(default):
                raise Invalid(f"The default of {name!r} is not a JSON value.", hint="Pass a name and load it in a step.")
            kind = parameter.annotation
            text = "" if kind is parameter.empty else kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
            declared[name] = ParamSpec(required=is_required, default=default, type=text)
        return declared

    def register(self, api: Api, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send code, environment and graph to the server; returns the registered pipeline."""
        spec, blobs = self.trace(params)
        for digest, body in blobs.items():
            api.put_bytes(f"/blobs/{digest}", body)
        found: dict[str, Any] = api.post("/pipelines", spec)
        return found

    def submit(
        self, params: Mapping[str, Any] | None = None, /, *, api: Api | None = None, unique: str = "", **more: Any
    ) -> dict[str, Any]:
        """Register this code and start a run of it; does not wait. Returns the run."""
        _refuse_in_worker()
        given = {**(params or {}), **more}
        for name, value in given.items():
            if not is_json(value):
                raise Invalid(f"The parameter {name!r} is not a JSON value.", where="params", hint="Load it in a step.")
        with _connected(api) as connection:
            version = self.register(connection, given)["version"]
            body = {"params": given, "unique": unique, "version": version}
            run: dict[str, Any] = connection.post(f"/pipelines/{self.name}/runs", body)
        return run

    def run(
        self, params: Mapping[str, Any] | None = None, /, *, api: Api | None = None, wait: bool = True, unique: str = "",
        show: bool = True, **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Start a run and, with `wait`, follow it to its end. Returns the run. Raises PipelineFailed."""
        with _connected(api) as connection:
            run = self.submit(params, api=connection, unique=unique, **more)
            if not wait:
                return run
            return follow(connection, run["id"], show=_say if show else None)


@overload
def pipeline(function: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(*, name: str = ...) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...
def pipeline(function: Callable[..., Any] | None = None, /, *, name: str = "") -> Any:
    """Make a function a pipeline. Its parameters are JSON values; its name is `name`, or the function's."""
    if function is not None:
        return Pipeline(function, name)
    return lambda decorated: Pipeline(decorated, name)


def _named_outputs(trace: Trace, returned: Any) -> dict[str, Source]:
    if returned is None:
        return {}
    if isinstance(returned, dict):
        return {str(key): trace.source(value) for key, value in returned.items()}
    if isinstance(returned, tuple):
        return {str(i): trace.source(value) for i, value in enumerate(returned)}
    return {"result": trace.source(returned)}


def _refuse_in_worker() -> None:
    if os.environ.get("NORIA_ZYGOTE"):
        raise Invalid(
            "The file starts its own pipeline when it is imported.",
            hint='Put it under: if __name__ == "__main__":',
        )


class _connected:
    """The given connection, left open; or one of our own, closed at the end."""

    def __init__(self, api: Api | None) -> None:
        self._given, self._own = api, None if api else connect()

    def __enter__(self) -> Api:
        found = self._given or self._own
        assert found is not None
        return found

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._own.close()


# --- following a run ------------------------------------------------------------------------------------------------------

ENDED = ("succeeded", "failed", "cancelled")
_MARKS = {"succeeded": "✓", "failed": "✗", "cancelled": "–", "skipped": "–", "running": "▸"}


def follow(api: Api, run_id: str, *, show: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Wait for a run to end, saying what happens; returns it. Raises PipelineFailed when it did not succeed."""
    seen: dict[str, str] = {}
    has_warned = False
    while True:
        view = api.get(f"/pipeline-runs/{run_id}")
        run = view["run"]
        for line in _news(view, seen):
            if show:
                show(line)
        if run["state"] in ENDED:
            break
        if not view["workers"] and not has_warned and show:
            has_warned = True
            show("  waiting: no worker is running; start one with: noria server")
        time.sleep(POLL_S)
    if run["state"] == "succeeded":
        return dict(run)
    if show:
        for line in _failure(api, view):
            show(line)
    raise PipelineFailed(run)


def _news(view: dict[str, Any], seen: dict[str, str]) -> Iterator[str]:
    if not seen:
        seen[""] = "begun"
        run = view["run"]
        yield f"{run['pipeline']} v{run['version']}, run {run['id']}"
    for item in view["steps"]:
        step = item["step"]
        state = f"{step['state']} {step['attempt']}"
        if seen.get(step["name"]) == state or step["state"] not in _MARKS:
            continue
        seen[step["name"]] = state
        yield f"  {_MARKS[step['state']]} {step['name']}{_detail(step)}"


def _detail(step: dict[str, Any]) -> str:
    if step.get("cached_from"):
        return "  cached"
    if step["state"] == "running":
        return f"  attempt {step['attempt']}" if step["attempt"] > 1 else ""
    if step["state"] == "succeeded" and step.get("ended_at_ms") and step.get("started_at_ms"):
        return f"  {(step['ended_at_ms'] - step['started_at_ms']) / 1000:.2f} s"
    return f"  {step['error']}" if step.get("error") else ""


def _failure(api: Api, view: dict[str, Any]) -> Iterator[str]:
    """The last lines that the failed steps printed."""
    for item in view["steps"]:
        step = item["step"]
        if step["state"] != "failed":
            continue
        offset = max(0, step["log_bytes"] - 4000)
        try:
            text = api.get(f"/step-runs/{step['id']}/logs", offset=offset)["text"]
        except NoriaError:
            continue
        yield f"--- the end of what {step['name']} printed"
        yield from text.rstrip().splitlines()[-30:]


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
