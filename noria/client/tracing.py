"""Tracing: what a pipeline's function is given instead of values, and the steps that it makes.

Inside a pipeline a step returns an `Output`, a promise of what it will return; a parameter is a `Param`, passed on unseen.
"""

from __future__ import annotations

import contextvars
import inspect
import math
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from blake3 import blake3

from noria.client.closure import closure_digest
from noria.kernel.errors import Invalid
from noria.pipelines.model import (
    INLINE_BYTES_MAX,
    FromBlob,
    FromDict,
    FromList,
    FromParam,
    FromStep,
    FromValue,
    Source,
    StepSpec,
)

if TYPE_CHECKING:
    from noria.client.pipeline import Step

current: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("noria_trace", default=None)


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


class NeedsValue(Exception):
    """The pipeline used a parameter for more than passing it on; it is traced again with its value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Param:
    """A parameter that is passed on unseen, so that the graph holds for all its values."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __getattr__(self, attribute: str) -> Any:
        raise NeedsValue(object.__getattribute__(self, "_name"))


def _needs_value(self: Any, *_: Any) -> Any:
    raise NeedsValue(object.__getattribute__(self, "_name"))


_OPERATIONS = """bool int float complex index str repr format iter len contains getitem eq ne lt le gt ge hash add radd sub
    rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg pos abs round call fspath and rand or ror"""
for _operation in _OPERATIONS.split():
    setattr(Param, f"__{_operation}__", _needs_value)


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
        options = {k: v for k, v in step.options.items() if k not in ("name", "env")}
        if wanted := step.options["env"]:
            options["env"], lock = wanted.resolved(Path(inspect.getfile(function)).resolve().parent)
            self.blobs[options["env"].lock_digest] = lock
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
        if type(value) is Param:
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
    return type(value) is Param or isinstance(value, Output)


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
