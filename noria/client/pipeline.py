"""Pipelines in plain Python: `@step` and `@pipeline`.

A pipeline's function is called once, when it is submitted, to see which steps call which: inside it, a step returns an
`Output`, a promise of what the step will return. Everywhere else a step is the plain function it decorates.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload
from typing import ParamSpec as Signature

from noria.client.api import Api, connect
from noria.client.durations import seconds
from noria.client.environment import capture_code, environment
from noria.client.following import PipelineFailed, follow, say
from noria.client.notebook import capture_notebook, is_notebook
from noria.client.packages import Uv
from noria.client.sizes import size_bytes
from noria.client.tracing import Each, NeedsValue, Output, Param, Trace, current, is_json
from noria.kernel.errors import Invalid
from noria.pipelines.model.queues import DEFAULT_QUEUE
from noria.pipelines.model.sources import Source
from noria.pipelines.model.spec import ParamSpec, PipelineSpec
from noria.pipelines.model.starts import Start

__all__ = ["Pipeline", "PipelineFailed", "Step", "pipeline", "step"]

P = Signature("P")
R = TypeVar("R")


# --- steps ----------------------------------------------------------------------------------------------------------------


class Step(Generic[P, R]):
    """A function that can be a step. Called outside a pipeline it is the function."""

    def __init__(self, function: Callable[P, R], options: dict[str, Any], after: tuple[Output, ...] = ()) -> None:
        self.function = function
        self.options = options
        self._after = after
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        trace = current.get()
        if trace is None:
            return self.function(*args, **kwargs)
        promise: Any = trace.call(self, self._after, args, kwargs)
        return promise  # type: ignore[no-any-return]

    def after(self, *outputs: Any) -> Step[P, R]:
        """The same step, which also waits for `outputs` without taking them: `report.after(train(x))()`."""
        return Step(self.function, self.options, (*self._after, *outputs))

    def map(self, *each: Any, **fixed: Any) -> Any:
        """One step for each item of a list: `train.map(parts, rate=0.1)`; gives the list of what they return, in order.

        The list may be what another step returns: then it is known, and the steps are made, when that one has run. Positional
        arguments are gone through together; arguments by name are the same for all, unless wrapped in `noria.each`.
        Called outside a pipeline it runs here.
        """
        trace = current.get()
        if trace is not None:
            return trace.map(self, self._after, each, fixed)
        lists = {name: value.values for name, value in fixed.items() if isinstance(value, Each)}
        same = {name: value for name, value in fixed.items() if name not in lists}
        rows = zip(*each, *lists.values(), strict=True)
        return [self.function(*row[: len(each)], **dict(zip(lists, row[len(each) :], strict=True)), **same) for row in rows]

    def with_options(self, **changes: Any) -> Step[P, R]:
        """The same step with other options than its decorator gave it: `train.with_options(retries=3).map(parts)`.

        `keep_going=True`: of a map, an element that fails gives None instead of failing the run.
        """
        keep_going = changes.pop("keep_going", self.options.get("keep_going", False))
        try:
            changed: dict[str, Any] = {**self.options, **_options(**changes)}
        except TypeError as cause:
            raise Invalid(f"A step has no such option: {cause}.") from cause
        return Step(self.function, {**changed, "keep_going": bool(keep_going)}, self._after)

    def __repr__(self) -> str:
        return f"<step {self.function.__qualname__}>"


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *, name: str = ..., retries: int = ..., retry_delay: str | float = ..., timeout: str | float | None = ...,
    cache: str | float | bool = ..., cache_ignore: list[str] = ..., cpu: float = ..., gpu: int = ..., memory: str | int = ...,
    disk: str | int = ..., env: Uv | None = ..., queue: str = ..., image: str = ..., secrets: Sequence[str] = ...,
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
    cache_ignore: list[str] | None = None,
    cpu: float = 0,
    gpu: int = 0,
    memory: str | int = 0,
    disk: str | int = 0,
    env: Uv | None = None,
    queue: str = DEFAULT_QUEUE,
    image: str = "",
    secrets: Sequence[str] = (),
) -> Any:
    """Make a function a step of pipelines.

    `retries`: how often it is tried again when it raises, after `retry_delay`, which doubles each time.
    `timeout`: how long one try may take, such as "10m"; then it is stopped and counts as failed.
    `cpu`, `gpu`: how many it uses; it starts when a worker has as many to spare.
    `memory`, `disk`: the most it may use, such as "4GB"; beyond that it is stopped and fails. `disk` is its scratch folder.
    `env`: packages of its own, `noria.uv("scikit-learn==1.7")`; else those of the worker.
    `queue`: whose workers may take it: those started with `noria agent --queue NAME`.
    `image`: the container to run in, where its executor runs containers (Kubernetes); elsewhere it means nothing.
    `secrets`: names of secrets (`noria secret set`) that it gets as variables of its environment.
    `cache`: True, or how old a result may be, such as "7d", to be taken instead of running the same code on the same inputs.
    `cache_ignore`: parameters that do not count among those inputs, such as where the same data is found.
    """
    options = _options(
        name=name, retries=retries, retry_delay=retry_delay, timeout=timeout, cache=cache,
        cache_ignore=cache_ignore or [], cpu=cpu, gpu=gpu, memory=memory,
        disk=disk, env=env, queue=queue, image=image, secrets=secrets,
    )  # fmt: skip
    if function is not None:
        return Step(function, options)
    return lambda decorated: Step(decorated, options)


def _options(**given: Any) -> dict[str, Any]:
    """What was given, as a step's spec says it. Raises TypeError for an option there is not."""
    readers: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "name": ("name", str),
        "retries": ("retries", int),
        "retry_delay": ("retry_delay_s", seconds),
        "timeout": ("timeout_s", lambda value: None if value is None else seconds(value)),
        "cpu": ("cpu", float),
        "gpu": ("gpu", int),
        "memory": ("memory_bytes", size_bytes),
        "disk": ("disk_bytes", size_bytes),
        "env": ("env", lambda value: value),
        "queue": ("queue", str),
        "image": ("image", str),
        "secrets": ("secrets", lambda value: sorted({value} if isinstance(value, str) else set(value))),
        "cache_ignore": ("cache_ignore", list),
        "cache": ("cache_s", lambda value: None if value is False else 0.0 if value is True else seconds(value)),
    }
    for name in given:
        if name not in readers:
            raise TypeError(f"{name!r}; there are {', '.join(readers)}")
    return {readers[name][0]: readers[name][1](value) for name, value in given.items()}


# --- pipelines ------------------------------------------------------------------------------------------------------------


class Pipeline(Generic[P, R]):
    """A function that calls steps. `run` sends it to the server. Called, it runs them here as plain functions; called in another
    pipeline, its steps become steps of that one, named after it."""

    def __init__(self, function: Callable[P, R], name: str, terms: dict[str, Any] | None = None) -> None:
        self.function = function
        self.terms = terms or {}  # how many runs at once, what starts it: as the spec says it
        self.name = name or function.__name__.replace("_", "-")
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        trace = current.get()
        if trace is None:
            return self.function(*args, **kwargs)
        with trace.inside(self.name):
            return self.function(*args, **kwargs)

    def map(self, *_: Any, **__: Any) -> Any:
        raise Invalid(f"{self.name} is a pipeline; only a step can be mapped.", hint="Map its steps one after the other.")

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    def trace(self, params: Mapping[str, Any] | None = None) -> tuple[PipelineSpec, dict[str, bytes]]:
        """The pipeline as data, and the blobs it needs. `params` matter only where their values shape the graph."""
        file = inspect.getsourcefile(self.function)
        is_cell = self.function.__module__ == "__main__" and is_notebook()
        if not is_cell and (not file or not Path(file).exists()):
            raise Invalid("A pipeline has to be in a file or in the cells of a notebook.", hint="Save it as pipeline.py.")
        declared = self._declared()
        values = {**{n: p.default for n, p in declared.items() if not p.required}, **(params or {})}
        trace, returned, fixed = self._traced(declared, values)
        if not trace.steps:
            raise Invalid(f"The pipeline {self.name} calls no step.", hint="Decorate its functions with @noria.step.")
        code = capture_notebook(self.function) if is_cell else capture_code(Path(file or ""))  # type: ignore[arg-type]
        environment_digest, environment_body = environment()
        spec = PipelineSpec(
            name=self.name, description=(inspect.getdoc(self.function) or "").split("\n")[0], entry=code.entry,
            params=declared, fixed=fixed, steps=trace.steps, outputs=_named_outputs(trace, returned), code=code.info,
            environment_digest=environment_digest, python=sys.version.split()[0], **self.terms,
        )  # fmt: skip
        return spec, {**trace.blobs, **code.blobs, environment_digest: environment_body}

    def _traced(self, declared: dict[str, ParamSpec], values: dict[str, Any]) -> tuple[Trace, Any, dict[str, Any]]:
        """Call the function until it asks for no further parameter's value."""
        fixed: dict[str, Any] = {}
        while True:
            trace = Trace()
            kept = current.set(trace)
            try:
                arguments: Any = {name: fixed.get(name, Param(name)) if name in fixed else Param(name) for name in declared}
                returned: Any = self.function(**arguments)  # type: ignore[call-arg]
                return trace, returned, fixed
            except NeedsValue as needed:
                if needed.name not in values:
                    raise Invalid(f"{self.name} needs the parameter {needed.name!r}.", where="params") from None
                fixed[needed.name] = values[needed.name]
            finally:
                current.reset(kept)

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
        self, params: Mapping[str, Any] | None = None, /, *, api: Api | None = None, unique: str = "",
        queues: Mapping[str, str] | None = None, **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Register this code and start a run of it; does not wait. Returns the run.

        `queues`: where steps go instead of where the code says: {"train": "ray"}; "*" is every step that names no queue.
        """
        _refuse_in_worker()
        given = {**(params or {}), **more}
        for name, value in given.items():
            if not is_json(value):
                raise Invalid(f"The parameter {name!r} is not a JSON value.", where="params", hint="Load it in a step.")
        with _connected(api) as connection:
            version = self.register(connection, given)["version"]
            body = {"params": given, "unique": unique, "version": version, "queues": dict(queues or {})}
            run: dict[str, Any] = connection.post(f"/pipelines/{self.name}/runs", body)
        return run

    def run(
        self, params: Mapping[str, Any] | None = None, /, *, api: Api | None = None, wait: bool = True, unique: str = "",
        show: bool = True, queues: Mapping[str, str] | None = None, **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Start a run and, with `wait`, follow it to its end. Returns the run. Raises PipelineFailed."""
        with _connected(api) as connection:
            run = self.submit(params, api=connection, unique=unique, queues=queues, **more)
            if not wait:
                return run
            return follow(connection, run["id"], show=say if show else None)


@overload
def pipeline(function: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(
    *, name: str = ..., concurrency: int | None = ..., concurrency_key: str = ...,
    on_busy: Literal["queue", "skip", "cancel_oldest"] = ..., triggers: list[Start] | None = ...,
) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...  # fmt: skip
def pipeline(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str = "",
    concurrency: int | None = None,
    concurrency_key: str = "",
    on_busy: Literal["queue", "skip", "cancel_oldest"] = "queue",
    triggers: list[Start] | None = None,
) -> Any:
    """Make a function a pipeline. Its parameters are JSON values; its name is `name`, or the function's.

    `concurrency`: how many runs go on at once; of each value of `concurrency_key`, such as "${region}", if given.
    `on_busy`: what a run does that finds no room: wait its turn, be passed over, or have the oldest one cancelled.
    `triggers`: what starts it by itself, such as [noria.cron("0 3 * * 1"), noria.on_dataset("customers")].
    """
    terms = {
        "concurrency": concurrency, "concurrency_key": concurrency_key, "on_busy": on_busy, "starts": list(triggers or []),
    }  # fmt: skip
    if function is not None:
        return Pipeline(function, name, terms)
    return lambda decorated: Pipeline(decorated, name, terms)


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
