"""Tracing: what a pipeline's function is given instead of values, and the steps that it makes.

Inside a pipeline a step returns an `Output`, a promise of what it will return; a parameter is a `Param`, passed on unseen.
"""

from __future__ import annotations

import contextvars
import inspect
import math
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from blake3 import blake3

from noria.client.closure import closure_digest
from noria.kernel.errors import Invalid
from noria.pipelines import conditions
from noria.pipelines.model.conditions import Compare, Every, Not, Some, Test, Truth
from noria.pipelines.model.limits import INLINE_BYTES_MAX
from noria.pipelines.model.sources import FromBlob, FromDict, FromFirst, FromList, FromParam, FromStep, FromValue, Source
from noria.pipelines.model.spec import StepSpec
from noria.pipelines.model.values import Saved
from noria.pipelines.space import SweepSpec

if TYPE_CHECKING:
    from noria.client.pipeline import Step

current: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("noria_trace", default=None)


class Output:
    """What a step will return, or a part of it: `out["auc"]`, `a, b = split(table)`. Compared, it becomes a condition."""

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
                hint="Say it in its annotation, -> tuple[A, B], pick one: out[0], or run a step for each: step.map(out).",
            )
        return iter([self[i] for i in range(len(parts))])

    def __bool__(self) -> bool:
        raise undecided(f"What {self._step} returns")

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return compared(self, "==", other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return compared(self, "!=", other)

    def __gt__(self, other: object) -> Condition:
        return compared(self, ">", other)

    def __ge__(self, other: object) -> Condition:
        return compared(self, ">=", other)

    def __lt__(self, other: object) -> Condition:
        return compared(self, "<", other)

    def __le__(self, other: object) -> Condition:
        return compared(self, "<=", other)

    def __and__(self, other: object) -> Condition:
        return condition(self) & other

    def __or__(self, other: object) -> Condition:
        return condition(self) | other

    def __invert__(self) -> Condition:
        return ~condition(self)

    def __repr__(self) -> str:
        return f"<output of {self._step}{''.join(f'[{k!r}]' for k in self._path)}>"


class First:
    """The first of several outputs that is there; what `noria.choose` gives."""

    def __init__(self, source: FromFirst) -> None:
        self.source = source

    def __bool__(self) -> bool:
        raise undecided("What is chosen")


class Condition:
    """Something that will be so or not: `score["auc"] > 0.9`. Joined with `&`, `|` and `~`."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, test: Test) -> None:
        self.test = test

    def __and__(self, other: object) -> Condition:
        return Condition(Every([self.test, condition(other).test]))

    def __or__(self, other: object) -> Condition:
        return Condition(Some([self.test, condition(other).test]))

    def __invert__(self) -> Condition:
        return Condition(Not(self.test))

    def __bool__(self) -> bool:
        raise undecided("A condition on what a step returns")

    def __repr__(self) -> str:
        return f"<condition {conditions.name(self.test)}>"


def undecided(what: str) -> Invalid:
    return Invalid(
        f"{what} is known only when it has run; the pipeline cannot decide on it.",
        hint="Decide inside a step, or write: with noria.when(...). Join conditions with & | ~ instead of and, or, not.",
    )


def compared(left: object, op: Any, right: object) -> Condition:
    trace = tracing("A condition")
    if isinstance(left, Condition) or isinstance(right, Condition):
        raise Invalid("A condition is not compared with anything.", hint="Put parentheses around each comparison.")
    return Condition(Compare(trace.plain_source(left), op, trace.plain_source(right)))


def condition(value: object) -> Condition:
    """Anything as a condition: plain truth, unless it is one already."""
    return value if isinstance(value, Condition) else Condition(Truth(tracing("A condition").plain_source(value)))


def tracing(what: str) -> Trace:
    """The pipeline that is being traced. Raises Invalid outside one."""
    trace = current.get()
    if trace is None:
        raise Invalid(
            f"{what} is for a pipeline that the server runs: submit it, or call .run().",
            hint="In a step, in a script and in a pipeline called as a plain function, use plain Python.",
        )
    return trace


class Each:
    """A list given to `map` by name."""

    def __init__(self, values: Any) -> None:
        self.values = values


NOTEBOOK = "notebook"  # the module that a notebook's cells become


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
    """One call of a pipeline's function: the steps it made, and the values to store with them.

    `guards` are the conditions that hold where the function is: each step takes them along. `prefix` names the pipeline that is
    being called inside the outer one.
    """

    def __init__(self) -> None:
        self.steps: list[StepSpec] = []
        self.blobs: dict[str, bytes] = {}
        self.guards: list[Test] = []
        self._prefix = ""
        self._digests: dict[int, tuple[str, list[str]]] = {}

    def call(self, step: Step[Any, Any], after: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Output:
        """A step was called: it is in the graph from now on."""
        inputs = {name: self.source(value) for name, value in self._bound(step, args, kwargs).items()}
        return self._add(step, after, inputs)

    def map(self, step: Step[Any, Any], after: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Output:
        """A step was mapped over lists: the positional arguments, and those by name that are wrapped in `each`."""
        function = step.function.__name__
        wanted = self._bound(step, args, kwargs)
        given = inspect.signature(step.function).bind(*args, **kwargs).arguments
        named = {name for name, value in given.items() if isinstance(value, Each)}
        positional = list(inspect.signature(step.function).bind_partial(*args).arguments)
        if any(name.startswith("*") for name in wanted):
            raise Invalid(f"{function} takes any number of arguments and cannot be mapped.", hint="Name its parameters.")
        each = [name for name in wanted if name in named or name in positional]
        if not each:
            raise Invalid(f"{function}.map() is given nothing to go through.", hint=f"Write {function}.map(items, other=1).")
        inputs: dict[str, Source] = {}
        for name, value in wanted.items():
            value = value.values if isinstance(value, Each) else value
            inputs[name] = self._list_source(function, name, value) if name in each else self.source(value)
        found = self._add(step, after, inputs, kind="map", each=each, keep_going=bool(step.options.get("keep_going")))
        return Output(found._step)

    def sweep(self, step: Step[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], sweep: SweepSpec) -> str:
        """A step is tried with many parameters. Returns its name."""
        function = step.function.__name__
        for name in sweep.space:
            if name in kwargs or name in inspect.signature(step.function).bind_partial(*args).arguments:
                raise Invalid(f"{function} is given {name} and searches for it.", hint="Leave it out of one of the two.")
        wanted = self._bound(step, args, {**kwargs, **dict.fromkeys(sweep.space)})
        inputs = {name: self.source(value) for name, value in wanted.items() if name not in sweep.space}
        return self._add(step, step._after, inputs, kind="sweep", sweep=sweep)._step

    def _list_source(self, function: str, name: str, value: Any) -> Source:
        if isinstance(value, list | tuple | range):
            return FromList([self.source(item) for item in value])
        if isinstance(value, Output | First) or type(value) is Param:
            return self.source(value)
        raise Invalid(
            f"{function}.map() goes through lists; {name} is a {type(value).__name__}.",
            hint=f"Give what is the same for all by name: {function}.map(items, {name}=...).",
        )

    def _bound(self, step: Step[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, defaults filled in; `*` and `**` mark those that take any number."""
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
        marks: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        found = {}
        for name, parameter in bound.signature.parameters.items():
            value = bound.arguments[name]
            mark = marks.get(parameter.kind, "")
            found[mark + name] = list(value) if mark == "*" else value
        return found

    def _add(self, step: Step[Any, Any], after: tuple[Any, ...], inputs: dict[str, Source], **more: Any) -> Output:
        function = step.function
        name = self.name(step.options["name"] or function.__name__)
        if id(function) not in self._digests:
            self._digests[id(function)] = closure_digest(function)  # type: ignore[arg-type]
        digest, opaque = self._digests[id(function)]
        for ignored in step.options["cache_ignore"]:
            if ignored not in inputs:
                raise Invalid(f"{function.__name__} has no parameter {ignored!r} that its cache could ignore.")
        options = {k: v for k, v in step.options.items() if k not in ("name", "env", "keep_going")}
        if wanted := step.options["env"]:
            options["env"], lock = wanted.resolved(_folder_of(function))
            self.blobs[options["env"].lock_digest] = lock
        self.steps.append(
            StepSpec(
                name=name, function=f"{_module_of(function)}:{function.__qualname__}", inputs=inputs,
                description=(inspect.getdoc(function) or "").split("\n")[0], after=[o._step for o in _outputs(after)],
                code_digest=digest, opaque=opaque, when=list(self.guards), **options, **more,
            )
        )  # fmt: skip
        return Output(name, (), _returns(function))

    @contextmanager
    def guarded(self, *tests: Test) -> Iterator[None]:
        """Steps in the block take these conditions along; what the block itself adds (an approval) ends with it."""
        kept = list(self.guards)
        self.guards += tests
        try:
            yield
        finally:
            self.guards = kept

    @contextmanager
    def inside(self, pipeline: str) -> Iterator[None]:
        """Steps in the block belong to a pipeline that was called: they are named after it."""
        kept, taken = self._prefix, {step.name for step in self.steps}
        base = f"{kept}{pipeline}"
        tries = (base if i == 1 else f"{base}-{i}" for i in range(1, len(taken) + 2))
        self._prefix = next(p for p in tries if not any(n.startswith(f"{p}.") for n in taken)) + "."
        try:
            with self.guarded():
                yield
        finally:
            self._prefix = kept

    def plain_source(self, value: object) -> Source:
        """Where a value of a condition comes from. Raises Invalid for what the server could not compare."""
        found = self.source(value)
        if isinstance(found, FromBlob):
            raise Invalid(f"A condition compares plain values; a {type(value).__name__} is none.")
        return found

    def source(self, value: Any) -> Source:
        """Where an argument comes from."""
        if isinstance(value, Output):
            return FromStep(value._step, list(value._path))
        if isinstance(value, First):
            return value.source
        if isinstance(value, Condition | Each):
            raise Invalid(
                f"A {'condition' if isinstance(value, Condition) else 'list for map()'} cannot be given to a step.",
                hint="Compare inside the step." if isinstance(value, Condition) else "noria.each() belongs into map().",
            )
        if type(value) is Param:
            return FromParam(object.__getattribute__(value, "_name"))
        if isinstance(value, list | tuple) and any(_is_promise(v) for v in _flat(value)):
            return FromList([self.source(item) for item in value])
        if isinstance(value, dict) and any(_is_promise(v) for v in _flat(value)):
            return FromDict({str(key): self.source(item) for key, item in value.items()})
        if is_json(value):
            return FromValue(value)
        saved = self._saved(value)
        if saved is not None:
            return FromBlob(saved.digest, saved.size_bytes, saved)
        import cloudpickle

        body = cloudpickle.dumps(value)
        digest = blake3(body).hexdigest()
        self.blobs[digest] = body
        return FromBlob(digest, len(body))

    def _saved(self, value: Any) -> Saved | None:
        """A value for which there is a materialiser, as it keeps it."""
        from noria.client.materialisers import chosen
        from noria.client.saving import save

        if chosen(value) is None:
            return None
        with tempfile.TemporaryDirectory(prefix="noria-value-") as folder:
            saved = save(value, Path(folder))
            if saved is not None:
                self.blobs[saved.digest] = Path(folder, saved.digest).read_bytes()
            return saved

    def name(self, wanted: str) -> str:
        """A name that no step has yet."""
        wanted = self._prefix + wanted
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
    return type(value) is Param or isinstance(value, Output | First | Condition)


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


def _folder_of(function: Callable[..., Any]) -> Path:
    """Where the files are that lie beside the function's; of a cell, where the notebook runs."""
    file = Path(inspect.getfile(function))
    return file.resolve().parent if file.exists() else Path.cwd()


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
        return NOTEBOOK
    path = Path(file).resolve()
    parts = [path.stem]
    while (path.parent / "__init__.py").exists():
        path = path.parent
        parts.insert(0, path.name)
    return ".".join(parts)
