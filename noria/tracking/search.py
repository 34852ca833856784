"""From filters and sort keys to bound SQL over runs, experiments and logged models.

Names come from the closed tables below, values and keys are always bound. Every sort key is an expression that is never null
(missing values have a rank of their own), so that one comparison says where the next page begins.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.filters import Comparison, OrderBy
from noria.kernel.paging import decode_token, encode_token

_ENTITIES = {
    "": "attribute", "attribute": "attribute", "attributes": "attribute", "attr": "attribute", "run": "attribute",
    "metric": "metric", "metrics": "metric",
    "param": "param", "params": "param", "parameter": "param", "parameters": "param",
    "tag": "tag", "tags": "tag",
    "dataset": "dataset", "datasets": "dataset",
}  # fmt: skip


class Shape(Struct, frozen=True):
    """What one kind of list can be searched and sorted by. Its table is `r` in every query."""

    what: str
    texts: dict[str, str]  # attribute -> expression
    numbers: dict[str, str]
    tables: dict[str, tuple[str, str]]  # entity -> (table, column of the owner)
    at: str  # the time that sorts when nothing else does
    has_datasets: bool = False

    def attributes(self) -> str:
        return ", ".join(sorted({*self.numbers, *self.texts}))


RUNS = Shape(
    what="runs",
    texts={
        "run_id": "r.id", "id": "r.id", "run_name": "r.name", "name": "r.name", "run name": "r.name", "Run name": "r.name",
        "Run Name": "r.name", "status": "r.status", "user_id": "r.user_name", "user": "r.user_name", "actor": "r.actor",
        "experiment_id": "r.experiment_id", "source_commit": "r.source_commit",
        "artifact_uri": "'mlflow-artifacts:/' || r.experiment_id || '/' || r.id || '/artifacts'",
    },
    numbers={
        "start_time": "r.started_at_ms", "started_at_ms": "r.started_at_ms", "created": "r.started_at_ms",
        "Created": "r.started_at_ms", "end_time": "r.ended_at_ms", "ended_at_ms": "r.ended_at_ms",
    },
    tables={"metric": ("series", "run_id"), "param": ("param", "run_id"), "tag": ("tag", "run_id")},
    at="r.started_at_ms",
    has_datasets=True,
)  # fmt: skip
EXPERIMENTS = Shape(
    what="experiments",
    texts={"name": "r.name", "experiment_id": "r.id", "id": "r.id"},
    numbers={
        "creation_time": "r.created_at_ms", "created_at_ms": "r.created_at_ms",
        "last_update_time": "r.updated_at_ms", "updated_at_ms": "r.updated_at_ms",
    },
    tables={"tag": ("experiment_tag", "experiment_id")},
    at="r.created_at_ms",
)  # fmt: skip
MODELS = Shape(
    what="logged models",
    texts={
        "name": "r.name", "model_id": "r.id", "model_type": "r.model_type",
        "status": "replace(r.status, 'LOGGED_MODEL_', '')",
        "source_run_id": "r.source_run_id", "experiment_id": "r.experiment_id",
    },
    numbers={
        "creation_timestamp": "r.created_at_ms", "creation_time": "r.created_at_ms",
        "last_updated_timestamp": "r.updated_at_ms", "last_update_time": "r.updated_at_ms",
    },
    tables={
        "metric": ("logged_model_metric", "model_id"), "param": ("logged_model_param", "model_id"),
        "tag": ("logged_model_tag", "model_id"),
    },
    at="r.created_at_ms",
)  # fmt: skip

_DATASET_COLUMNS = {"name": "d.name", "digest": "d.digest"}
_CONTEXT_TAG = "mlflow.data.context"
_NUMBER_OPS = ("=", "!=", "<", "<=", ">", ">=")
_TEXT_OPS = ("=", "!=", "like", "ilike", "not like", "not ilike", "in", "not in")
_PREFIX = 200  # how much of a value the index holds; see the migration


class Condition(Struct):
    """A piece of SQL and what it binds."""

    sql: str
    params: dict[str, Any]


class SortKey(Struct, frozen=True):
    """One expression to sort by, never null."""

    sql: str
    ascending: bool
    kind: Literal["number", "text"]


class Order(Struct, frozen=True):
    """How a list is sorted: joins that fetch the values, then keys; the id of a run decides last."""

    joins: str
    params: dict[str, Any]
    keys: list[SortKey]

    @property
    def columns(self) -> str:
        """The sort keys as columns k0, k1, … of a query."""
        return "".join(f", {key.sql} as k{i}" for i, key in enumerate(self.keys))

    @property
    def clause(self) -> str:
        return ", ".join(f"{key.sql} {'asc' if key.ascending else 'desc'}" for key in self.keys)

    def after(self, token: str | None) -> Condition:
        """The condition that leaves only what comes after `token`. Raises Invalid."""
        if not token:
            return Condition("", {})
        parts = decode_token(token, size=len(self.keys))
        values = {f"after{i}": _read(part, key.kind) for i, (part, key) in enumerate(zip(parts, self.keys, strict=True))}
        if len({key.ascending for key in self.keys}) == 1:
            # One direction: a row comparison, which an index on these columns can start from.
            ours, theirs = ", ".join(k.sql for k in self.keys), ", ".join(f":{name}" for name in values)
            return Condition(f"({ours}) {'>' if self.keys[0].ascending else '<'} ({theirs})", values)
        cases = []
        for i, key in enumerate(self.keys):
            equal = [f"{k.sql} = :after{j}" for j, k in enumerate(self.keys[:i])]
            cases.append(" and ".join([*equal, f"{key.sql} {'>' if key.ascending else '<'} :after{i}"]))
        return Condition("(" + " or ".join(f"({case})" for case in cases) + ")", values)

    def token(self, row: dict[str, Any]) -> str:
        """The page token that goes on after `row`, which has the columns k0, k1, …"""
        return encode_token(*[_write(row[f"k{i}"]) for i in range(len(self.keys))])


def _write(value: Any) -> Any:
    return repr(value) if isinstance(value, float) else value  # JSON has no infinity


def _read(value: Any, kind: str) -> Any:
    if kind == "text" and isinstance(value, str):
        return value
    if kind == "number" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == "number" and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isnan(number):
            return number
    raise Invalid("The page token belongs to another list.", where="page", hint="Start again without it.")


def compile_filter(comparisons: list[Comparison], dialect: str, shape: Shape = RUNS) -> Condition:
    """All comparisons as one SQL condition on `r`; '1 = 1' for none. Raises Invalid."""
    parts, params = ["1 = 1"], dict[str, Any]()
    for i, comparison in enumerate(comparisons):
        parts.append(compile_comparison(comparison, f"f{i}", params, dialect, shape))
    return Condition(" and ".join(parts), params)


def compile_comparison(c: Comparison, name: str, params: dict[str, Any], dialect: str, shape: Shape) -> str:
    entity = _ENTITIES.get(c.entity)
    if entity == "attribute":
        return _attribute(c, name, params, dialect, shape)
    if entity == "dataset" and shape.has_datasets:
        return _dataset(c, name, params, dialect)
    if entity not in shape.tables:
        raise Invalid(
            f"{c.entity!r} is not something {shape.what} are searched by.", where="filter",
            hint=f"Use attributes. or {', '.join(t + 's.' for t in shape.tables)}; put names with dots in quotes.",
        )  # fmt: skip
    table, owner = shape.tables[entity]
    params[f"{name}k"] = c.key
    one = f"select 1 from {table} x where x.{owner} = r.id and x.key = :{name}k"
    if c.op in ("is null", "is not null"):
        return f"{'not ' if c.op == 'is null' else ''}exists ({one})"
    value = compare(c, "x.value", name, params, dialect, numeric=entity == "metric")
    if entity == "metric":
        value = f"x.is_nan = false and {value}"
    elif c.op == "=":
        # Few things have one value: the list of them is quicker than asking each. The index holds the beginning of a value;
        # SQLite drops it from the plan when the value itself is compared too.
        is_short = len(c.value) < _PREFIX
        value = f"substr(x.value, 1, {_PREFIX}) = substr(:{name}v, 1, {_PREFIX})"
        value += "" if is_short else f" and x.value || '' = :{name}v"
        return f"r.id in (select x.{owner} from {table} x where x.key = :{name}k and {value})"
    return f"exists ({one} and {value})"


def _attribute(c: Comparison, name: str, params: dict[str, Any], dialect: str, shape: Shape) -> str:
    if c.key in shape.numbers:
        column, numeric = shape.numbers[c.key], True
    elif c.key in shape.texts:
        column, numeric = shape.texts[c.key], False
    else:
        raise Invalid(
            f"There is no attribute {c.key!r} to search {shape.what} by.",
            where="filter",
            hint=f"Known: {shape.attributes()}.",
        )
    if c.op in ("is null", "is not null"):
        return f"({column}) {c.op}"
    return compare(c, f"({column})", name, params, dialect, numeric=numeric)


def _dataset(c: Comparison, name: str, params: dict[str, Any], dialect: str) -> str:
    if c.key == "context":
        # The context is a tag of the input; tags are JSON text, compared as the text that carries this value.
        if c.op not in ("=", "!="):
            raise Invalid("datasets.context can only be compared with = or !=.", where="filter")
        fragment = msgspec.json.encode({_CONTEXT_TAG: str(c.value)}).decode()[1:-1]
        params[f"{name}v"] = fragment
        found = f"select d.run_id from run_input d where {_contains('d.tags', f'{name}v', dialect)}"
        return f"r.id {'in' if c.op == '=' else 'not in'} ({found})"
    if c.key not in _DATASET_COLUMNS:
        raise Invalid(f"Datasets have no {c.key!r} to search by.", where="filter", hint="Known: name, digest, context.")
    if c.op in ("is null", "is not null"):
        return f"r.id {'not in' if c.op == 'is null' else 'in'} (select d.run_id from run_input d)"
    value = compare(c, _DATASET_COLUMNS[c.key], name, params, dialect, numeric=False)
    return f"r.id in (select d.run_id from run_input d where {value})"


def _contains(column: str, param: str, dialect: str) -> str:
    return f"instr({column}, :{param}) > 0" if dialect == "sqlite" else f"strpos({column}, :{param}) > 0"


def compare(c: Comparison, column: str, name: str, params: dict[str, Any], dialect: str, *, numeric: bool) -> str:
    if c.op not in (_NUMBER_OPS if numeric else _TEXT_OPS):
        raise Invalid(f"{c.key!r} cannot be compared with {c.op}.", where="filter")
    values = c.value if isinstance(c.value, list) else [c.value]
    if not all(isinstance(v, int | float) if numeric else isinstance(v, str) for v in values):
        raise Invalid(
            f"{c.key!r} is compared with {'a number' if numeric else 'text'}.", where="filter",
            hint="Write numbers plainly and text in 'quotes'.",
        )  # fmt: skip
    if numeric and isinstance(c.value, int) and not -(2**63) <= c.value < 2**63:
        raise Invalid("A number in the filter does not fit 64 bits.", where="filter")
    params[f"{name}v"] = _pattern(c, dialect) if "like" in c.op else c.value
    if "like" in c.op:
        return _like(c.op, column, f"{name}v", dialect)
    if c.op == "not in":
        return f"not {column} in :{name}v"
    return f"{column} {c.op} :{name}v"


def _like(op: str, column: str, param: str, dialect: str) -> str:
    """`like` minds case, `ilike` does not, on both databases; no character escapes."""
    negated = "not " if op.startswith("not") else ""
    if dialect == "sqlite":  # its `like` ignores case, its `glob` does not
        return f"{column} {negated}{'like' if 'ilike' in op else 'glob'} :{param}"
    return f"{column} {negated}{'ilike' if 'ilike' in op else 'like'} :{param} escape ''"


def _pattern(c: Comparison, dialect: str) -> str:
    text = str(c.value)
    if dialect != "sqlite" or "ilike" in c.op:
        return text
    return "".join({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(ch, ch) for ch in text)


def compile_order(orders: list[OrderBy], shape: Shape = RUNS) -> Order:
    """Sort keys: what was asked for, then latest first. What lacks the value comes last, NaN just before."""
    joins, params, keys = list[str](), dict[str, Any](), list[SortKey]()
    for i, order in enumerate(orders):
        entity, name = _ENTITIES.get(order.entity), f"o{i}"
        if entity == "attribute":
            keys += _attribute_keys(order, shape)
            continue
        if entity not in shape.tables:
            raise Invalid(f"{shape.what.capitalize()} cannot be sorted by {order.entity!r}.", where="order_by")
        table, owner = shape.tables[entity]
        params[f"{name}k"] = order.key
        if table == "logged_model_metric":  # has many numbers of one key: the latest decides
            table = _LATEST_OF_MODEL
        joins.append(f"left join {table} {name} on {name}.{owner} = r.id and {name}.key = :{name}k")
        if entity == "metric":
            keys.append(
                SortKey(f"case when {name}.value is null then 2 when {name}.is_nan then 1 else 0 end", True, "number")
            )
            keys.append(SortKey(f"coalesce({name}.value, 0.0)", order.ascending, "number"))
        else:
            keys.append(SortKey(f"case when {name}.value is null then 1 else 0 end", True, "number"))
            keys.append(SortKey(f"coalesce({name}.value, '')", order.ascending, "text"))
    if not any(key.sql == shape.at for key in keys):
        keys.append(SortKey(shape.at, False, "number"))
    directions = {key.ascending for key in keys}
    keys.append(SortKey("r.id", directions == {True}, "text"))
    return Order("\n".join(joins), params, keys)


_LATEST_OF_MODEL = """(select model_id, key, max(value) as value, min(is_nan) = 1 as is_nan from (
        select m.model_id, m.key, m.value, case when m.is_nan then 1 else 0 end as is_nan,
               rank() over (partition by m.model_id, m.key order by m.step desc, m.at_ms desc) as place
          from logged_model_metric m) ranked where place = 1 group by model_id, key)"""


def _attribute_keys(order: OrderBy, shape: Shape) -> list[SortKey]:
    if order.key in shape.numbers:
        column = shape.numbers[order.key]
        if column in ("r.ended_at_ms", "r.duration_ms"):  # null while a run or a trace goes on
            return [
                SortKey(f"case when {column} is null then 1 else 0 end", True, "number"),
                SortKey(f"coalesce({column}, 0)", order.ascending, "number"),
            ]
        return [SortKey(column, order.ascending, "number")]
    if order.key in shape.texts:
        return [SortKey(f"({shape.texts[order.key]})", order.ascending, "text")]
    raise Invalid(
        f"There is no attribute {order.key!r} to sort {shape.what} by.",
        where="order_by",
        hint=f"Known: {shape.attributes()}.",
    )
