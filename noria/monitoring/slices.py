"""Parts of the traffic: where a column has a value, or lies in a range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.kernel.errors import Invalid
from noria.monitoring.model import Slice
from noria.monitoring.rows import Rows

AUTO_WORDS, AUTO_NUMBERS, AUTO_RANGES = 20, 12, 5


def check_slice(found: Slice, where: str) -> None:
    """Raises Invalid when a slice says nothing, or two things."""
    has_range = found.low is not None or found.high is not None
    if not found.column or (found.value is not None) == has_range:
        raise Invalid("A slice has a column, and either a value or a range.", where=where)
    if found.low is not None and found.high is not None and found.low >= found.high:
        raise Invalid("The range of a slice is empty.", where=where)


def mask(rows: Rows, part: Slice) -> NDArray[np.bool_]:
    """Which rows belong to a slice; none when the column is not there."""
    values = rows.inputs.get(part.column)
    if values is None:
        return np.zeros(len(rows), dtype=bool)
    if part.value is not None:
        if values.dtype == object:
            return np.asarray([v is not None and str(v) == str(part.value) for v in values.tolist()], dtype=bool)
        try:
            return np.asarray(values == float(part.value), dtype=bool)
        except ValueError:
            return np.zeros(len(rows), dtype=bool)
    if values.dtype == object:
        return np.zeros(len(rows), dtype=bool)
    keep = np.isfinite(values)
    if part.low is not None:
        keep &= values >= part.low
    if part.high is not None:
        keep &= values < part.high
    return np.asarray(keep, dtype=bool)


def slices_of(column: str, values: Any) -> list[Slice]:
    """A column cut up: each of its most frequent words, each of few numbers, else ranges between quantiles."""
    if values.dtype == object:
        words, counts = np.unique(np.asarray([str(v) for v in values.tolist() if v is not None]), return_counts=True)
        return [Slice(column=column, value=str(w)) for w in words[np.argsort(-counts, kind="stable")][:AUTO_WORDS]]
    known = values[np.isfinite(values)]
    distinct = np.unique(known)
    if len(distinct) <= AUTO_NUMBERS:
        return [Slice(column=column, value=float(v)) for v in distinct]
    edges = np.unique(np.quantile(known, np.arange(1, AUTO_RANGES) / AUTO_RANGES)).tolist()
    return [Slice(column=column, low=low, high=high) for low, high in zip([None, *edges], [*edges, None], strict=True)]
