"""How a dataset version is cut into chunks, and how a chunk is read again.

A chunk is named by content: the digest of the file (of a table: of the fragment and of what changed above it) and rows of it. So
the next version of a dataset has the same chunks wherever nothing changed, and what is known of them still holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from noria.client.datasets import Version
from noria.datasets.model import TableFile, VersionFile, table_format
from noria.kernel.errors import Invalid

if TYPE_CHECKING:
    import pyarrow as pa

CHUNKS_MAX = 900  # each is a step, and a run has at most a thousand
CSV_BYTES_MAX = 1 << 30  # read whole: what a column is depends on all of its values


class Cut:
    """The chunks of a version, the columns they all have, and what names a row."""

    def __init__(self, version: Version, rows: int) -> None:
        self._version = version
        found = [f for f in version.files() if table_format(f.path)]
        if version.info.link or version.info.table:
            raise Invalid(
                f"{version.handle} is a link: its files stay elsewhere and are not read in parts.",
                where="dataset",
                hint="Commit the data as a version of its own.",
            )
        if not found:
            raise Invalid(f"{version.handle} has no table: no Parquet or CSV file.", where="dataset")
        self.schema: pa.Schema | None = None
        self.key: list[str] = []
        self.chunks: list[dict[str, Any]] = []
        self.rows_count = 0
        for file in found:
            for schema, parts in self._cut(file, rows):
                self._same(schema, file)
                self.chunks += parts
        if not self.rows_count:
            raise Invalid(f"{version.handle} has no rows.", where="dataset")
        if len(self.chunks) > CHUNKS_MAX:
            least = -(-self.rows_count // CHUNKS_MAX)
            parts_count = len({(c["path"], c.get("fragment", "")) for c in self.chunks})
            raise Invalid(
                f"{version.handle} makes {len(self.chunks)} chunks; a run takes {CHUNKS_MAX}.",
                where="chunk_rows",
                hint=f"It has {parts_count} files or parts, and a chunk is of one: commit it as fewer, larger files."
                if parts_count > CHUNKS_MAX
                else f"Ask for more rows in each: at least {max(least, rows * 2)}.",
            )

    def _same(self, schema: pa.Schema, file: VersionFile) -> None:
        if self.schema is None:
            self.schema = schema.remove_metadata()
        elif not self.schema.equals(schema.remove_metadata()):
            raise Invalid(f"The tables of {self._version.handle} have different columns: {file.path} is not like the first.",
                          where="dataset", hint="Score versions whose tables are alike.")  # fmt: skip

    def _cut(self, file: VersionFile, rows: int) -> Iterator[tuple[pa.Schema, list[dict[str, Any]]]]:
        if isinstance(file, TableFile):
            table = self._version._rows_of(file)
            self.key = table.key
            yield table.schema, [
                chunk for f in table.fragments for chunk in self._parts(
                    {"path": file.path, "kind": "table", "fragment": f.name, "digest": table.mark(f)}, f.live, rows
                )
            ]  # fmt: skip
            return
        kind = table_format(file.path) or ""
        if kind == "csv":
            if file.size_bytes > CSV_BYTES_MAX:
                raise Invalid(
                    f"{file.path} has {file.size_bytes >> 20} MiB; a CSV file is scored up to {CSV_BYTES_MAX >> 20} MiB.",
                    where="dataset",
                    hint="Write it as Parquet: noria data commit NAME rows.parquet --table.",
                )
            found = self._version._read_table(file)
            schema, count = found.schema, found.num_rows
        else:
            from pyarrow import parquet

            with self._version._open(file) as source:
                read = parquet.ParquetFile(source)
                schema, count = read.schema_arrow, read.metadata.num_rows
        yield schema, list(self._parts({"path": file.path, "kind": kind, "digest": file.digest}, count, rows))

    def _parts(self, named: dict[str, Any], count: int, rows: int) -> Iterator[dict[str, Any]]:
        self.rows_count += count
        for start in range(0, count, rows):
            yield {**named, "start": start, "stop": min(count, start + rows)}


def read(version: Version, chunk: dict[str, Any], columns: list[str]) -> pa.Table:
    """The rows of a chunk. Raises Invalid when the version does not hold it."""
    version._note_read()
    file = next((f for f in version.files(chunk["path"]) if f.path == chunk["path"]), None)
    start, count = chunk["start"], chunk["stop"] - chunk["start"]
    if isinstance(file, TableFile) and chunk["kind"] == "table":
        table = version._rows_of(file)
        for fragment in table.fragments:
            if fragment.name == chunk["fragment"] and table.mark(fragment) == chunk["digest"]:
                return table.fragment(fragment, columns).slice(start, count)
    elif file is not None and file.digest == chunk["digest"]:
        if chunk["kind"] == "csv":
            return version._read_table(file).select(columns).slice(start, count)
        return _rows(version, file, start, count, columns)
    raise Invalid(f"{version.handle} does not hold the rows that are to be scored.", where="dataset")


def _rows(version: Version, file: VersionFile, start: int, count: int, columns: list[str]) -> pa.Table:
    """Rows of a Parquet file; only the row groups they are in are fetched."""
    from pyarrow import parquet

    with version._open(file) as source:
        opened, at = parquet.ParquetFile(source, pre_buffer=True), 0
        groups: list[int] = []
        first = 0
        for i in range(opened.metadata.num_row_groups):
            rows = opened.metadata.row_group(i).num_rows
            if at < start + count and at + rows > start:
                if not groups:
                    first = at
                groups.append(i)
            at += rows
        return opened.read_row_groups(groups, columns=columns).select(columns).slice(start - first, count)
