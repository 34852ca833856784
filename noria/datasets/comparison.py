"""Two versions side by side: which files changed, and what that means for the tables among them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noria.datasets import manifest
from noria.datasets.contents import Contents
from noria.datasets.diff import column_diffs, rows_diff, schema_diff
from noria.datasets.manifest import Manifest
from noria.datasets.model import (
    Column,
    DatasetVersion,
    Diff,
    FileChange,
    RowsDiff,
    TableDiff,
    TableFile,
    TableProfile,
    VersionFile,
    table_format,
)
from noria.datasets.profiles import NOW_BYTES, Profiles
from noria.datasets.table_diff import table_rows_diff
from noria.datasets.tables import Unreadable, closed_duckdb, load
from noria.kernel.errors import Invalid, NotFound, TooMuch
from noria.repository.tables.rows import bare

FILES_LISTED = 1_000  # of each kind; the counts are exact
TABLES_COMPARED = 50
ROWS_BYTES_MAX = 2 << 30  # both sides of one table, when rows are compared


class Comparison:
    """Compares versions."""

    def __init__(self, contents: Contents, profiles: Profiles) -> None:
        self._contents = contents
        self._profiles = profiles
        self._turn = threading.BoundedSemaphore(1)  # rows of one pair of tables at a time

    def diff(
        self, a: DatasetVersion, b: DatasetVersion, old: Manifest, new: Manifest, *,
        rows: bool, key: Sequence[str], path: str, limit: int,
    ) -> Diff:  # fmt: skip
        changes = manifest.changes(old, new)
        pairs = _table_pairs(changes, old, new)
        if path:
            if path not in old and path not in new:
                raise NotFound(f"Neither version has a file {path!r}.", where="path")
            pairs = [(x, y) for x, y in pairs if path in (x.path, y.path)]
        if rows and len(pairs) > TABLES_COMPARED:
            raise TooMuch(f"{len(pairs)} tables changed; rows of one are compared at a time.", hint="Give its path.")
        added = [c for c in changes if c.before is None]
        removed = [c for c in changes if c.after is None]
        changed = [c for c in changes if c.before and c.after]
        return Diff(
            a=a, b=b, added_count=len(added), removed_count=len(removed), changed_count=len(changed),
            added=added[:FILES_LISTED], removed=removed[:FILES_LISTED], changed=changed[:FILES_LISTED],
            tables=self._tables(pairs[:TABLES_COMPARED], rows=rows, key=key, limit=limit),
        )  # fmt: skip

    def _tables(
        self, pairs: list[tuple[VersionFile, VersionFile]], *, rows: bool, key: Sequence[str], limit: int
    ) -> list[TableDiff]:
        before = self._profiles.of([x for x, _ in pairs], now_bytes=NOW_BYTES)
        after = self._profiles.of([y for _, y in pairs], now_bytes=NOW_BYTES)
        return [
            _table_diff(x, y, self._rows(*pair, key, limit) if rows and _both(x, y, "ready", "pending", "skipped") else None)
            for pair, x, y in zip(pairs, before, after, strict=True)
        ]

    def _rows(self, x: VersionFile, y: VersionFile, key: Sequence[str], limit: int) -> RowsDiff:
        if isinstance(x, TableFile) and isinstance(y, TableFile):
            a, b = self._contents.table(x), self._contents.table(y)
            if a.key == b.key and list(key or a.key) == a.key and bare(a.schema) == bare(b.schema):
                with self._turn:
                    return table_rows_diff(a, b, limit=limit)
        if x.size_bytes + y.size_bytes > ROWS_BYTES_MAX:
            raise TooMuch(
                f"The two versions of {y.path!r} have more than {ROWS_BYTES_MAX >> 30} GiB together.",
                hint="Check both out and compare them with DuckDB on a larger machine.",
            )
        with self._turn, closed_duckdb() as (connection, folder):
            try:
                a, b = self._load(connection, folder, x, "a"), self._load(connection, folder, y, "b")
            except Unreadable as problem:
                raise Invalid(f"{y.path!r} cannot be read as a table: {problem}", where="path") from problem
            return rows_diff(connection, a, b, key, limit=limit)

    def _load(self, connection: Any, folder: Path, file: VersionFile, side: str) -> Any:
        format_ = table_format(file.path)
        assert format_ is not None
        target = self._contents.save(file, folder / f"{side}.{format_}")
        return load(connection, target, format_, f"t{side}", side)


def _table_pairs(changes: list[FileChange], old: Manifest, new: Manifest) -> list[tuple[VersionFile, VersionFile]]:
    """Tables to compare: those whose bytes changed; and if each version has a single table, that, whatever it is called."""
    pairs = [
        (c.before, c.after)
        for c in changes
        if c.before and c.after and c.before.digest != c.after.digest and table_format(c.path)
    ]
    if not pairs:
        one = [f for f in old.values() if table_format(f.path)]
        other = [f for f in new.values() if table_format(f.path)]
        if len(one) == len(other) == 1 and one[0].digest != other[0].digest:
            pairs = [(one[0], other[0])]
    return pairs


def _both(x: TableProfile, y: TableProfile, *states: str) -> bool:
    return x.state in states and y.state in states


def _table_diff(x: TableProfile, y: TableProfile, rows: RowsDiff | None) -> TableDiff:
    state = next((s for s in ("unreadable", "pending", "skipped") if s in (x.state, y.state)), "ready")
    if state != "ready":
        why = x.reason if x.state == state else y.reason
        return TableDiff(path=y.path, path_before=x.path, state=state, reason=why, rows=rows)  # type: ignore[arg-type]
    return TableDiff(
        path=y.path, path_before=x.path, state="ready", rows_before=x.rows_count, rows_after=y.rows_count,
        schema=schema_diff(_columns(x), _columns(y)), columns=column_diffs(x, y), rows=rows,
    )  # fmt: skip


def _columns(table: TableProfile) -> list[Column]:
    return [Column(name=c.name, type=c.type) for c in table.columns]
