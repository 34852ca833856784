"""What a drift metric compares with: a table of a dataset version, what a model was trained on, earlier traffic, or given counts.

A reference is read once and kept as sketches (or as the given counts) beside the monitor; no check reads the data again.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, field

from noria.kernel.errors import Invalid
from noria.monitoring.embeddings import Vectors
from noria.monitoring.estimates import Estimator
from noria.monitoring.model import Baseline
from noria.monitoring.reconstruction import Sample, Shape
from noria.monitoring.sketches import (
    Aligned,
    Profile,
    Sketch,
    align,
    align_edges,
    align_labels,
    merge,
    sketch_counted,
    sketch_words,
)
from noria.monitoring.tallies import Tally

TABLE_BYTES_MAX = 4 << 30  # a reference larger than this wants a sample; nobody needs 4 GiB to know ten quantiles
ROWS_PER_BATCH = 65_536


class Reference(Struct, frozen=True, kw_only=True):
    """The reference of a monitor. `source` says where it came from; empty columns mean that it is still to come."""

    source: str = ""
    sketches: dict[str, Sketch] = field(default_factory=dict)
    given: dict[str, Baseline] = field(default_factory=dict)
    rows: int = 0
    shape: Shape | None = None  # how its columns go together
    estimator: Estimator | None = None  # what its labelled answers teach
    vectors: Vectors | None = None  # some of its points

    def names(self) -> list[str]:
        return [*self.given, *(n for n in self.sketches if n not in self.given)]

    def align(self, name: str, current: Sketch, bins: int | None) -> Aligned | None:
        """Reference and `current` of one column over the same bins, or None without a reference."""
        given = self.given.get(name)
        if given is not None and given.labels:
            return align_labels(given.labels, given.nulls, current)
        if given is not None:
            return align_edges(given.edges, given.counts, given.nulls, current)
        mine = self.sketches.get(name)
        return None if mine is None else align(mine, current, bins=bins)

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def reference_of(value: dict[str, Any]) -> Reference:
    """The reference as it is kept in the monitor's row."""
    return msgspec.convert(value, Reference)


def check_baseline(given: dict[str, Baseline]) -> None:
    """Raises Invalid when the counts do not fit the edges."""
    for name, baseline in given.items():
        if baseline.labels:
            continue
        edges, counts = baseline.edges, baseline.counts
        is_ascending = all(a < b for a, b in itertools.pairwise(edges))
        if len(counts) != len(edges) + 1 or not is_ascending or not np.all(np.isfinite([*edges, *counts])):
            raise Invalid(
                f"The baseline of {name!r} needs ascending edges and one count more than edges.", where=f"baseline.{name}"
            )
        if min(counts) < 0 or sum(counts) + baseline.nulls <= 0:
            raise Invalid(
                f"The baseline of {name!r} needs counts that are not negative, and some.", where=f"baseline.{name}"
            )


def parse_traffic(text: str) -> tuple[int, int]:
    """The span of `traffic:<from_ms>-<to_ms>`. Raises Invalid."""
    first, dash, last = text.removeprefix("traffic:").partition("-")
    if not dash or not first.isdigit() or not last.isdigit() or int(first) >= int(last):
        raise Invalid(
            f"{text!r} is not a span of traffic.", where="reference", hint="Write traffic:<from_ms>-<to_ms>, in event time."
        )
    return int(first), int(last)


def sketch_table(
    name: str, chunks: Iterable[bytes], columns: list[str] | None = None, sample: Sample | None = None
) -> Profile:
    """The profile of a Parquet, Arrow or CSV file, and some rows of it into `sample`.

    Raises Invalid for another kind, or one that cannot be read.
    """
    import pyarrow

    try:
        return sketch_batches(_reader(name)(_buffered(name, chunks)), columns, sample)
    except pyarrow.ArrowException as cause:
        raise Invalid(f"{name} cannot be read as a table.", where="reference") from cause


def matching_rows(name: str, chunks: Iterable[bytes], key: str, keys: set[str]) -> dict[str, dict[str, Any]]:
    """The rows of a Parquet, Arrow or CSV file whose `key`, as Arrow writes it (12.0 is '12'), is one of `keys`, by it; the last of
    equals. Raises Invalid."""
    import pyarrow as pa
    from pyarrow import compute

    wanted = pa.array(sorted(keys), pa.string())
    found: dict[str, dict[str, Any]] = {}
    try:
        for batch in _reader(name)(_buffered(name, chunks)):
            if key not in batch.schema.names:
                raise Invalid(f"{name} has no column {key!r}.", where="key")
            names = compute.cast(batch.column(key), pa.string())
            mine = compute.is_in(names, value_set=wanted)
            found |= dict(zip(names.filter(mine).to_pylist(), batch.filter(mine).to_pylist(), strict=True))
    except pa.ArrowException as cause:
        raise Invalid(f"{name} cannot be read as a table.", where="reference") from cause
    return found


def _buffered(name: str, chunks: Iterable[bytes]) -> Any:
    import io

    buffer = io.BytesIO()
    for chunk in chunks:
        buffer.write(chunk)
        if buffer.tell() > TABLE_BYTES_MAX:
            raise Invalid(f"{name} is too large to be a reference.", where="reference", hint="Commit a sample of it.")
    buffer.seek(0)
    return buffer


def is_table(name: str) -> bool:
    return name.endswith((".parquet", ".csv", ".arrow", ".feather"))


def _reader(name: str) -> Callable[[Any], Iterable[Any]]:
    if name.endswith(".parquet"):
        return _parquet
    if name.endswith(".csv"):
        return _csv
    if name.endswith((".arrow", ".feather")):
        return _arrow
    raise Invalid(f"{name} is no table.", where="reference", hint="Parquet, Arrow and CSV files can be a reference.")


def _parquet(buffer: Any) -> Iterable[Any]:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(buffer).iter_batches(batch_size=ROWS_PER_BATCH)  # type: ignore[no-any-return]


def _csv(buffer: Any) -> Iterable[Any]:
    import pyarrow.csv

    return pyarrow.csv.open_csv(buffer)  # type: ignore[no-any-return]


def _arrow(buffer: Any) -> Iterable[Any]:
    import pyarrow.feather

    return pyarrow.feather.read_table(buffer).to_batches(max_chunksize=ROWS_PER_BATCH)  # type: ignore[no-any-return]


def sketch_batches(batches: Iterable[Any], columns: list[str] | None = None, sample: Sample | None = None) -> Profile:
    """The profile of Arrow batches with one schema: numbers are counted as they come, words by Arrow."""
    from noria.monitoring.segments import as_numpy, is_number

    tally, words, rows = Tally([]), dict[str, list[Sketch]](), 0
    for batch in batches:
        names = [n for n in batch.schema.names if columns is None or n in columns]
        numbers = [n for n in names if is_number(batch.schema.field(n).type)]
        if not rows:
            tally = Tally(numbers)
        rows += batch.num_rows
        arrays = {n: as_numpy(batch.column(n)) for n in numbers}
        for i, name in enumerate(tally.names):
            tally.add_column(i, arrays[name])
        for name in (n for n in names if n not in arrays):
            words.setdefault(name, []).append(sketch_arrow_words(batch.column(name)))
        if sample is not None:
            sample.add_from(set(names), batch.num_rows, functools.partial(_rows_of, batch, names))
    found = tally.sketches() | {name: merge(parts) for name, parts in words.items()}
    return Profile(rows=rows, columns=found)


def _rows_of(batch: Any, names: list[str], chosen: Any) -> dict[str, Any]:
    from noria.monitoring.segments import as_numpy

    return {n: as_numpy(batch.column(n).take(chosen)) for n in names}


def sketch_arrow_words(column: Any) -> Sketch:
    """The sketch of an Arrow column of anything but numbers: equal values are counted by Arrow, where it can."""
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_nested(column.type):
        return sketch_words(column.to_pylist())
    counted = compute.value_counts(column)
    return sketch_counted(counted.field("values").to_pylist(), counted.field("counts").to_pylist())
