"""Where fragments end: after a row whose number says so, so that a row more or less moves no end but the nearest.

At least 64 k rows, at most 512 k; once there are 32 MiB, a sixteenth of the rows will do as ends, and at 64 MiB any does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from noria.repository.tables.rows import numbers

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_MIN, ROWS_MEAN, ROWS_MAX = 64 << 10, 128 << 10, 512 << 10
BYTES_NEAR, BYTES_MAX = 32 << 20, 64 << 20
EASIER = 16


class Cutter:
    """Takes rows as they come, gives fragments back. `columns`: what decides where they end."""

    def __init__(self, columns: Sequence[str], *, scale: int = 1) -> None:
        self._columns = list(columns)
        self._rows_min, self._mean, self._rows_max = ROWS_MIN // scale, ROWS_MEAN // scale, ROWS_MAX // scale
        self._parts: list[pa.Table] = []
        self._rows, self._bytes = 0, 0

    def push(self, table: pa.Table) -> Iterator[pa.Table]:
        """Add rows; the fragments that are whole now."""
        while table.num_rows:
            size = table.nbytes / table.num_rows
            end = self._end(numbers(table, self._columns), size)
            part = table if end is None else table.slice(0, end)
            self._parts.append(part)
            self._rows, self._bytes = self._rows + part.num_rows, self._bytes + int(part.num_rows * size)
            if end is None:
                return
            yield self._take()
            table = table.slice(end)

    def finish(self) -> Iterator[pa.Table]:
        """The rest, if there is one."""
        if self._rows:
            yield self._take()

    def _take(self) -> pa.Table:
        import pyarrow as pa

        found = pa.concat_tables(self._parts)
        self._parts, self._rows, self._bytes = [], 0, 0
        return found

    def _end(self, marks: np.ndarray[tuple[int], np.dtype[np.uint64]], row_bytes: float) -> int | None:
        """How many of these rows still belong to the fragment that is being filled; None when all do and more may."""
        counts = np.arange(self._rows + 1, self._rows + len(marks) + 1)
        sizes = self._bytes + np.arange(1, len(marks) + 1) * row_bytes
        is_end = (marks % np.uint64(self._mean) == 0) & (counts >= self._rows_min)
        is_end |= (marks % np.uint64(max(self._mean // EASIER, 1)) == 0) & (sizes >= BYTES_NEAR)
        is_end |= (counts >= self._rows_max) | (sizes >= BYTES_MAX)
        found = np.flatnonzero(is_end)
        return int(found[0]) + 1 if len(found) else None
