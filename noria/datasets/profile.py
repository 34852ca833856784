"""What is in a table: types, nulls, distinct values, quantiles, a histogram, frequent values; computed once per content.

A profile is a function of the file's bytes (and of LAYOUT), so it is kept under the file's digest and shared by every
version that holds the file. A file that is not the table its name says gets a profile that says so, and is committed all
the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from noria.datasets.model import Column, ColumnKind, ColumnProfile, Histogram, TableFormat, TableProfile, Value, ValueCount
from noria.datasets.tables import Table, Unreadable, closed_duckdb, load, plain, reason
from noria.kernel.errors import Unavailable

LAYOUT = 1  # grows when profiles change their meaning; older ones are then computed anew
COLUMNS_MAX = 1_000
TABLE_BYTES_MAX = 4 << 30
QUANTILES = 200  # steps: the values at 0, 0.5 %, …, 100 %
BINS = 30
TOP_MAX = 50  # values listed; a column with no more distinct ones is listed in full
EXACT_ROWS_MAX = 2_000_000  # beyond, distinct values and quantiles are estimated (HyperLogLog, t-digest)


def profile_file(save: Callable[[Path], Any], format_: TableFormat, size_bytes: int) -> TableProfile:
    """The profile of the file that `save` writes to a path. Raises Unavailable when this machine cannot compute it now."""
    import duckdb

    if size_bytes > TABLE_BYTES_MAX:
        return _without(format_, "skipped", f"It is larger than {TABLE_BYTES_MAX >> 30} GiB.")
    with closed_duckdb() as (connection, folder):
        file = folder / f"table.{format_}"
        save(file)
        try:
            return profile_table(connection, load(connection, file, format_, "t", "c"), format_)
        except Unreadable as problem:
            return _without(format_, "unreadable", str(problem))
        except duckdb.OutOfMemoryException as cause:
            return _without(format_, "skipped", f"It takes more memory than there is: {reason(cause)}")
        except duckdb.Error as cause:
            if "space left" in str(cause).lower():
                raise Unavailable("The disk is full.", hint="Free space for temporary files.", retry_after_s=60) from cause
            return _without(format_, "unreadable", reason(cause))


def profile_table(connection: Any, table: Table, format_: TableFormat) -> TableProfile:
    """The profile of a loaded table."""
    rows = int(connection.execute(f"select count(*) from {table.name}").fetchone()[0])
    columns = [
        _Profiler(connection, table.name, f"{table.prefix}{i}", column, kind, rows).profile()
        for i, (column, kind) in enumerate(zip(table.columns, table.kinds, strict=True))
        if i < COLUMNS_MAX
    ]
    cut = f"Only the first {COLUMNS_MAX:,} of {len(table.columns):,} columns." if len(table.columns) > COLUMNS_MAX else ""
    return TableProfile(path="", format=format_, state="ready", reason=cut, rows_count=rows, columns=columns)


def _without(format_: TableFormat, state: Any, why: str) -> TableProfile:
    return TableProfile(path="", format=format_, state=state, reason=why)


class _Profiler:
    """One column. `x` is its value in SQL, `v` the same as a finite double (times: milliseconds since 1970) or null."""

    def __init__(self, connection: Any, table: str, x: str, column: Column, kind: ColumnKind, rows: int) -> None:
        self._connection = connection
        self._column, self._kind, self._rows = column, kind, rows
        double = f"epoch_ms({x}::timestamp)::double" if kind == "time" else f"{x}::double"
        v = f"case when isfinite({double}) then {double} end" if kind in ("numeric", "time") else "null::double"
        if kind == "time":
            v = f"case when isfinite({x}) then {double} end"  # 'infinity' is a timestamp too
        self._from = f"(select {x} as x, {v} as v from {table})"

    def profile(self) -> ColumnProfile:
        known = self._ask("select count(x), count(v) from {t}")
        nulls = self._rows - known[0]
        shared: dict[str, Any] = {
            "name": self._column.name, "type": self._column.type, "kind": self._kind, "rows": self._rows, "nulls": nulls,
        }  # fmt: skip
        if self._kind == "other":
            return ColumnProfile(**shared)
        is_exact = self._rows <= EXACT_ROWS_MAX
        distinct = self._ask(f"select {'count(distinct x)' if is_exact else 'approx_count_distinct(x)'} from {{t}}")[0]
        shared |= {"distinct": distinct, "distinct_is_exact": is_exact}
        shared |= self._extremes()
        top, is_complete = self._top(distinct)
        if self._kind in ("numeric", "time"):
            shared |= {"nans": known[0] - known[1], **self._numbers(known[1], is_exact)}
        return ColumnProfile(**shared, top=top, top_is_complete=is_complete and is_exact)

    def _extremes(self) -> dict[str, Value]:
        if self._kind == "numeric":
            low, high = self._ask("select min(x), max(x) from {t} where v is not null")
            return {"min": _number(low), "max": _number(high)}
        where = "where v is not null" if self._kind == "time" else ""
        low, high = self._ask(f"select min(x), max(x) from {{t}} {where}")
        return {"min": plain(low), "max": plain(high)}

    def _numbers(self, count: int, is_exact: bool) -> dict[str, Any]:
        if not count:
            return {}
        shares = ", ".join(f"{i / QUANTILES:.4f}" for i in range(QUANTILES + 1))
        how = "quantile_disc" if is_exact else "approx_quantile"
        mean, quantiles = self._ask(f"select avg(v), {how}(v, [{shares}]) from {{t}}")
        return {
            "mean": _finite(mean),
            "std": self._std(),
            "quantiles": [float(q) for q in quantiles],
            "histogram": self._histogram(float(quantiles[0]), float(quantiles[-1])),
        }

    def _std(self) -> float | None:
        import duckdb

        try:
            return _finite(self._ask("select stddev_samp(v) from {t}")[0])
        except duckdb.OutOfRangeException:  # the squares of very large values
            return None

    def _histogram(self, low: float, high: float) -> Histogram | None:
        width = (high - low) / BINS
        if not math.isfinite(width):
            return None
        if width == 0 or low + width == low:
            return Histogram(edges=[low, high], counts=[self._ask("select count(v) from {t}")[0]])
        found = self._connection.execute(
            f"""select greatest(0, least(floor((v - ?) / ?), {BINS - 1}))::int as bin, count(*)
                  from {self._from} where v is not null group by bin""",
            [low, width],
        ).fetchall()
        counts = dict(found)
        edges = [low + i * width for i in range(BINS)] + [high]
        return Histogram(edges=edges, counts=[int(counts.get(i, 0)) for i in range(BINS)])

    def _top(self, distinct: int) -> tuple[list[ValueCount], bool]:
        """The most frequent values; of numbers and times only when there are few, since else they say little."""
        if self._kind in ("numeric", "time") and distinct > TOP_MAX:
            return [], False
        found = self._connection.execute(
            f"""select x, count(*) as n from {self._from}
                 where x is not null {"and v is not null" if self._kind in ("numeric", "time") else ""}
                 group by x order by n desc, x limit {TOP_MAX}"""
        ).fetchall()
        number = _number if self._kind == "numeric" else plain
        return [ValueCount(value=number(x), count=int(n)) for x, n in found], distinct <= TOP_MAX

    def _ask(self, sql: str) -> Any:
        return self._connection.execute(sql.replace("{t}", self._from)).fetchone()


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _number(value: Any) -> Value:
    """Integers stay integers while JSON can carry them; decimals become floats."""
    if isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63:
        return value
    return _finite(value)
