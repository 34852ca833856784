"""Filters as people type them, in MLflow's grammar, into comparisons that stores compile to bound SQL.

    metrics.loss < 0.3 and params.model = 'forest' and tags."mlflow.user" ilike 'a%' and attributes.status in ('RUNNING')

The text never reaches the database: names are looked up in a closed table, values are always bound.
Source of the grammar: https://mlflow.org/docs/latest/search-runs.html
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from msgspec import Struct

from noria.kernel.errors import Invalid

FILTER_LENGTH_MAX = 8_192
COMPARISONS_MAX = 64
ORDERS_MAX = 16


class Comparison(Struct, frozen=True):
    """One condition: `entity` is '' for a bare name; `op` is one of = != < <= > >= like ilike in 'not in' 'is null' 'is not null'."""

    entity: str
    key: str
    op: str
    value: Any = None


class OrderBy(Struct, frozen=True):
    """One sort key."""

    entity: str
    key: str
    ascending: bool = True


def parse_filter(text: str | None) -> list[Comparison]:
    """The comparisons in `text`, all of which must hold; none for an empty text. Raises Invalid, naming the column at fault."""
    if not text or not text.strip():
        return []
    if len(text) > FILTER_LENGTH_MAX:
        raise Invalid(f"The filter has {len(text)} characters; at most {FILTER_LENGTH_MAX} are read.", where="filter")
    found = list(_parsed(text))
    if len(found) > COMPARISONS_MAX:
        raise Invalid(f"The filter has {len(found)} conditions; at most {COMPARISONS_MAX} are read.", where="filter")
    return found


def parse_order(clauses: list[str]) -> list[OrderBy]:
    """`metrics.loss desc`, `attributes.start_time`. Raises Invalid."""
    if len(clauses) > ORDERS_MAX:
        raise Invalid(f"There are {len(clauses)} sort keys; at most {ORDERS_MAX} are read.", where="order_by")
    return [_order(clause) for clause in clauses if clause.strip()]


def _order(clause: str) -> OrderBy:
    text = clause.strip()
    ascending = True
    for word in (" desc", " asc"):
        if text.lower().endswith(word):
            text, ascending = text[: -len(word)].strip(), word == " asc"
            break
    parsed = parse_filter(f"{text} = 0")
    if len(parsed) != 1:
        raise Invalid(f"{clause!r} is not a sort key.", where="order_by", hint="Write metrics.loss desc.")
    return OrderBy(parsed[0].entity, parsed[0].key, ascending)


@lru_cache(maxsize=512)
def _parsed(text: str) -> tuple[Comparison, ...]:
    """The comparisons of a text; people and scripts ask the same again and again."""
    from noria.kernel.grammar import parse  # the parser is loaded by the first filter

    return tuple(parse(text))
