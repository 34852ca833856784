"""Files as tables: a closed DuckDB to compute in, what a Parquet footer says, the first rows of a file.

DuckDB sees one folder and nothing else: no other file, no network, no extension, no setting. Columns get names of our own
(c0, c1, …), so that nothing a file says becomes part of a statement.
"""

from __future__ import annotations

import csv
import io
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

from noria.datasets.model import Column, ColumnKind, Sample, TableFormat, Value, table_format
from noria.kernel.errors import NoriaError

MEMORY_LIMIT = "512MB"  # of one DuckDB; beyond it spills to the folder
THREADS = 2
TEXT_LENGTH_MAX = 200  # of one value in a profile, a sample or a diff
SAMPLE_BYTES = 1 << 20  # read from the beginning of a CSV or text file
TEXT_BYTES_MAX = 64 << 10


class Unreadable(Exception):
    """A file is not the table its name says; the message says why. Caught by whoever asked for the table."""


class Table(Struct, frozen=True):
    """A table inside DuckDB: `name` with the columns `prefix`0, `prefix`1, …"""

    name: str
    prefix: str
    columns: list[Column]
    kinds: list[ColumnKind]


@contextmanager
def closed_duckdb() -> Iterator[tuple[Any, Path]]:
    """A connection, and the only folder it can read."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="noria-tables-", ignore_cleanup_errors=True) as made:
        folder = Path(made).resolve()
        connection = duckdb.connect(":memory:", config={"allow_community_extensions": "false"})
        try:
            for setting in (
                f"memory_limit = '{MEMORY_LIMIT}'",
                f"threads = {THREADS}",
                f"temp_directory = {_literal(str(folder / 'spill'))}",
                f"allowed_directories = [{_literal(str(folder))}]",
                "autoinstall_known_extensions = false",
                "autoload_known_extensions = false",
                "enable_external_access = false",
                "lock_configuration = true",
            ):
                connection.execute(f"set {setting}")
            yield connection, folder
        finally:
            connection.close()


def load(connection: Any, file: Path, format_: TableFormat, name: str, prefix: str) -> Table:
    """Make `file` a table of the connection. Raises Unreadable."""
    import duckdb

    reader = f"read_parquet({_literal(str(file))})"
    if format_ == "csv":
        reader = f"read_csv({_literal(str(file))}, sample_size = -1)"  # types from every row, not from the first ones
    try:
        described = connection.execute(f"describe select * from {reader}").fetchall()
        names = ", ".join(f"{prefix}{i}" for i in range(len(described)))
        what = "view" if format_ == "parquet" else "table"
        connection.execute(f"create {what} raw_{name}({names}) as select * from {reader}")
        connection.execute(f"create view {name} as select {_in_utc(described, prefix)} from raw_{name}")
        types = _types(connection, file, format_, f"raw_{name}")
    except (duckdb.Error, NoriaError, OSError, ValueError) as cause:
        if isinstance(cause, duckdb.OutOfMemoryException | MemoryError | NoriaError):
            raise
        raise Unreadable(reason(cause)) from cause
    columns = [Column(name=row[0], type=t) for row, t in zip(described, types, strict=True)]
    return Table(name, prefix, columns, [kind_of(row[1]) for row in described])


def _in_utc(described: list[Any], prefix: str) -> str:
    """Every column, those with a time zone as plain timestamps in UTC: all that DuckDB does with zones takes extensions."""
    return ", ".join(
        f"make_timestamp(epoch_us({prefix}{i})) as {prefix}{i}" if row[1] == "TIMESTAMP WITH TIME ZONE" else f"{prefix}{i}"
        for i, row in enumerate(described)
    )


def kind_of(duckdb_type: str) -> ColumnKind:
    """How the values of a type are described."""
    name = duckdb_type.upper()
    if name.endswith("]") or name.startswith(("STRUCT", "MAP", "UNION", "BLOB", "BIT", "INTERVAL")):
        return "other"
    if name == "BOOLEAN":
        return "boolean"
    if name.startswith(("TIMESTAMP", "DATE")):
        return "time"
    if "INT" in name or name.startswith(("FLOAT", "DOUBLE", "DECIMAL", "REAL")):
        return "numeric"
    return "text" if name.startswith(("VARCHAR", "ENUM", "UUID", "TIME")) else "other"


def _types(connection: Any, file: Path, format_: TableFormat, name: str) -> list[str]:
    """The Arrow names of the types, which do not depend on who read the file."""
    if format_ == "parquet":
        from pyarrow import parquet

        return [_type_name(field.type) for field in parquet.read_schema(file)]
    schema = connection.sql(f"select * from {name} limit 0").to_arrow_table().schema
    return [_type_name(field.type) for field in schema]


def _type_name(type_: Any) -> str:
    return str(getattr(type_, "value_type", type_) if str(type_).startswith("dictionary") else type_)


def parquet_footer(file: IO[bytes]) -> tuple[int, list[Column]]:
    """Rows and columns, as the end of a Parquet file says. Raises Unreadable."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.ParquetFile(file)
        return found.metadata.num_rows, columns_of(found.schema_arrow)
    except (pa.ArrowException, OSError, ValueError) as cause:
        raise Unreadable(reason(cause)) from cause


def columns_of(schema: Any) -> list[Column]:
    return [Column(name=field.name, type=_type_name(field.type)) for field in schema]


def reason(error: Exception) -> str:
    """The first line of an error, without the path of our own copy."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    for word in text.split():
        if "noria-tables-" in word:
            text = text.replace(word, "the file")
    return text[:500]


# --- samples ----------------------------------------------------------------------------------------------------------


def sample(file: IO[bytes], path: str, size_bytes: int, limit: int) -> Sample:
    """The first `limit` rows or lines. A broken table is shown as what its bytes are."""
    format_ = table_format(path)
    if format_ == "parquet":
        try:
            return _parquet_sample(file, path, size_bytes, limit)
        except Unreadable:
            file.seek(0)
    head = file.read(SAMPLE_BYTES)
    if b"\x00" in head[:8192]:
        return Sample(path=path, kind="binary", size_bytes=size_bytes)
    if size_bytes > len(head):  # end with a whole line
        head = head[: head.rfind(b"\n") + 1] or head
    text = head.decode("utf-8", "replace")
    if format_ == "csv":
        return _csv_sample(text, path, size_bytes, limit)
    lines = text[:TEXT_BYTES_MAX].splitlines()
    shown = "\n".join(lines[:limit])
    return Sample(
        path=path, kind="text", size_bytes=size_bytes, text=shown, is_truncated=len(shown.encode()) + 1 < size_bytes
    )


def _parquet_sample(file: IO[bytes], path: str, size_bytes: int, limit: int) -> Sample:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.ParquetFile(file)
        batch = next(found.iter_batches(batch_size=limit), None)
        rows = [] if batch is None else [[plain(v) for v in row.values()] for row in _rows(batch)]
    except (pa.ArrowException, OSError, ValueError) as cause:
        raise Unreadable(reason(cause)) from cause
    columns = columns_of(found.schema_arrow)
    return Sample(
        path=path, kind="table", size_bytes=size_bytes, columns=columns, rows=rows,
        is_truncated=found.metadata.num_rows > len(rows),
    )  # fmt: skip


def table_sample(table: Any, path: str, size_bytes: int, limit: int) -> Sample:
    """The first rows of a table (noria/repository/tables)."""
    batch = next(table.batches(), None)
    rows = [] if batch is None else [[plain(v) for v in row.values()] for row in _rows(batch.slice(0, limit))]
    return Sample(
        path=path, kind="table", size_bytes=size_bytes, columns=columns_of(table.schema), rows=rows,
        is_truncated=table.rows_count > len(rows),
    )  # fmt: skip


def _rows(batch: Any) -> list[dict[int, Any]]:
    """By position, since two columns may share a name."""
    columns = [column.to_pylist() for column in batch.columns]
    return [dict(enumerate(values)) for values in zip(*columns, strict=True)]


def _csv_sample(text: str, path: str, size_bytes: int, limit: int) -> Sample:
    reader = csv.reader(io.StringIO(text), delimiter="\t" if path.lower().endswith(".tsv") else ",")
    rows: list[list[Value]] = []
    try:
        for row in reader:
            rows.append([value[:TEXT_LENGTH_MAX] for value in row])
            if len(rows) > limit + 1:
                break
    except csv.Error:  # a NUL or an endless field: show it as text
        return Sample(path=path, kind="text", size_bytes=size_bytes, text=text[:TEXT_BYTES_MAX], is_truncated=True)
    columns = [Column(name=str(name), type="") for name in (rows[0] if rows else [])]
    return Sample(
        path=path, kind="table", size_bytes=size_bytes, columns=columns, rows=rows[1 : limit + 1],
        is_truncated=len(rows) > limit + 1 or size_bytes > SAMPLE_BYTES,
    )  # fmt: skip


def plain(value: Any) -> Value:
    """A value as JSON can carry it: NaN and infinities as text, times as ISO text, everything else as short text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return "0x" + bytes(value[: TEXT_LENGTH_MAX // 2]).hex()
    text = str(value).encode("utf-8", "replace").decode()
    return text if len(text) <= TEXT_LENGTH_MAX else text[: TEXT_LENGTH_MAX - 1] + "…"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
