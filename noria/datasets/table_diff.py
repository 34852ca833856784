"""Rows of two versions of one table, compared through its fragments and layers: what both share is not read.

Rows that were replaced in place are counted from the layers, and only the examples are read. Rows that came, went or lie
elsewhere now are brought together in DuckDB, as rows of any two files are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noria.datasets.diff import rows_diff
from noria.datasets.model import RowChange, RowsDiff
from noria.datasets.tables import closed_duckdb, load, plain
from noria.kernel.errors import TooMuch
from noria.repository.tables.changes import Changed, Compared, Spot, compare, rows_of
from noria.repository.tables.layers import concat
from noria.repository.tables.table import Table

BYTES_MAX = 2 << 30  # of fragments that one side lacks


def table_rows_diff(a: Table, b: Table, *, limit: int) -> RowsDiff:
    """What leads from `a` to `b`, which have the same columns and key: by key, without one as whole rows. Raises TooMuch."""
    found = compare(a, b)
    size = sum(t.file_of(s.fragment).size_bytes for t, spots in ((a, found.gone), (b, found.came)) for s in spots)
    if size > BYTES_MAX:
        raise TooMuch(
            f"The fragments that changed have more than {BYTES_MAX >> 30} GiB.",
            hint="Check both out and compare them with DuckDB on a larger machine.",
        )
    if not a.key:
        found = Compared(
            changed=[],
            gone=[*found.gone, *(c.before for c in found.changed)],
            came=[*found.came, *(c.after for c in found.changed)],
        )
    moved = _elsewhere(a, b, found, limit) if found.gone or found.came else _nothing(a)
    count = sum(map(len, found.changed))
    changed = moved.changed_count + count
    return RowsDiff(
        key=a.key, added_count=moved.added_count, removed_count=moved.removed_count, changed_count=changed,
        unchanged_count=b.rows_count - moved.added_count - changed, added=moved.added, removed=moved.removed,
        changed=_first(moved.changed, _examples(a, b, found.changed, limit), limit),
    )  # fmt: skip


def _nothing(table: Table) -> RowsDiff:
    return RowsDiff(key=table.key, added_count=0, removed_count=0, changed_count=0, unchanged_count=0)


def _elsewhere(a: Table, b: Table, found: Compared, limit: int) -> RowsDiff:
    with closed_duckdb() as (connection, folder):
        old = _write(a, found.gone, folder / "a.parquet")
        new = _write(b, found.came, folder / "b.parquet")
        x, y = load(connection, old, "parquet", "ta", "a"), load(connection, new, "parquet", "tb", "b")
        return rows_diff(connection, x, y, a.key, limit=limit)


def _write(table: Table, spots: list[Spot], target: Path) -> Path:
    from pyarrow import parquet

    with parquet.ParquetWriter(target, table.schema, compression="lz4") as out:
        for rows in rows_of(table, spots):
            out.write_table(rows.replace_schema_metadata(table.schema.metadata).cast(table.schema))
    return target


def _examples(a: Table, b: Table, changed: list[Changed], limit: int) -> list[RowChange]:
    """The first rows by key, as they were and as they are."""
    import numpy as np
    import pyarrow as pa

    if not changed:
        return []
    sizes = [len(c) for c in changed]
    keys = concat([c.keys for c in changed]).append_column("__noria_at", pa.array(np.arange(sum(sizes))))
    first = keys.sort_by([(name, "ascending") for name in a.key]).slice(0, limit).column("__noria_at").to_numpy()
    starts = np.cumsum([0, *sizes])
    found = list[RowChange]()
    for i, each in enumerate(changed):
        mine = np.sort(first[(first >= starts[i]) & (first < starts[i + 1])]) - starts[i]
        if len(mine):
            before = a.rows_at(each.before.fragment, each.before.positions[mine]).to_pylist()
            after = b.rows_at(each.after.fragment, each.after.positions[mine]).to_pylist()
            found += [_change(x, y, a.key) for x, y in zip(before, after, strict=True)]
    return found


def _change(before: dict[str, Any], after: dict[str, Any], key: list[str]) -> RowChange:
    values = {name: (plain(before[name]), plain(after[name])) for name in after}
    moved = {n: [old, new] for n, (old, new) in values.items() if n not in key and old != new}
    return RowChange(key={n: values[n][1] for n in key}, changes=moved)


def _first(a: list[RowChange], b: list[RowChange], limit: int) -> list[RowChange]:
    def order(change: RowChange) -> list[tuple[bool, Any]]:
        return [(isinstance(v, str), v if v is not None else 0) for v in change.key.values()]

    return sorted([*a, *b], key=order)[:limit]
