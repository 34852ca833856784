"""Conditions: what decides, while a run goes on, whether a step is passed over. Pure functions over plain values.

A value that a step pickled cannot be judged: the server never unpickles.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from noria.kernel.errors import Invalid
from noria.pipelines.model.conditions import Compare, Every, Not, Some, Test, Truth
from noria.pipelines.model.sources import FromFirst, FromParam, FromStep, FromValue, Source
from noria.pipelines.model.values import Json, Value

DEPTH_MAX = 32
SHOWN_LENGTH_MAX = 60
Look = Callable[[Source], Value]

_OPERATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


def sources(test: Test) -> Iterator[Source]:
    """Every value that a test looks at."""
    if isinstance(test, Truth):
        yield test.value
    elif isinstance(test, Compare):
        yield from (test.left, test.right)
    elif isinstance(test, Not):
        yield from sources(test.of)
    else:
        for each in test.of:
            yield from sources(each)


def depth(test: Test) -> int:
    """How deep a test is nested."""
    if isinstance(test, Truth | Compare):
        return 1
    inner = [test.of] if isinstance(test, Not) else test.of
    return 1 + max(map(depth, inner), default=0)


def holds(test: Test, look: Look) -> bool:
    """Is it so? Raises Invalid for values that cannot be compared, or that only a step can read."""
    if isinstance(test, Every):
        return all(holds(each, look) for each in test.of)
    if isinstance(test, Some):
        return any(holds(each, look) for each in test.of)
    if isinstance(test, Not):
        return not holds(test.of, look)
    if isinstance(test, Truth):
        return bool(_plain(test.value, look))
    left, right = _plain(test.left, look), _plain(test.right, look)
    try:
        return bool(_OPERATIONS[test.op](left, right))
    except TypeError as cause:
        raise Invalid(
            f"The condition {name(test)} cannot be judged: {_shown(left)} {test.op} {_shown(right)} means nothing."
        ) from cause


def why_not(test: Test, look: Look) -> str:
    """A test that does not hold, with the values it saw: `score['auc'] > 0.9 is not so: 0.81`."""
    if isinstance(test, Every):
        return why_not(next(each for each in test.of if not holds(each, look)), look)
    seen = [_shown(_plain(source, look)) for source in sources(test) if not isinstance(source, FromValue)]
    return f"{name(test)} is not so" + (f": {', '.join(seen)}" if seen else "")


def name(test: Test) -> str:
    """A test as its author wrote it."""
    if isinstance(test, Truth):
        return source_name(test.value)
    if isinstance(test, Compare):
        return f"{source_name(test.left)} {test.op} {source_name(test.right)}"
    if isinstance(test, Not):
        return f"not ({name(test.of)})"
    word = " and " if isinstance(test, Every) else " or "
    return word.join(name(each) if isinstance(each, Truth | Compare) else f"({name(each)})" for each in test.of)


def source_name(source: Source) -> str:
    """Where a value comes from, as a person says it."""
    if isinstance(source, FromStep):
        return source.step + "".join(f"[{key!r}]" for key in source.path)
    if isinstance(source, FromParam):
        return source.name + "".join(f"[{key!r}]" for key in source.path)
    if isinstance(source, FromValue):
        return _shown(source.value)
    if isinstance(source, FromFirst):
        return f"choose({', '.join(map(source_name, source.items))})"
    return "a value"


def missing(source: Source, absent: Collection[str]) -> str:
    """The step that was passed over and without which there is no such value; empty when there is one."""
    if not absent:
        return ""
    if isinstance(source, FromStep):
        return source.step if source.step in absent else ""
    if isinstance(source, FromFirst):
        found = [missing(item, absent) for item in source.items]
        return "" if source.has_default or not all(found) else found[0]
    items = getattr(source, "items", ())
    values = items.values() if isinstance(items, dict) else items
    return next((step for item in values if (step := missing(item, absent))), "")


def _plain(source: Source, look: Look) -> Any:
    value = look(source)
    if not isinstance(value, Json):
        raise Invalid(
            f"A condition looks at {source_name(source)}, which is no plain value.",
            hint="Return a number, a text or a dict of them; the server does not unpickle anything.",
        )
    return value.value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_LENGTH_MAX else text[: SHOWN_LENGTH_MAX - 1] + "…"
