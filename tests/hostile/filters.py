"""Filters as people and attackers write them: generated from the grammar, then mutated; and what the valid ones mean.

`holds` is a second reading of MLflow's filters, in plain Python over plain rows. It shares no code with the compiler to SQL.
"""

from __future__ import annotations

import math
import operator
import random
import re
from typing import Any

from msgspec import Struct

TEXTS = [
    "forest", "Forest", "linear", "a b", "100%", "x_y", "xay", "it's", 'say "hi"', "back\\slash", "[a]*?", "", "ünï", "0.5", "true",
    "a' or '1'='1", "-- drop", "';", "\\'", "{}", "*", "%", "_",
]  # fmt: skip
PATTERNS = [
    "%",
    "_",
    "%o%",
    "F%",
    "f%",
    "x_y",
    "100%",
    "%'%",
    '%"%',
    "%\\%",
    "[a]%",
    "%*?",
    "a_b",
    "",
    "__",
    "%ï",
    "ü%",
    "*",
    "?%",
]
NUMBERS = [0, 1, -1, 0.5, 2.5, 1e300, -1e300, 1e-9, 5, 3, 2**53, 2**62]
NUMBER_OPS = ("=", "!=", "<", "<=", ">", ">=", "==", "<>")
TEXT_OPS = ("=", "!=", "like", "ilike", "not like", "not ilike", "in", "not in", "==", "<>")


class Condition(Struct):
    """One comparison, before it is written."""

    entity: str  # metric, param, tag, attribute
    key: str
    op: str
    value: Any = None


class Kind(Struct):
    """What a list can be searched by, in the tests' own words."""

    texts: list[str]  # attributes
    numbers: list[str]
    keys: dict[str, list[str]]  # entity → keys that occur
    has_is_null: bool = True


def some_condition(dice: random.Random, kind: Kind) -> Condition:
    entity = dice.choice(["attribute", "attribute", *kind.keys])
    if entity == "attribute":
        key = dice.choice([*kind.texts, *kind.numbers])
        numeric = key in kind.numbers
    else:
        key, numeric = dice.choice(kind.keys[entity]), entity == "metric"
    if entity != "attribute" and dice.random() < 0.12:
        return Condition(entity, key, dice.choice(["is null", "is not null"]))
    if numeric:
        if dice.random() < 0.1:
            return Condition(entity, key, "between", sorted(dice.sample(NUMBERS[:9], 2)))
        return Condition(entity, key, dice.choice(NUMBER_OPS), dice.choice(NUMBERS))
    op = dice.choice(TEXT_OPS)
    if op in ("in", "not in"):
        return Condition(entity, key, op, dice.sample(TEXTS, dice.randint(1, 4)))
    return Condition(entity, key, op, dice.choice(PATTERNS if "like" in op else TEXTS))


_SPELLED = {
    "metric": ("metric", "metrics"), "param": ("param", "params", "parameters"), "tag": ("tag", "tags"),
    "attribute": ("", "attribute", "attributes"),
}  # fmt: skip


def written(dice: random.Random, conditions: list[Condition]) -> str:
    """The conditions as text, in one of many spellings."""
    join = dice.choice([" and ", " AND ", "  And\n"])
    return join.join(_written(dice, c) for c in conditions)


def _written(dice: random.Random, c: Condition) -> str:
    prefix = dice.choice(_SPELLED[c.entity])
    plain = re.fullmatch(r"[A-Za-z_]\w*", c.key)
    key = c.key if plain and dice.random() < 0.6 else dice.choice([f"`{c.key}`", f'"{c.key}"'])
    name = f"{prefix}.{key}" if prefix else key
    op = c.op.upper() if dice.random() < 0.5 else c.op
    space = dice.choice([" ", "  ", "\t"])
    if c.op.startswith("is"):
        return f"{name} {op}"
    if c.op == "between":
        return f"{name} {op} {c.value[0]!r} and {c.value[1]!r}"
    if isinstance(c.value, list):
        return f"{name}{space}{op}{space}({', '.join(map(_quoted, c.value))})"
    return f"{name}{space}{op}{space}{_quoted(c.value) if isinstance(c.value, str) else repr(c.value)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def mutated(dice: random.Random, text: str) -> str:
    """`text` with a few characters or words taken out, doubled, swapped or put in."""
    words = [
        "'", '"', "`", "(", ")", ";", "--", "/*", " or ", " and ", " not ", "%", "\\", "\x00", "\ud800",
        "١", "9" * 30, "1e400", "null", " union select ",
        ".", ",", "=", "metrics", "params.", "tags.`a", " is ", " in (", "between", "\u2028",
        "$1", ":f0v", "?", "::text", "{}", "->>'a'", "\n",
    ]  # fmt: skip
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(text) + 1)
        end = min(len(text), at + dice.randint(0, 5))
        what = dice.randrange(4)
        if what == 0:
            text = text[:at] + dice.choice(words) + text[at:]
        elif what == 1:
            text = text[:at] + text[end:]
        elif what == 2:
            text = text[:at] + text[at:end] * 2 + text[end:]
        else:
            text = text[:at] + dice.choice(words) + text[end:]
    return text


def holds(row: dict[str, Any], c: Condition) -> bool:
    """Does `row` ({"attribute": {…}, "metric": {…}, …}) meet the condition? What a row lacks meets nothing but `is null`."""
    value = row.get(c.entity, {}).get(c.key)
    if c.op == "is null":
        return value is None
    if c.op == "is not null":
        return value is not None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    if c.op == "between":
        return bool(c.value[0] <= value <= c.value[1])
    if c.op in ("in", "not in"):
        return (value in c.value) == (c.op == "in")
    if "like" in c.op:
        flags = re.DOTALL | (re.IGNORECASE | re.ASCII if "ilike" in c.op else 0)
        pattern = "".join({"%": ".*", "_": "."}.get(ch, re.escape(ch)) for ch in c.value)
        return bool(re.fullmatch(pattern, value, flags)) != c.op.startswith("not")
    if c.op in ("=", "==", "!=", "<>"):
        return (value == c.value) == (c.op in ("=", "=="))
    return bool({"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[c.op](value, c.value))
