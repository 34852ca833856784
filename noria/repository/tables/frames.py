"""Whatever holds rows, as a stream of Arrow batches that can be read more than once: what comes once is put on disk first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from noria.kernel.errors import Invalid

if TYPE_CHECKING:
    import pyarrow as pa

STEP_ROWS = 64 << 10  # rows are looked at in these steps, however they come, so that equal rows are cut equally
READ_BYTES = 1 << 20  # of each column at a time
READERS = ("to_arrow_reader", "fetch_arrow_reader")


class Frame(Struct, frozen=True):
    """Rows to commit. `read` begins anew each time; with columns, only those."""

    schema: Any
    read: Callable[[Sequence[str] | None], Iterator[Any]]

    def like(self, schema: pa.Schema) -> Frame:
        """The same rows with the types of `schema` where those hold the same values: texts and large texts."""
        import pyarrow as pa

        if self.schema.names != schema.names:
            return self
        fields = [
            mine.with_type(other.type) if _says(mine.type) == _says(other.type) else mine
            for mine, other in zip(self.schema, schema, strict=True)
        ]
        return Frame(pa.schema(fields, metadata=self.schema.metadata), self.read)

    def steps(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, so many at a time."""
        import pyarrow as pa

        names = list(self.schema.names if columns is None else columns)
        schema = pa.schema([self.schema.field(name).remove_metadata() for name in names])
        waiting: list[pa.Table] = []
        rows = 0
        for batch in self.read(columns):
            part = pa.Table.from_batches([batch]).select(names).cast(schema)
            while rows + part.num_rows >= STEP_ROWS:
                waiting.append(part.slice(0, STEP_ROWS - rows))
                yield pa.concat_tables(waiting)
                part, waiting, rows = part.slice(STEP_ROWS - rows), [], 0
            if part.num_rows:
                waiting.append(part)
                rows += part.num_rows
        if waiting:
            yield pa.concat_tables(waiting)


def is_frame(item: Any) -> bool:
    """Does it hold rows: a data frame, an Arrow table or reader, a DuckDB relation?"""
    return hasattr(item, "__arrow_c_stream__") or hasattr(item, "__dataframe__")


def frame_of(item: Any, folder: Path, *, has_key: bool = False) -> Frame:
    """`item` as rows; what can be read once only is kept in `folder` meanwhile. Raises Invalid.

    `has_key`: a key names the rows, so the numbers that pandas gave them are not part of the data.
    """
    import pyarrow as pa

    if isinstance(item, Path):
        return _checked(_of_file(item))
    if isinstance(item, pa.RecordBatch):
        item = pa.Table.from_batches([item])
    if type(item).__module__.partition(".")[0] == "pandas":
        try:
            numbers = has_key and item.index.name is None and item.index.dtype.kind == "i"
            item = pa.Table.from_pandas(item, preserve_index=False if numbers else None)
        except (pa.ArrowException, TypeError, ValueError) as cause:
            raise Invalid(f"This data frame cannot be a table: {cause}", hint="Give each column one type.") from cause
    if isinstance(item, pa.Table):
        return _checked(_of_table(item))
    if not hasattr(item, "__arrow_c_stream__"):
        raise Invalid(f"A {type(item).__name__} cannot be committed.", hint="Give a path, a data frame or an Arrow table.")
    reader = next((getattr(item, name)() for name in READERS if hasattr(item, name)), None)
    return _checked(_spooled(reader or pa.RecordBatchReader.from_stream(item), folder / "rows.arrow"))


def _of_table(table: pa.Table) -> Frame:
    def read(columns: Sequence[str] | None) -> Iterator[Any]:
        return iter((table if columns is None else table.select(list(columns))).to_batches(max_chunksize=STEP_ROWS))

    return Frame(table.schema, read)


def _of_file(path: Path) -> Frame:
    import pyarrow as pa
    from pyarrow import parquet

    def read(columns: Sequence[str] | None) -> Iterator[Any]:
        wanted = None if columns is None else list(columns)
        with parquet.ParquetFile(path, buffer_size=READ_BYTES) as file:
            for group in range(file.num_row_groups):  # one call for all groups would hold what it read of every one
                yield from file.iter_batches(STEP_ROWS, row_groups=[group], columns=wanted)

    try:
        schema = parquet.read_schema(path)
    except (pa.ArrowException, OSError) as cause:
        raise Invalid(f"{path} cannot be read as Parquet: {cause}", where="path") from cause
    return Frame(pa.schema([f.remove_metadata() for f in schema], metadata=schema.metadata), read)


def _spooled(reader: Any, place: Path) -> Frame:
    """The rows of something that gives them once."""
    import pyarrow as pa

    with pa.OSFile(str(place), "wb") as out, pa.ipc.new_file(out, reader.schema) as file:
        for batch in reader:
            file.write_batch(batch)

    def read(columns: Sequence[str] | None) -> Iterator[Any]:
        with pa.memory_map(str(place)) as mapped:
            file = pa.ipc.open_file(mapped)
            for i in range(file.num_record_batches):
                batch = file.get_batch(i)
                yield batch if columns is None else batch.select(list(columns))

    return Frame(reader.schema, read)


def _checked(frame: Frame) -> Frame:
    """The same with types that every reader knows. Raises Invalid for columns that share a name, and when there are none."""
    import pyarrow as pa

    names = frame.schema.names
    if not names:
        raise Invalid("A table has at least one column.", where="source")
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise Invalid(f"There are two columns {twice!r}.", where="source", hint="Give each column a name of its own.")
    if taken := next((n for n in names if n.startswith("__noria_")), None):
        raise Invalid(
            f"A column cannot be called {taken!r}.", where="source", hint="Names that begin with __noria_ are ours."
        )
    fields = [f.with_type(_plain_type(f.type)) for f in frame.schema]
    return Frame(pa.schema(fields, metadata=frame.schema.metadata), frame.read)


def _says(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_large_string(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) else kind


def _plain_type(kind: Any) -> Any:
    """Views (as polars gives them) say the same as what they view, and Parquet keeps that.

    Of categories it keeps those that are texts, with numbers of 32 bits and no order among them; others become their values.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        value = _says(_plain_type(kind.value_type))
        return pa.dictionary(pa.int32(), value) if pa.types.is_string(value) else value
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind
