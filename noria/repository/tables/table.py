"""A table as rows: fragments under their layers, read one at a time. The one place that composes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from blake3 import blake3

from noria.datasets.model import VersionFile
from noria.kernel.errors import Unavailable
from noria.repository.tables.layers import GROUP_ROWS, REMOVED, REPLACED, Patch, concat, join, nullable, read_layer
from noria.repository.tables.model import Fragment, TableManifest, decode, fragment_path, layer_path
from noria.repository.tables.rows import Numbers

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 64 << 10


class Files(Protocol):
    """Where the stored files of a table are read."""

    def read(self, file: VersionFile) -> bytes: ...
    def open(self, file: VersionFile) -> IO[bytes]: ...


class Table:
    """One version of a table. `parts`: its stored files, the manifest first."""

    def __init__(self, path: str, parts: Sequence[VersionFile], files: Files) -> None:
        self.path = path
        self.parts = {f.path: f for f in parts}
        self._files = files
        self.manifest: TableManifest = decode(files.read(parts[0]), parts[0].path)
        self.schema: pa.Schema = self.manifest.arrow_schema
        self.key = self.manifest.key

    @property
    def rows_count(self) -> int:
        return self.manifest.rows

    @property
    def fragments(self) -> list[Fragment]:
        return self.manifest.fragments

    def file_of(self, fragment: Fragment) -> VersionFile:
        return self.parts[fragment_path(self.path, fragment.name)]

    def open(self, fragment: Fragment) -> IO[bytes]:
        """The file of a fragment, to read parts of."""
        return self._files.open(self.file_of(fragment))

    def mark(self, fragment: Fragment) -> str:
        """Names what a fragment says in this version: its bytes, and the layers above them. 64 hex digits."""
        if not fragment.layers:
            return self.file_of(fragment).digest
        said = [self.file_of(fragment).digest, fragment.id]
        said += [self.parts[layer_path(self.path, self.manifest.layers[n].name)].digest for n in fragment.layers]
        return str(blake3("\n".join(said).encode()).hexdigest())

    # --- layers -----------------------------------------------------------------------------------------------------------

    @cached_property
    def _layers(self) -> list[dict[str, Patch]]:
        found = []
        for layer in self.manifest.layers:
            data = self._files.read(self.parts[layer_path(self.path, layer.name)])
            found.append(self._guarded(partial(read_layer, _buffer(data), self.schema), layer.name))
        return found

    @cached_property
    def patches(self) -> dict[str, Patch]:
        """What all layers together say, by the id of the fragment."""
        found: dict[str, Patch] = {}
        for fragment in self.fragments:
            said = [self._layers[n][fragment.id] for n in fragment.layers if fragment.id in self._layers[n]]
            if said:
                found[fragment.id] = join(said)
        return found

    def _guarded(self, read: Callable[[], Any], what: str) -> Any:
        import pyarrow as pa

        try:
            return read()
        except (pa.ArrowException, KeyError, ValueError, IndexError) as cause:
            raise Unavailable(
                f"{what} of the table {self.path!r} cannot be read.", hint="noria data verify says more."
            ) from cause

    # --- rows -------------------------------------------------------------------------------------------------------------

    def raw(self, fragment: Fragment, columns: Sequence[str] | None = None) -> pa.Table:
        """A fragment as it is stored."""
        from pyarrow import parquet

        schema = self._schema(columns)
        if not schema.names:
            return self._empty(fragment.rows)
        file = self.file_of(fragment)

        def read() -> pa.Table:
            if columns is None:
                return parquet.read_table(_buffer(self._files.read(file)))
            with self.open(fragment) as opened:
                return parquet.ParquetFile(opened, pre_buffer=True).read(columns=list(columns)).select(list(columns))

        found = self._guarded(read, fragment.name)
        if found.num_rows != fragment.rows:
            raise Unavailable(
                f"{fragment.name} of the table {self.path!r} has {found.num_rows:,} rows, not {fragment.rows:,}."
            )
        return found.cast(schema)

    def raw_rows(self, fragment: Fragment, positions: Numbers) -> pa.Table:
        """Single rows of a fragment as stored; only the groups they are in are read."""
        import numpy as np
        from pyarrow import parquet

        groups = np.unique(positions // GROUP_ROWS)
        if not len(groups):
            return self._schema(None).empty_table()

        def read() -> pa.Table:
            with self.open(fragment) as opened:
                return parquet.ParquetFile(opened, pre_buffer=True).read_row_groups([int(g) for g in groups])

        found = self._guarded(read, fragment.name).cast(self._schema(None))
        return found.take(np.searchsorted(groups, positions // GROUP_ROWS) * GROUP_ROWS + positions % GROUP_ROWS)

    def stored(
        self, fragment: Fragment, columns: Sequence[str] | None = None, *, above: Patch | None = None
    ) -> tuple[pa.Table, Numbers]:
        """A fragment with what replaces its rows, and a mask of the rows that are not removed. `above`: one more patch."""
        import numpy as np

        rows = self.raw(fragment, columns)
        alive = np.ones(fragment.rows, dtype=bool)
        said = [p for p in (self.patches.get(fragment.id), above) if p is not None]
        if not said:
            return rows, alive
        patch = join(said)
        alive[patch.positions[patch.states == REMOVED]] = False
        is_new = patch.states == REPLACED
        if is_new.any():
            new = patch.where(is_new)
            found = new.rows if columns is None else new.rows.select(list(columns))
            places = np.arange(fragment.rows)
            places[new.positions] = fragment.rows + np.arange(len(new.positions))
            rows = concat([rows.cast(nullable(rows.schema)), found]).take(places).cast(rows.schema)
        return rows, alive

    def rows_at(self, fragment: Fragment, positions: Numbers) -> pa.Table:
        """Single rows of a fragment as they are in this version (removed ones: as stored)."""
        import numpy as np

        patch = self.patches.get(fragment.id)
        patch = patch and patch.where((patch.states == REPLACED) & np.isin(patch.positions, positions))
        if not patch or not len(patch.positions):
            return self.raw_rows(fragment, positions)
        is_old = ~np.isin(positions, patch.positions)
        old = self.raw_rows(fragment, positions[is_old])
        places = np.empty(len(positions), dtype=np.int64)
        places[is_old] = np.arange(old.num_rows)
        places[~is_old] = old.num_rows + np.searchsorted(patch.positions, positions[~is_old])
        return concat([old.cast(nullable(old.schema)), patch.rows]).take(places).cast(old.schema)

    def fragment(self, fragment: Fragment, columns: Sequence[str] | None = None, *, above: Patch | None = None) -> pa.Table:
        """The rows of a fragment as they are in this version; `above`: as one more patch makes them."""
        rows, alive = self.stored(fragment, columns, above=above)
        return rows if alive.all() else rows.filter(alive)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in their order; one fragment is held at a time."""
        for fragment in self.fragments:
            yield from self.fragment(fragment, columns).to_batches(max_chunksize=BATCH_ROWS)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows in memory, with what the frame that was committed said about itself."""
        schema = self._schema(columns)
        found = [self.fragment(f, columns) for f in self.fragments]
        whole = concat(found) if found else schema.empty_table()
        return whole.replace_schema_metadata(self.schema.metadata)

    def write(self, target: Path, fragments: Sequence[Fragment] | None = None) -> Path:
        """All rows (or those of some fragments) as one plain Parquet file; one fragment is held at a time."""
        from pyarrow import parquet

        with parquet.ParquetWriter(target, self.schema, compression="zstd", use_content_defined_chunking=True) as out:
            for fragment in self.fragments if fragments is None else fragments:
                rows = self.fragment(fragment)
                if rows.num_rows:
                    out.write_table(
                        rows.replace_schema_metadata(self.schema.metadata).cast(self.schema), row_group_size=BATCH_ROWS
                    )
        return target

    def _schema(self, columns: Sequence[str] | None) -> pa.Schema:
        import pyarrow as pa

        fields = list(self.schema) if columns is None else [self.schema.field(name) for name in columns]
        return pa.schema([f.remove_metadata() for f in fields])

    @staticmethod
    def _empty(rows: int) -> pa.Table:
        import pyarrow as pa

        return pa.table({"": pa.nulls(rows)}).select([])


def _buffer(data: bytes) -> Any:
    import pyarrow as pa

    return pa.BufferReader(data)
