"""Runs by column: what the table of runs reads. Values go from the driver's rows straight into one list per column, without a struct
per cell; that is what keeps ten thousand runs under a second.

Invariant: an answer has at most CELLS_MAX cells; beyond that it is refused with a hint, never cut.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct

from noria.kernel.db import Read, js
from noria.kernel.errors import Invalid
from noria.tracking.store import among

CELLS_MAX = 4_000_000  # about 40 MB of JSON
KEYS_MAX = 5_000  # of each kind, in the catalogue of columns: the most used ones
ATTRIBUTES = {
    "name": "name", "status": "status", "stage": "stage", "experiment_id": "experiment_id", "started_at_ms": "started_at_ms",
    "ended_at_ms": "ended_at_ms", "user": "user_name", "source_commit": "source_commit",
}  # fmt: skip
_TABLES = {"params": "param", "metrics": "series", "tags": "tag"}


class ColumnUse(Struct, frozen=True, kw_only=True):
    """A column that runs have, and how many of them."""

    name: str  # `params.lr`
    runs: int


class ColumnCatalogue(Struct, frozen=True, kw_only=True):
    """The columns there are, most used first. `runs`: how many runs were looked at."""

    runs: int
    items: list[ColumnUse]


class Wanted(Struct, frozen=True, kw_only=True):
    """Columns that were asked for, by what they are."""

    attributes: list[str]
    params: list[str]
    metrics: list[str]
    tags: list[str]


def parse_columns(columns: list[str]) -> Wanted:
    """`["status", "metrics.loss"]` sorted by what they are. Raises Invalid for an unknown one."""
    found: dict[str, list[str]] = {"attributes": [], "metrics": [], "params": [], "tags": []}
    for column in columns:
        entity, dot, key = column.partition(".")
        if not dot and column in ATTRIBUTES:
            found["attributes"].append(column)
        elif entity == "attributes" and key in ATTRIBUTES:
            found["attributes"].append(key)
        elif dot and key and entity in _TABLES:
            found[entity].append(key)
        else:
            raise Invalid(
                f"Runs have no column {column[:80]!r}.", where="columns",
                hint=f"Known: {', '.join(ATTRIBUTES)}, metrics.…, params.…, tags.…",
            )  # fmt: skip
    return Wanted(**{name: list(dict.fromkeys(keys)) for name, keys in found.items()})


def fill(tx: Read, rows: list[dict[str, Any]], wanted: Wanted | None) -> dict[str, list[Any]]:
    """One list per column over `rows`; None: every attribute, param and metric there is. One query for each kind of column."""
    ids = [row["id"] for row in rows]
    place = {run_id: i for i, run_id in enumerate(ids)}
    out: dict[str, list[Any]] = {
        name: [row[ATTRIBUTES[name]] for row in rows] for name in (ATTRIBUTES if wanted is None else wanted.attributes)
    }
    for entity in ("params", "metrics", "tags"):
        keys: list[str] | None = None if wanted is None else getattr(wanted, entity)
        if wanted is None and entity == "tags":
            continue
        if keys is None:
            keys = sorted(item.name.split(".", 1)[1] for item in uses(tx, entity, ids))
        if len(keys) * len(ids) > CELLS_MAX:
            raise Invalid(
                f"{len(ids)} runs × {len(keys)} {entity} are more than one answer holds.", where="columns",
                hint="Name the columns you want, as in columns=name,metrics.loss; /api/v1/runs/columns lists them.",
            )  # fmt: skip
        if not keys or not ids:
            continue
        lists = {key: _empty(out, f"{entity}.{key}", len(ids)) for key in keys}
        if entity == "metrics":
            for run_id, key, value, is_nan in _values(tx, entity, ids, keys):
                lists[key][place[run_id]] = value if not is_nan and math.isfinite(value) else wire_number(value, is_nan)
        else:
            for run_id, key, value in _values(tx, entity, ids, keys):
                lists[key][place[run_id]] = value
    return out


def _empty(out: dict[str, list[Any]], name: str, length: int) -> list[Any]:
    made = out[name] = [None] * length
    return made


def wire_number(value: float, is_nan: bool) -> Any:
    """A number as JSON can hold it: NaN and the infinities become MLflow's words for them."""
    if is_nan or value != value:
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def _values(tx: Read, entity: str, ids: list[str], keys: list[str]) -> list[Any]:
    columns = "run_id, key, value, is_nan" if entity == "metrics" else "run_id, key, value"
    return tx.tuples(
        f"""select {columns} from {_TABLES[entity]}
             where {among(tx, "run_id", "ids")} and {among(tx, "key", "keys")}""",
        ids=js(ids), keys=js(keys),
    )  # fmt: skip


def uses(tx: Read, entity: str, ids: list[str], *, most: int = KEYS_MAX) -> list[ColumnUse]:
    """The keys that these runs have, most used first."""
    rows = tx.tuples(
        f"""select key, count(*) as n from {_TABLES[entity]} where {among(tx, "run_id", "ids")}
             group by key order by n desc, key limit :most""",
        ids=js(ids), most=most,
    )  # fmt: skip
    return [ColumnUse(name=f"{entity}.{key}", runs=int(n)) for key, n in rows]
