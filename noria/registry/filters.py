"""From parsed conditions to bound SQL over models and versions. Names come from closed tables, values are always bound."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.filters import Comparison, OrderBy
from noria.registry.model import PROMPT_TAG, Model, ModelVersion

_ATTRIBUTES = ("", "attribute", "attributes", "attr")
_TAGS = ("tag", "tags")
_INT64 = 1 << 63
_PLAIN = frozenset({"=", "!=", "<", "<=", ">", ">="})


class Column(Struct, frozen=True):
    """One sortable column: its SQL, its type, and how to read it back from a row."""

    sql: str
    type: type
    read: Callable[[Any], Any]


class Query(Struct, frozen=True):
    """The pieces of one statement; `key_of` gives a row's sort key, for the page token."""

    where: str
    order: str
    params: dict[str, Any]
    columns: list[Column]

    def key_of(self, row: Any) -> list[Any]:
        return [column.read(row) for column in self.columns]


_MODELS: dict[str, Column] = {
    "name": Column("m.name", str, lambda m: m.name),
    "creation_timestamp": Column("m.created_at_ms", int, lambda m: m.created_at_ms),
    "last_updated_timestamp": Column("m.updated_at_ms", int, lambda m: m.updated_at_ms),
    "timestamp": Column("m.updated_at_ms", int, lambda m: m.updated_at_ms),  # MLflow's older name of it
}
_VERSIONS: dict[str, Column] = {
    "name": Column("m.name", str, lambda v: v.model),
    "version_number": Column("v.number", int, lambda v: v.number),
    "version": Column("v.number", int, lambda v: v.number),
    "run_id": Column("v.run_id", str, lambda v: v.run_id),
    "source_path": Column("v.source", str, lambda v: v.source),
    "creation_timestamp": Column("v.created_at_ms", int, lambda v: v.created_at_ms),
    "last_updated_timestamp": Column("v.updated_at_ms", int, lambda v: v.updated_at_ms),
}
_MODEL_ID = Column("m.id", str, lambda m: m.id)
_VERSION_ID = Column("v.id", str, lambda v: v.id)


def compile_models(dialect: str, where: list[Comparison], order: list[OrderBy], after: list[Any] | None) -> Query:
    """Models; by name unless told otherwise."""
    return _compile(dialect, where, order or [OrderBy("", "name")], after, _MODELS, ("model_tag", "model_id"), _MODEL_ID)


def compile_versions(dialect: str, where: list[Comparison], order: list[OrderBy], after: list[Any] | None) -> Query:
    """Versions; last updated first unless told otherwise, as MLflow orders them."""
    latest_first = [OrderBy("", "last_updated_timestamp", False), OrderBy("", "name"), OrderBy("", "version_number", False)]
    order = order or latest_first
    return _compile(dialect, where, order, after, _VERSIONS, ("model_version_tag", "version_id"), _VERSION_ID)


def _compile(
    dialect: str,
    where: list[Comparison],
    order: list[OrderBy],
    after: list[Any] | None,
    columns: dict[str, Column],
    tags: tuple[str, str],
    tie: Column,
) -> Query:
    params: dict[str, Any] = {}
    clauses = [_condition(dialect, c, f"f{i}", columns, tags, tie, params) for i, c in enumerate(where)]
    keys = [(_column(columns, o.entity, o.key, "order_by"), o.ascending) for o in order] + [(tie, True)]
    if after is not None:
        clauses.append(_beyond(keys, after, params))
    return Query(
        where=" and ".join(clauses) or "1 = 1",
        order=", ".join(f"{column.sql} {'asc' if up else 'desc'}" for column, up in keys),
        params=params,
        columns=[column for column, _ in keys],
    )


def _column(columns: dict[str, Column], entity: str, key: str, where: str) -> Column:
    if entity in _ATTRIBUTES and key in columns:
        return columns[key]
    raise Invalid(
        f"{'.'.join(p for p in (entity, key) if p)!r} cannot be used here.",
        where=where,
        hint=f"Use {', '.join(sorted(columns))}, or tags.<key>.",
    )


def _condition(
    dialect: str,
    c: Comparison,
    name: str,
    columns: dict[str, Column],
    tags: tuple[str, str],
    tie: Column,
    params: dict[str, Any],
) -> str:
    if c.entity in _TAGS:
        table, owner = tags
        params[f"{name}k"] = c.key
        has = f"exists (select 1 from {table} t where t.{owner} = {tie.sql} and t.key = :{name}k"
        if c.op in ("is null", "is not null"):
            return ("not " if c.op == "is null" else "") + has + ")"
        if c.key == PROMPT_TAG and c.op == "!=":  # MLflow's client means: also where it is absent
            params[name] = _typed(c.value, str, c.key)
            return f"not {has} and t.value = :{name})"
        return f"{has} and {_compare(dialect, 't.value', str, c, name, params)})"
    column = _column(columns, c.entity, c.key, "filter")
    if c.op in ("is null", "is not null"):
        return "1 = 0" if c.op == "is null" else "1 = 1"  # none of the columns is ever null
    return _compare(dialect, column.sql, column.type, c, name, params)


def _compare(dialect: str, sql: str, type_: type, c: Comparison, name: str, params: dict[str, Any]) -> str:
    if c.op in _PLAIN:
        params[name] = _typed(c.value, type_, c.key)
        return f"{sql} {'<>' if c.op == '!=' else c.op} :{name}"
    if c.op in ("in", "not in"):
        params[name] = [_typed(v, type_, c.key) for v in c.value]
        return f"{'not ' if c.op == 'not in' else ''}{sql} in :{name}"
    if type_ is not str:
        raise Invalid(f"{c.key} is a number; it cannot be compared with {c.op}.", where="filter")
    negated, like = ("not ", c.op[4:]) if c.op.startswith("not ") else ("", c.op)
    if like == "like" and dialect == "sqlite":  # its LIKE ignores case; GLOB does not
        params[name] = _glob(str(c.value))
        return f"{negated}({sql} glob :{name})"
    if like == "ilike":
        sql = f"lower({sql})"
    params[name] = str(c.value) if like == "like" else str(c.value).lower()
    # SQLite has no escape character unless told to; PostgreSQL has one unless told not to.
    return f"{negated}({sql} like :{name}" + (" escape '')" if dialect == "postgresql" else ")")


def _typed(value: Any, type_: type, key: str) -> Any:
    if type_ is int:
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
            return int(value)
        if isinstance(value, int | float) and -_INT64 <= value < _INT64 and value == int(value):
            return int(value)
        raise Invalid(f"{key} is compared with whole numbers.", where="filter")
    if isinstance(value, str):
        return value
    raise Invalid(f"{key} is compared with text.", where="filter", hint="Put it in single quotes.")


def _glob(pattern: str) -> str:
    return "".join({"%": "*", "_": "?"}.get(c, f"[{c}]" if c in "*?[" else c) for c in pattern)


def _beyond(keys: list[tuple[Column, bool]], after: list[Any], params: dict[str, Any]) -> str:
    """The rows after `after` in this order: a first key beyond, or equal and the next beyond, and so on."""
    for i, ((column, _), value) in enumerate(zip(keys, after, strict=True)):
        if type(value) is not column.type:
            raise Invalid("The page token belongs to another list.", where="page", hint="Start again without it.")
        params[f"p{i}"] = value
    ways = []
    for i, (column, up) in enumerate(keys):
        same = [f"{keys[j][0].sql} = :p{j}" for j in range(i)]
        ways.append("(" + " and ".join([*same, f"{column.sql} {'>' if up else '<'} :p{i}"]) + ")")
    return "(" + " or ".join(ways) + ")"


def key_size(order: list[OrderBy], *, of: type[Model] | type[ModelVersion]) -> int:
    """How many parts a page token of this order has."""
    return (len(order) or (1 if of is Model else 3)) + 1
