"""The grammar of filters and its parser; see noria/kernel/filters.py, which is what others use."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput
from lark.exceptions import VisitError

from noria.kernel.errors import Invalid
from noria.kernel.filters import Comparison

_GRAMMAR = r"""
start: comparison (_AND comparison)*
comparison: key OP value                    -> compare
          | key NOT? LIKE STRING            -> like
          | key NOT? IN "(" value ("," value)* ")" -> among
          | key BETWEEN value _AND value    -> between
          | key IS NOT? NULL                -> is_null
key: part ("." part)*
part: NAME | QUOTED | DOUBLE
value: NUMBER | STRING | DOUBLE
OP: "!=" | "<=" | ">=" | "<>" | "==" | "=" | "<" | ">"
_AND.2: /and\b/i
NOT.2: /not\b/i
LIKE.2: /i?like\b/i
IN.2: /in\b/i
BETWEEN.2: /between\b/i
IS.2: /is\b/i
NULL.2: /null\b/i
NAME: /[A-Za-z_][A-Za-z0-9_\-\/]*/
QUOTED: /`[^`]+`/
DOUBLE: /"(?:[^"\\]|\\.)*"/
STRING: /'(?:[^'\\]|\\.|'')*'/
NUMBER: /[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?/
%ignore /\s+/
"""


def parse(text: str) -> list[Comparison]:
    """The comparisons in `text`. Raises Invalid, naming the column at fault."""
    try:
        found: list[Comparison] = _Build().transform(_parser().parse(text))
    except UnexpectedInput as cause:
        raise Invalid(
            f"The filter cannot be read from character {cause.column} on: …{text[max(0, cause.column - 1) :][:40]!r}.",
            where="filter",
            hint="Write conditions like metrics.loss < 0.3 and params.model = 'forest'; only 'and' joins them.",
        ) from cause
    except VisitError as cause:
        if isinstance(cause.orig_exc, Invalid):
            raise cause.orig_exc from None
        raise
    return found


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="contextual")


class _Build(Transformer[Token, Any]):
    """From the tree to comparisons."""

    def start(self, items: list[Any]) -> list[Comparison]:
        return [c for item in items for c in (item if isinstance(item, list) else [item])]

    def part(self, items: list[Token]) -> str:
        token = items[0]
        return str(token) if token.type == "NAME" else _unquote(str(token))

    def key(self, items: list[str]) -> tuple[str, str]:
        return ("", items[0]) if len(items) == 1 else (items[0].lower(), ".".join(items[1:]))

    def value(self, items: list[Token]) -> Any:
        token = items[0]
        if token.type != "NUMBER":
            return _unquote(str(token))
        text = str(token)
        if len(text) > 64:
            raise Invalid("A number in the filter is too long.", where="filter")
        return float(text) if any(c in text for c in ".eE") else int(text)

    def compare(self, items: list[Any]) -> Comparison:
        (entity, key), op, value = items
        return Comparison(entity, key, {"==": "=", "<>": "!="}.get(str(op), str(op)), value)

    def like(self, items: list[Any]) -> Comparison:
        (entity, key), *words, pattern = items
        negated = len(words) == 2
        return Comparison(entity, key, ("not " if negated else "") + str(words[-1]).lower(), _unquote(str(pattern)))

    def among(self, items: list[Any]) -> Comparison:
        (entity, key), *rest = items
        words = [w for w in rest if isinstance(w, Token)]
        values = [v for v in rest if not isinstance(v, Token)]
        return Comparison(entity, key, "not in" if len(words) == 2 else "in", values)

    def between(self, items: list[Any]) -> list[Comparison]:
        (entity, key), _word, low, high = items
        return [Comparison(entity, key, ">=", low), Comparison(entity, key, "<=", high)]

    def is_null(self, items: list[Any]) -> Comparison:
        (entity, key), *words = items
        return Comparison(entity, key, "is not null" if len(words) == 3 else "is null")


def _unquote(text: str) -> str:
    inner = text[1:-1]
    if text[0] == "'":
        inner = inner.replace("''", "'")
    return inner.replace("\\'", "'").replace('\\"', '"').replace("\\\\", "\\") if "\\" in inner else inner
