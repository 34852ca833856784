"""Attack A17 as JSON text: numbers and strings that databases, encoders and parsers disagree about. And where to put them."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, Union

import msgspec

from noria.kernel.op import Op

# name → the token as it is written into the body. `json.dumps` could write none of the first ones.
TOKENS: dict[str, str] = {
    "NaN": "NaN",
    "infinity": "-Infinity",
    "1e400": "1e400",
    "-1e400": "-1e400",
    "2^63": "9223372036854775808",
    "-2^63-1": "-9223372036854775809",
    "5,000 digits": "7" * 5_000,
    "lone surrogate": '"a\\ud800b"',
    "NUL": '"a\\u0000b"',
    "raw NUL": '"a\x00b"',
    "word NaN": '"NaN"',
    "word 1e400": '"1e400"',
    "word 2^63": '"9223372036854775808"',
    "5,000 digits as a word": '"' + "7" * 5_000 + '"',
    "nested": "[" * 2_000 + "]" * 2_000,
    "object": '{"a": {"b": 1}}',
    "list": '[1, "a", null]',
    "null": "null",
    "true": "true",
    "empty": '""',
    "superscript digits": '"²³"',
    "other digits": '"٣"',
    "percent": '"%\' or 1=1 --"',
    "long": '"' + "x" * 200_000 + '"',
    "bidi": '"\u202e\ufeff\U0001f4a9"',
    "climbing": '"../../etc/passwd"',
}
# What only a database can object to; the second database is asked these alone.
FOR_DATABASES = ("2^63", "-2^63-1", "lone surrogate", "NUL", "word 2^63", "percent", "long", "bidi")

# Whole bodies, for every route that takes one.
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"[]",
    "a list of lists": b"[[1], {}]",
    "a word": b'"x"',
    "null": b"null",
    "a number": b"1e400",
    "cut": b'{"name": "a',
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "100 k deep": b"[" * 100_000,
    "100 k deep in a field": b'{"name": ' + b'{"a":' * 100_000,
    "duplicate keys": b'{"name": "a", "name": "b", "run_id": "0", "run_id": 1, "key": "a", "key": []}',
    "trailing": b'{"name": "a"} {"name": "b"}',
    "NUL": b"\x00",
}
TYPES = (
    "application/json",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "",
    "a/b; \xff",
)

HERE = "\x01here\x01"


class Shape(msgspec.Struct):
    """What a route takes: the names of its path, its query and, if it has a body, the body's type."""

    path: list[str]
    query: dict[str, Any]
    body: Any = None


def shape_of(handler: Any, method: str) -> Shape:
    """Read from the handler's signature, or from the protocol struct it declares."""
    path = [part.name for part in _parts(handler)]
    declared = handler.opt.get("body")
    if declared is not None:
        fields = typing.get_type_hints(declared)
        return Shape(path, fields if method == "GET" else {}, None if method == "GET" else declared)
    hints = typing.get_type_hints(inspect.unwrap(handler.fn))
    body = hints.pop("data", None)
    skipped = {"op", "request", "return", *path}
    return Shape(path, {k: v for k, v in hints.items() if k not in skipped and v is not Op}, body)


def _parts(handler: Any) -> list[Any]:
    import re

    class Part:
        def __init__(self, name: str) -> None:
            self.name = name

    return [Part(n) for n in re.findall(r"\{(\w+):", sorted(handler.paths)[0])]


def filled(type_: Any, known: dict[str, Any], name: str = "", depth: int = 0) -> Any:
    """A plain instance of `type_`, with real ids where a field is named for one."""
    if name in known and depth <= 3:
        return known[name]
    origin, args = typing.get_origin(type_), typing.get_args(type_)
    if origin in (Union, UnionType):
        return filled(next(a for a in args if a is not type(None)), known, name, depth)
    if origin is Literal:
        return args[0]
    if origin in (list, tuple, set, frozenset):
        return [filled(args[0], known, name.removesuffix("s"), depth + 1)] if args and depth < 4 else []
    if origin is dict:
        return {"a": filled(args[1], known, "", depth + 1)} if args and depth < 4 else {}
    if hasattr(type_, "__supertype__"):
        return filled(type_.__supertype__, known, name, depth)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        if depth > 4:
            return {}
        hints = typing.get_type_hints(type_)
        made = {f.encode_name: filled(hints[f.name], known, f.name, depth + 1) for f in msgspec.structs.fields(type_)}
        tag = type_.__struct_config__.tag
        return {**made, **({type_.__struct_config__.tag_field: tag} if tag is not None else {})}
    if type_ is bool:
        return False
    if type_ is int:
        return 1
    if type_ is float:
        return 0.5
    return "a"


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a body: each field, each item, and each key of a free dict."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*at, key))


def written(value: Any, at: tuple[Any, ...], token: str) -> bytes:
    """The body as JSON with `token` at one place."""
    text = json.dumps(_put(value, at))
    return text.replace(json.dumps(HERE), token).encode("utf-8", "surrogatepass")


def _put(value: Any, at: tuple[Any, ...]) -> Any:
    if not at:
        return HERE
    if isinstance(value, dict):
        return {k: _put(v, at[1:]) if k == at[0] else v for k, v in value.items()}
    return [_put(v, at[1:]) if i == at[0] else v for i, v in enumerate(value)]


# In addresses: the same, percent-encoded.
SPELLINGS: dict[str, str] = {
    "NUL": "a%00b",
    "surrogate": "%ed%a0%80",
    "not UTF-8": "%ff%fe",
    "2^63": "9223372036854775808",
    "digits": "7" * 5_000,
    "other digits": "%C2%B2%D9%A3",
    "climbing": "..%2f..%2fetc",
    "twice": "%252e%252e%252f",
    "quote": "%27%20or%201=1%20--",
    "wildcard": "%25",
    "empty": "%20",
    "long": "x" * 4_000,
    "line": "a%0d%0ab",
    "NaN": "NaN",
    "handle": "a@@b:c",
    "negative": "-1",
}
