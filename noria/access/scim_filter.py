"""The filters of SCIM (RFC 7644, 3.4.2.2): `userName eq "ada" and not (emails.value co "x")`, as a question to a resource.

Names of attributes do not tell letters apart, nor do texts, except for ids; a filter is at most 1,000 letters long and 10 deep.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from noria.kernel.errors import Invalid

LENGTH_MAX, DEPTH_MAX = 1_000, 10
CASE_EXACT = frozenset({"id", "externalid", "value"})
_TOKEN = re.compile(r'\s*(?:(\(|\)|\[|\])|("(?:[^"\\]|\\.)*")|([A-Za-z][\w.$:\-]*)|(-?\d+(?:\.\d+)?))', re.DOTALL)
Test = Callable[[dict[str, Any]], bool]


def parse(text: str) -> Test:
    """The question that `text` asks. Raises Invalid."""
    if len(text) > LENGTH_MAX:
        raise Invalid(f"The filter is longer than {LENGTH_MAX} letters.", where="filter")
    reader = _Reader(text)
    test = reader.any_of(0)
    if reader.peek() is not None:
        raise _unreadable(text)
    return test


class _Reader:
    """Reads one filter from left to right."""

    def __init__(self, text: str) -> None:
        self._text, self._parts, self._at = text, _split(text), 0

    def peek(self) -> str | None:
        return self._parts[self._at] if self._at < len(self._parts) else None

    def take(self) -> str:
        part = self.peek()
        if part is None:
            raise _unreadable(self._text)
        self._at += 1
        return part

    def any_of(self, depth: int) -> Test:
        tests = [self.all_of(depth)]
        while (self.peek() or "").lower() == "or":
            self.take()
            tests.append(self.all_of(depth))
        return lambda resource: any(test(resource) for test in tests)

    def all_of(self, depth: int) -> Test:
        tests = [self.one(depth)]
        while (self.peek() or "").lower() == "and":
            self.take()
            tests.append(self.one(depth))
        return lambda resource: all(test(resource) for test in tests)

    def one(self, depth: int) -> Test:
        if depth > DEPTH_MAX:
            raise Invalid("The filter is nested too deeply.", where="filter")
        part = self.take()
        if part.lower() == "not":
            inner = self.one(depth + 1)
            return lambda resource: not inner(resource)
        if part == "(":
            test = self.any_of(depth + 1)
            self.close(")")
            return test
        if not part[0].isalpha():
            raise _unreadable(self._text)
        if self.peek() == "[":
            self.take()
            inner = self.any_of(depth + 1)
            self.close("]")
            return lambda resource: any(inner(v) for v in values(resource, part) if isinstance(v, dict))
        return self.comparison(part)

    def close(self, sign: str) -> None:
        if self.take() != sign:
            raise _unreadable(self._text)

    def comparison(self, attribute: str) -> Test:
        operator = self.take().lower()
        if operator == "pr":
            return lambda resource: any(v not in (None, "", [], {}) for v in values(resource, attribute))
        if operator not in _COMPARE:
            raise _unreadable(self._text)
        wanted = _literal(self.take(), self._text)
        is_exact = attribute.rpartition(".")[2].lower() in CASE_EXACT
        compare = _COMPARE[operator]

        def test(resource: dict[str, Any]) -> bool:
            found = values(resource, attribute)
            if operator == "ne":
                return not any(_equal(_fold(v, is_exact), _fold(wanted, is_exact)) for v in found)
            return any(compare(_fold(v, is_exact), _fold(wanted, is_exact)) for v in found)

        return test


def values(resource: dict[str, Any], path: str) -> list[Any]:
    """What is at `path` of a resource; of a list, every member. A schema before the name, with colons, is left out."""
    found: list[Any] = [resource]
    for name in path.rpartition(":")[2].split("."):
        members = [m for v in found for m in (v if isinstance(v, list) else [v])]
        found = [
            value
            for member in members
            if isinstance(member, dict)
            for key, value in member.items()
            if key.lower() == name.lower()
        ]
    flat = [m for v in found for m in (v if isinstance(v, list) else [v])]
    return [m.get("value") if isinstance(m, dict) and "value" in m and "." not in path else m for m in flat] or [None]


def _split(text: str) -> list[str]:
    parts, at = [], 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if not found:
            raise _unreadable(text)
        parts.append(found.group().strip())
        at = found.end()
    return parts


def _literal(part: str, text: str) -> Any:
    try:
        return msgspec.json.decode(part.lower() if part.lower() in ("true", "false", "null") else part)
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise _unreadable(text) from cause


def _fold(value: Any, is_exact: bool) -> Any:
    return value if is_exact or not isinstance(value, str) else value.casefold()


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _texts(compare: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    return lambda a, b: isinstance(a, str) and isinstance(b, str) and compare(a, b)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda a, b: type(a) is type(b) and isinstance(a, str | int | float) and not isinstance(a, bool) and compare(a, b)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": _equal,
    "ne": lambda a, b: not _equal(a, b),
    "co": _texts(lambda a, b: b in a),
    "sw": _texts(str.startswith),
    "ew": _texts(str.endswith),
    "gt": _ordered(lambda a, b: a > b),
    "ge": _ordered(lambda a, b: a >= b),
    "lt": _ordered(lambda a, b: a < b),
    "le": _ordered(lambda a, b: a <= b),
}


def _unreadable(text: str) -> Invalid:
    return Invalid(f"The filter {text[:200]!r} cannot be read.", where="filter", hint='For instance: userName eq "ada".')
