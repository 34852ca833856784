"""The kinds of facts there are, declared beside the nouns they speak of: `@fact("run.created") class RunCreated(Fact)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct


class Fact(Struct, kw_only=True):
    """The data of one kind of event; subclasses are declared beside the noun they speak of."""


FACTS: dict[str, type[Fact]] = {}
PERSONAL: dict[str, tuple[str, ...]] = {}  # fields that may say something about a person; see personal.py
F = TypeVar("F", bound=type[Fact])


def fact(kind: str, *, personal: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Declare a kind of event: `noun.past_tense`. The catalogue in tests/approval/ lists them all.

    `personal`: its text fields that may say something about a person: names, addresses, free text.
    """

    def declare(data: F) -> F:
        if kind in FACTS and FACTS[kind] is not data:
            raise AssertionError(f"the fact {kind} is declared twice")
        assert set(personal) <= set(data.__struct_fields__), f"the fact {kind} has no such fields: {personal}"
        FACTS[kind] = data
        if personal:
            PERSONAL[kind] = personal
        return data

    return declare


def check_fact(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """`data` as the declared struct would write it. An undeclared kind or a wrong field is our own mistake."""
    declared = FACTS.get(kind)
    if declared is None:
        raise AssertionError(f"the fact {kind!r} is not declared")
    value = msgspec.convert(data, declared)
    unknown = set(data) - set(declared.__struct_fields__)
    if unknown:
        raise AssertionError(f"the fact {kind!r} has no field {sorted(unknown)}")
    built: dict[str, Any] = msgspec.to_builtins(value)
    return built
