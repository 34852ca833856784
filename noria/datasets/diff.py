"""What changed between two tables: columns, the distribution of each, rows by key.

Distributions are compared from the two stored profiles, without reading the data again. Rows are compared in DuckDB.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from noria.datasets.model import (
    Column,
    ColumnDiff,
    ColumnProfile,
    Retyped,
    RowChange,
    RowsDiff,
    SchemaDiff,
    TableProfile,
    Value,
)
from noria.datasets.tables import Table, plain
from noria.kernel.errors import Invalid

PSI_BINS = 10
SHARE_FLOOR = 1e-4  # what an empty bin counts as
ROWS_SAMPLED = 50


# --- columns ----------------------------------------------------------------------------------------------------------


def schema_diff(a: Sequence[Column], b: Sequence[Column]) -> SchemaDiff:
    """Columns that came, went or changed their type, in the order of the table they are in."""
    before, after = {c.name: c for c in a}, {c.name: c for c in b}
    return SchemaDiff(
        added=[c for c in b if c.name not in before],
        removed=[c for c in a if c.name not in after],
        retyped=[
            Retyped(name=c.name, before=c.type, after=after[c.name].type)
            for c in a
            if c.name in after and after[c.name].type != c.type
        ],
    )


def column_diffs(a: TableProfile, b: TableProfile) -> list[ColumnDiff]:
    """One entry per column that both tables have."""
    after = {c.name: c for c in b.columns}
    return [column_diff(c, after[c.name]) for c in a.columns if c.name in after]


def column_diff(a: ColumnProfile, b: ColumnProfile) -> ColumnDiff:
    return ColumnDiff(
        name=a.name, kind=b.kind, psi=psi(a, b),
        null_share_before=_share(a.nulls + a.nans, a.rows), null_share_after=_share(b.nulls + b.nans, b.rows),
        mean_before=a.mean, mean_after=b.mean, distinct_before=a.distinct, distinct_after=b.distinct,
    )  # fmt: skip


def psi(a: ColumnProfile, b: ColumnProfile) -> float | None:
    """Population stability index of `b` against `a`, from their profiles; 0 when they are the same.

    Numbers and times: bins are deciles of `a`; what is missing or not finite is a bin of its own. Texts and booleans: one
    bin per value that is frequent in `a`, one for all others. Empty bins count as 1e-4. None when a column is empty, or
    the two are of different kinds. The shares of `b` in the bins come from its stored quantiles (0.5 % apart) unless every
    value is listed, so a share may be off by as much.   Source: Siddiqi, Credit Risk Scorecards (Wiley, 2006).
    """
    if a.kind != b.kind or a.kind == "other" or not a.rows or not b.rows:
        return None
    before, after = _numeric_shares(a, b) if a.kind in ("numeric", "time") else _category_shares(a, b)
    total = 0.0
    for p, q in zip(before, after, strict=True):
        p, q = max(p, SHARE_FLOOR), max(q, SHARE_FLOOR)
        total += (q - p) * math.log(q / p)
    return max(total, 0.0)


def _numeric_shares(a: ColumnProfile, b: ColumnProfile) -> tuple[list[float], list[float]]:
    steps = len(a.quantiles) - 1
    cuts = [a.quantiles[round(steps * i / PSI_BINS)] for i in range(1, PSI_BINS)] if steps > 0 else []
    edges = sorted(set(cuts))
    return _in_bins(a, edges), _in_bins(b, edges)


def _in_bins(column: ColumnProfile, edges: list[float]) -> list[float]:
    """The shares of (-∞, e1], (e1, e2], …, (en, ∞) and of what is missing."""
    known = _share(column.rows - column.nulls - column.nans, column.rows)
    below = cumulative(column)
    upto = [known * below(edge) for edge in edges] + [known]
    return [high - low for low, high in zip([0.0, *upto], upto, strict=False)] + [1.0 - known]


def cumulative(column: ColumnProfile) -> Callable[[float], float]:
    """The share of known values that are ≤ x: exact when all are listed, else read off the quantiles."""
    if column.top_is_complete and column.kind == "numeric" and column.top:
        listed = sorted((float(t.value), t.count) for t in column.top if isinstance(t.value, int | float))
        values, total = [v for v, _ in listed], sum(n for _, n in listed)
        sums = [0]
        for _, n in listed:
            sums.append(sums[-1] + n)
        return lambda x: _share(sums[bisect_right(values, x)], total)
    points = column.quantiles

    def read(x: float) -> float:
        if not points or x < points[0]:
            return 0.0
        if x >= points[-1]:
            return 1.0
        i = bisect_right(points, x) - 1  # the last quantile that is ≤ x; the next one is larger
        return (i + (x - points[i]) / (points[i + 1] - points[i])) / (len(points) - 1)

    return read


def _category_shares(a: ColumnProfile, b: ColumnProfile) -> tuple[list[float], list[float]]:
    before = {t.value: t.count for t in a.top}
    after = {t.value: t.count for t in b.top}

    def shares(counts: dict[Value, int], column: ColumnProfile) -> list[float]:
        listed = [_share(counts.get(value, 0), column.rows) for value in before]
        missing = _share(column.nulls, column.rows)
        return [*listed, max(0.0, 1.0 - missing - sum(listed)), missing]

    return shares(before, a), shares(after, b)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


# --- rows -------------------------------------------------------------------------------------------------------------


def rows_diff(connection: Any, a: Table, b: Table, key: Sequence[str], *, limit: int = ROWS_SAMPLED) -> RowsDiff:
    """Rows of `b` against rows of `a`. Columns that only one side has do not make a row different.

    With a key: joined on it. Raises Invalid when a key column is missing, null somewhere or not unique. Without: whole rows,
    as multisets. Counts are exact; `limit` rows of each kind are given as examples.
    """
    if len(set(key)) != len(key):
        raise Invalid("A key column is named twice.", where="key")
    shared = _shared(a, b)
    if not key:
        return _by_value(connection, a, b, shared, limit)
    for name in key:
        if name not in shared:
            raise Invalid(
                f"There is no column {name!r} in both versions.", where="key", hint="Both have: " + ", ".join(shared) + "."
            )
    for table in (a, b):
        _check_key(connection, table, [shared[n][0] if table is a else shared[n][1] for n in key], key)
    return _by_key(connection, a, b, shared, key, limit)


Pair = tuple[str, str, bool]  # the column in a, the column in b, must they be compared as text?
Shared = dict[str, Pair]  # by name, for the columns that both have


def _shared(a: Table, b: Table) -> Shared:
    after = {c.name: (f"{b.prefix}{i}", k) for i, (c, k) in enumerate(zip(b.columns, b.kinds, strict=True))}
    return {
        c.name: (f"{a.prefix}{i}", after[c.name][0], k != after[c.name][1] or k == "other")
        for i, (c, k) in enumerate(zip(a.columns, a.kinds, strict=True))
        if c.name in after
    }


def _check_key(connection: Any, table: Table, columns: list[str], key: Sequence[str]) -> None:
    side, names = ("a" if table.prefix == "a" else "b"), ", ".join(key)
    listed = ", ".join(columns)
    nulls = connection.execute(
        f"select count(*) from {table.name} where {' or '.join(f'{c} is null' for c in columns)}"
    ).fetchone()[0]
    if nulls:
        raise Invalid(f"The key ({names}) is null in {nulls:,} rows of {side}.", where="key", hint="Use another key.")
    twice = connection.execute(
        f"select {listed}, count(*) from {table.name} group by {listed} having count(*) > 1 order by {listed} limit 1"
    ).fetchone()
    if twice:
        example = ", ".join(str(plain(v)) for v in twice[:-1])
        raise Invalid(
            f"The key ({names}) is not unique in {side}: {example} occurs {twice[-1]:,} times.",
            where="key",
            hint="Name more columns, separated by commas, or leave the key out to compare whole rows.",
        )


def _by_key(connection: Any, a: Table, b: Table, shared: Shared, key: Sequence[str], limit: int) -> RowsDiff:
    keys = [shared[name] for name in key]
    on = " and ".join(_compare(pair, "=") for pair in keys)
    rest = [name for name in shared if name not in key]
    differs = " or ".join(_compare(shared[name], "is distinct from") for name in rest) or "false"
    either = ", ".join(f"coalesce({_x(pair)}, {_y(pair)}) as k{i}" for i, pair in enumerate(keys))
    is_new, is_gone = f"{keys[0][0]} is null", f"{keys[0][1]} is null"
    connection.execute(
        f"""create temp table moved as
            select {either}, case when {is_new} then 'added' when {is_gone} then 'removed' else 'changed' end as what
              from {a.name} full outer join {b.name} on {on}
             where {is_new} or {is_gone} or {differs}"""
    )
    counts = dict(connection.execute("select what, count(*) from moved group by what").fetchall())
    added, removed, changed = (int(counts.get(what, 0)) for what in ("added", "removed", "changed"))
    order = ", ".join(f"k{i}" for i in range(len(keys)))
    in_a = " and ".join(f"{_x(pair)} = k{i}" for i, pair in enumerate(keys))
    in_b = " and ".join(f"{_y(pair)} = k{i}" for i, pair in enumerate(keys))

    def examples(what: str, columns: str, joins: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = connection.execute(
            f"""select {columns} from (select * from moved where what = '{what}' order by {order} limit {int(limit)}) m
                {joins} order by {order}"""
        ).fetchall()
        return found

    both = ", ".join(f"{x}, {y}" for x, y, _ in shared.values())
    return RowsDiff(
        key=list(key), added_count=added, removed_count=removed, changed_count=changed,
        unchanged_count=_count(connection, b.name) - added - changed,
        added=_rows(examples("added", f"{b.name}.*", f"join {b.name} on {in_b}"), b),
        removed=_rows(examples("removed", f"{a.name}.*", f"join {a.name} on {in_a}"), a),
        changed=[
            _row_change(row, shared, key)
            for row in examples("changed", both, f"join {a.name} on {in_a} join {b.name} on {in_b}")
        ],
    )  # fmt: skip


def _by_value(connection: Any, a: Table, b: Table, shared: Shared, limit: int) -> RowsDiff:
    if not shared:
        raise Invalid("The two tables have no column in common.", where="path")
    xs, ys = ", ".join(map(_x, shared.values())), ", ".join(map(_y, shared.values()))
    for name, from_, but in (("came", f"{ys} from {b.name}", f"{xs} from {a.name}"),
                             ("went", f"{xs} from {a.name}", f"{ys} from {b.name}")):  # fmt: skip
        connection.execute(f"create temp table {name} as (select {from_}) except all (select {but})")
    added, removed = _count(connection, "came"), _count(connection, "went")
    names = list(shared)

    def examples(name: str) -> list[dict[str, Value]]:
        found = connection.execute(f"select * from {name} order by all limit {int(limit)}").fetchall()
        return [{n: plain(v) for n, v in zip(names, row, strict=True)} for row in found]

    return RowsDiff(
        key=[], added_count=added, removed_count=removed, changed_count=0,
        unchanged_count=_count(connection, b.name) - added, added=examples("came"), removed=examples("went"),
    )  # fmt: skip


def _row_change(row: Sequence[Any], shared: Shared, key: Sequence[str]) -> RowChange:
    values = {name: (plain(row[2 * i]), plain(row[2 * i + 1])) for i, name in enumerate(shared)}
    moved = {n: [old, new] for n, (old, new) in values.items() if n not in key and old != new}
    return RowChange(key={n: values[n][1] for n in key}, changes=moved)


def _rows(rows: Sequence[Sequence[Any]], table: Table) -> list[dict[str, Value]]:
    return [{c.name: plain(v) for c, v in zip(table.columns, row, strict=True)} for row in rows]


def _count(connection: Any, name: str) -> int:
    return int(connection.execute(f"select count(*) from {name}").fetchone()[0])


def _x(pair: Pair) -> str:
    return f"{pair[0]}::varchar" if pair[2] else pair[0]


def _y(pair: Pair) -> str:
    return f"{pair[1]}::varchar" if pair[2] else pair[1]


def _compare(pair: Pair, how: str) -> str:
    return f"{_x(pair)} {how} {_y(pair)}"
