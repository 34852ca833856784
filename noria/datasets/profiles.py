"""Profiles of the tables of versions, kept by content: looked up, computed when missing, never computed twice."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from blake3 import blake3
from msgspec import Struct

from noria.datasets import store
from noria.datasets.contents import Contents
from noria.datasets.merging import merge_profiles, without_sketches
from noria.datasets.model import (
    Column,
    ColumnProfile,
    FragmentProfile,
    SketchedColumn,
    TableFile,
    TableProfile,
    VersionFile,
    table_format,
)
from noria.datasets.profile import LAYOUT, profile_file
from noria.datasets.sketches import sketch
from noria.datasets.tables import Unreadable, columns_of, parquet_footer
from noria.kernel.db import Database
from noria.repository.tables.layers import write_fragment
from noria.repository.tables.model import Fragment
from noria.repository.tables.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

NOW_BYTES = 32 << 20  # tables up to this much together are profiled while the caller waits
TABLES_MAX = 500  # of one version
AT_ONCE = 2  # profiles computed at the same time, in this process


def sketched(rows: pa.Table) -> FragmentProfile:
    """The profile of a fragment's rows, to be merged with others."""
    plain = profile_file(lambda target: write_fragment(rows, target), "parquet", rows.nbytes)
    columns = [
        SketchedColumn(**msgspec.structs.asdict(column), sketch=sketch(rows.column(i)))
        for i, column in enumerate(plain.columns)
    ]
    return FragmentProfile(**{**msgspec.structs.asdict(plain), "columns": columns})


def piece_of(table: Table, fragment: Fragment) -> str:
    """Under what the profile of a fragment is kept: not that of a file with the same bytes, which has no sketches."""
    return blake3(f"fragment {table.mark(fragment)}".encode()).hexdigest()


class Footers(Struct, frozen=True, kw_only=True):
    """What the ends of Parquet files say. Rows and columns are None unless all tables could be read."""

    rows_count: int | None = None
    schema: list[Column] | None = None
    warnings: list[str] = []


class Profiles:
    """Computes and keeps profiles."""

    def __init__(self, db: Database, contents: Contents) -> None:
        self._db = db
        self._contents = contents
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def of(
        self, files: Iterable[VersionFile], *, now_bytes: int | None, contents: Contents | None = None
    ) -> list[TableProfile]:
        """The profile of each table among `files`, by path; `contents`: where their bytes are, if not in the repository.

        Missing ones are computed now when they have at most `now_bytes` together (None: however many), else are `pending`.
        """
        wanted = [f for f in files if table_format(f.path)]
        known = self._known([f for f in wanted[:TABLES_MAX] if not isinstance(f, TableFile)])
        known |= self._tables([f for f in wanted[:TABLES_MAX] if isinstance(f, TableFile)], now_bytes)
        missing = {
            self._key(f): f for f in wanted[:TABLES_MAX] if self._key(f) not in known and not isinstance(f, TableFile)
        }
        if now_bytes is None or sum(f.size_bytes for f in missing.values()) <= now_bytes:
            known |= {key: self._compute(file, contents or self._contents) for key, file in missing.items()}
        return [self._one(known, f, i) for i, f in enumerate(wanted)]

    def _tables(self, files: Sequence[TableFile], now_bytes: int | None) -> dict[tuple[str, str], TableProfile]:
        """Of tables: the profiles of their fragments, merged; nothing of those that would take too long now."""
        found: dict[tuple[str, str], TableProfile] = {}
        for file in files:
            table = self._contents.table(file)
            marks = {piece_of(table, f): f for f in table.fragments}
            with self._db.read() as tx:
                there = {
                    d: p for (d, _), p in store.profiles(tx, sorted(marks), layout=LAYOUT, kind=FragmentProfile).items()
                }
            missing = {mark: f for mark, f in marks.items() if mark not in there}
            if now_bytes is not None and sum(table.file_of(f).size_bytes for f in missing.values()) > now_bytes:
                continue
            for mark, fragment in missing.items():
                there[mark] = self._compute_fragment(mark, table, fragment)
            if len(marks) == 1:
                found[self._key(file)] = without_sketches(next(iter(there.values())))
            elif marks:
                found[self._key(file)] = merge_profiles([there[mark] for mark in marks])
            else:
                columns = [
                    ColumnProfile(name=c.name, type=c.type, kind="other", rows=0, nulls=0) for c in columns_of(table.schema)
                ]
                found[self._key(file)] = TableProfile(
                    path="", format="parquet", state="ready", rows_count=0, columns=columns
                )
        return found

    def _compute_fragment(self, mark: str, table: Table, fragment: Fragment) -> FragmentProfile:
        with self._turns:
            with self._db.read() as tx:  # somebody else may have been faster
                if found := store.profiles(tx, [mark], layout=LAYOUT, kind=FragmentProfile).get((mark, "parquet")):
                    return found
            made = sketched(table.fragment(fragment))
            with self._db.system_write() as tx:
                store.add_profile(tx, mark, made, layout=LAYOUT, at_ms=self._db.clock.now_ms())
        return made

    def _one(self, known: dict[tuple[str, str], TableProfile], file: VersionFile, i: int) -> TableProfile:
        found = known.get(self._key(file))
        if found is not None:
            return msgspec.structs.replace(found, path=file.path)
        format_ = table_format(file.path)
        assert format_ is not None
        if i >= TABLES_MAX:
            why = f"Only the first {TABLES_MAX} tables of a version are profiled."
            return TableProfile(path=file.path, format=format_, state="skipped", reason=why)
        return TableProfile(path=file.path, format=format_, state="pending")

    def _known(self, files: Sequence[VersionFile]) -> dict[tuple[str, str], TableProfile]:
        with self._db.read() as tx:
            return store.profiles(tx, sorted({f.digest for f in files}), layout=LAYOUT, kind=TableProfile)

    def _compute(self, file: VersionFile, contents: Contents) -> TableProfile:
        format_ = table_format(file.path)
        assert format_ is not None
        with self._turns:
            if found := self._known([file]).get(self._key(file)):  # somebody else was faster
                return found
            made = profile_file(lambda target: contents.save(file, target), format_, file.size_bytes)
            with self._db.system_write() as tx:
                store.add_profile(tx, file.digest, made, layout=LAYOUT, at_ms=self._db.clock.now_ms())
        return made

    @staticmethod
    def _key(file: VersionFile) -> tuple[str, str]:
        return file.digest, str(table_format(file.path))

    def footers(self, files: Iterable[VersionFile]) -> Footers:
        """Read the end of each new Parquet file, so that a commit knows its rows and says at once what is broken."""
        wanted = [f for f in files if table_format(f.path)]
        known = self._known(wanted[:TABLES_MAX])
        rows, schemas, warnings = 0, list[list[Column]](), list[str]()
        for file in wanted[:TABLES_MAX]:
            found = known.get(self._key(file))
            if found and found.state == "ready":  # of an earlier version; says the same, and of CSV files too
                rows += found.rows_count or 0
                schemas.append([Column(name=c.name, type=c.type) for c in found.columns])
                continue
            if table_format(file.path) != "parquet":
                continue
            if isinstance(file, TableFile):
                table = self._contents.table(file)
                rows += table.rows_count
                schemas.append(columns_of(table.schema))
                continue
            try:
                with self._contents.file(file) as opened:
                    count, columns = parquet_footer(opened)
            except Unreadable as problem:
                warnings.append(
                    f"{file.path} cannot be read as Parquet ({problem}). Its bytes are kept as they are; "
                    f"write the file again, or give it another name if it is no table."
                )
                continue
            rows += count
            schemas.append(columns)
        if not wanted or len(schemas) < len(wanted):
            return Footers(warnings=warnings)
        return Footers(rows_count=rows, schema=merge_schemas(schemas), warnings=warnings)


def merge_schemas(schemas: Sequence[Sequence[Column]]) -> list[Column]:
    """The columns of all tables, in the order they are first met; a name with several types is `mixed`."""
    found: dict[str, Column] = {}
    for columns in schemas:
        for column in columns:
            known = found.setdefault(column.name, column)
            if known.type != column.type:
                found[column.name] = Column(name=column.name, type="mixed")
    return list(found.values())


def skipped(table: TableProfile, why: str) -> TableProfile:
    return msgspec.structs.replace(table, state="skipped", reason=why)


def without_values(table: TableProfile) -> TableProfile:
    """The same without single values of the data."""
    bare = [msgspec.structs.replace(c, min=None, max=None, top=[], top_is_complete=False) for c in table.columns]
    return msgspec.structs.replace(table, columns=bare)
