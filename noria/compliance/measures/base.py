"""How a check is measured: a function of a `Look` that gives items of evidence, declared by the check's id."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from noria.compliance.look import Look
from noria.compliance.model import Item, State


class Measured(Struct, frozen=True, kw_only=True):
    """What was found: a state before waivers, why in one sentence, and the evidence."""

    state: State
    reason: str
    items: list[Item] = []


Measure = Callable[[Look], Measured]
MEASURES: dict[str, Measure] = {}


def measure(check_id: str) -> Callable[[Measure], Measure]:
    """Declare what measures a check."""

    def declare(call: Measure) -> Measure:
        assert check_id not in MEASURES, f"{check_id} is measured twice"
        MEASURES[check_id] = call
        return call

    return declare


def each(items: list[Item], *, none: str, good: str) -> Measured:
    """The state of all items together: one bad one fails, one that cannot be told leaves it open, none at all does not apply."""
    if not items:
        return Measured(state="not_applicable", reason=none)
    bad, unknown = [i for i in items if i.ok is False], [i for i in items if i.ok is None]
    if bad:
        return Measured(state="fail", reason=_first(bad, len(items)), items=items)
    if unknown:
        return Measured(state="unmeasurable", reason=_first(unknown, len(items)), items=items)
    return Measured(state="pass", reason=good, items=items)


def _first(found: list[Item], of: int) -> str:
    more = f" ({len(found)} of {of})" if of > 1 else ""
    return f"{found[0].says}{more}"


def unmeasurable(reason: str) -> Measured:
    return Measured(state="unmeasurable", reason=reason)


NOTHING_LIVE = "nothing of this system is in production"
NO_DATA = "no dataset version is on record as training data of what is in production"
