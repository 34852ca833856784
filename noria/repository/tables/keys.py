"""Which row of a table a key names, for many keys at once: joined in DuckDB, which spills to disk what memory does not hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noria.kernel.errors import Invalid
from noria.repository.tables.rows import Numbers, plain

if TYPE_CHECKING:
    import pyarrow as pa

    from noria.repository.tables.frames import Frame
    from noria.repository.tables.model import Fragment
    from noria.repository.tables.table import Table

MEMORY_LIMIT = "400MB"


def check_key(schema: pa.Schema, key: Sequence[str]) -> list[str]:
    """`key`, if its columns can name rows. Raises Invalid."""
    import pyarrow as pa

    if len(set(key)) != len(key):
        raise Invalid("A key column is named twice.", where="key")
    for name in key:
        if name not in schema.names:
            raise Invalid(
                f"There is no column {name!r} to be the key.", where="key", hint=f"It has: {', '.join(schema.names)}."
            )
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_floating(kind) or pa.types.is_nested(kind) or pa.types.is_null(kind):
            raise Invalid(
                f"The column {name!r} ({kind}) cannot be a key.",
                where="key",
                hint="Use numbers without fraction, texts or times.",
            )
    return list(key)


class Keys:
    """The keys of rows, in a database of their own in `folder`."""

    def __init__(self, folder: Path, key: Sequence[str]) -> None:
        import duckdb

        self._key = list(key)
        self._connection = duckdb.connect(":memory:")
        for setting in (
            f"memory_limit = '{MEMORY_LIMIT}'", f"temp_directory = '{str(folder).replace(chr(39), chr(39) * 2)}'",
            "autoinstall_known_extensions = false", "autoload_known_extensions = false", "threads = 2",
        ):  # fmt: skip
            self._connection.execute(f"set {setting}")

    def close(self) -> None:
        self._connection.close()

    def load(self, name: str, steps: Iterable[tuple[pa.Table, Numbers]]) -> None:
        """Keys with the number of each row. Raises Invalid when a key is null or names two rows."""
        columns = ", ".join(f"k{i}" for i in range(len(self._key)))
        is_made = False
        for table, rows in steps:
            part = _renamed(table, self._key, rows)
            self._connection.register("part", part)
            self._connection.execute(
                f"{'insert into ' + name if is_made else 'create table ' + name + ' as'} select * from part"
            )
            self._connection.unregister("part")
            is_made = True
        nulls = " or ".join(f"k{i} is null" for i in range(len(self._key)))
        (null,) = self._connection.execute(f"select count(*) from {name} where {nulls}").fetchall()[0]
        if null:
            raise Invalid(
                f"The key ({', '.join(self._key)}) is null in {null:,} rows.", where="key", hint="Use another key."
            )
        twice = self._connection.execute(
            f"select {columns}, count(*) from {name} group by {columns} having count(*) > 1 limit 1"
        ).fetchone()
        if twice:
            example = ", ".join(str(v) for v in twice[:-1])
            raise Invalid(
                f"The key ({', '.join(self._key)}) is not unique: {example} occurs {twice[-1]:,} times.",
                where="key", hint="Name more columns, or commit without a key.",
            )  # fmt: skip

    def places(self, count: int) -> Numbers:
        """For each row of `new`, in order: the number of the row of `old` with its key, or -1."""
        import numpy as np

        on = " and ".join(f"n.k{i} = o.k{i}" for i in range(len(self._key)))
        found = np.full(count, -1, dtype=np.int64)
        reader = self._connection.sql(f"select n.row as n, o.row as o from new n join old o on {on}").to_arrow_reader(
            1 << 16
        )
        for batch in reader:
            found[batch.column(0).to_numpy()] = batch.column(1).to_numpy()
        return found


def _renamed(table: pa.Table, key: Sequence[str], rows: Numbers) -> pa.Table:
    import pyarrow as pa

    columns = [plain(table.column(name)) for name in key]
    return pa.table([*columns, pa.array(rows)], names=[*(f"k{i}" for i in range(len(key))), "row"])


def require_unique(frame: Frame, key: Sequence[str], folder: Path) -> None:
    """Raises Invalid when a key of the frame is null or names two rows."""
    with contextlib.closing(Keys(folder, key)) as keys:
        keys.load("new", numbered(frame, key))


def places_of(table: Table, fragments: Sequence[Fragment], frame: Frame, folder: Path) -> Numbers:
    """For each row of the frame: where these fragments have its key (counted through, as stored), or -1. Raises Invalid."""
    with contextlib.closing(Keys(folder, table.key)) as keys:
        keys.load("old", stored_keys(table, fragments))
        count = 0

        def counted() -> Iterator[tuple[pa.Table, Numbers]]:
            nonlocal count
            for part, rows in numbered(frame, table.key):
                count += len(rows)
                yield part, rows

        keys.load("new", counted())
        return keys.places(count)


def numbered(frame: Frame, key: Sequence[str]) -> Iterator[tuple[pa.Table, Numbers]]:
    import numpy as np

    at = 0
    for part in frame.steps(key):
        yield part, np.arange(at, at + part.num_rows)
        at += part.num_rows
    if not at:
        yield frame.schema.empty_table().select(list(key)), np.arange(0)


def places_among(old: pa.Table, new: pa.Table, key: Sequence[str], folder: Path) -> Numbers:
    """For each row of `new`: the row of `old` with its key, or -1. Raises Invalid."""
    import numpy as np

    with contextlib.closing(Keys(folder, key)) as keys:
        keys.load("old", [(old.select(list(key)), np.arange(old.num_rows))])
        keys.load("new", [(new.select(list(key)), np.arange(new.num_rows))])
        return keys.places(new.num_rows)


def places_in(table: Table, rows: pa.Table, folder: Path) -> Numbers:
    """For each row: where the table has its key, fragments counted through as stored, or -1. Raises Invalid."""
    import numpy as np

    with contextlib.closing(Keys(folder, table.key)) as keys:
        keys.load("old", stored_keys(table, table.fragments))
        keys.load("new", [(rows.select(table.key), np.arange(rows.num_rows))])
        return keys.places(rows.num_rows)


def stored_keys(table: Table, fragments: Sequence[Fragment]) -> Iterator[tuple[pa.Table, Numbers]]:
    """The keys of a table with the places of their rows."""
    import numpy as np

    at = 0
    for fragment in fragments:
        rows, alive = table.stored(fragment, table.key)
        yield rows.filter(alive), at + np.flatnonzero(alive)
        at += fragment.rows
    if not at:
        yield table.schema.empty_table().select(table.key), np.arange(0)
