"""Points on their way: batches within the protocol's limits, how many different ones there are, and are they the same."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Any

from noria.client.moving.model import Number

POINTS_PER_BATCH = 1_000  # MLflow's limit of one request


class Different:
    """Counts the different points of a run. They come key by key; of one key 24 bytes a point are in memory."""

    def __init__(self) -> None:
        self.count = 0
        self._key: str | None = None
        self._columns = _Columns()

    def add(self, point: Number) -> None:
        if point.key != self._key:
            self._close()
            self._key = point.key
        self._columns.add(point)

    def total(self) -> int:
        self._close()
        return self.count

    def _close(self) -> None:
        self.count += len(self._columns.sorted())
        self._columns = _Columns()


class _Columns:
    def __init__(self) -> None:
        self.step, self.at_ms, self.value = array("q"), array("q"), array("d")

    def add(self, point: Number) -> None:
        self.step.append(point.step)
        self.at_ms.append(point.at_ms)
        self.value.append(point.value)

    def sorted(self) -> Any:
        """The different points as a sorted structured array; any NaN is the same NaN, and -0.0 is 0.0."""
        import numpy as np

        rows = np.empty(len(self.step), dtype=[("step", "i8"), ("at_ms", "i8"), ("value", "i8")])
        rows["step"], rows["at_ms"] = np.frombuffer(self.step, "i8"), np.frombuffer(self.at_ms, "i8")
        values = np.frombuffer(self.value, "f8") + 0.0
        values[np.isnan(values)] = np.nan
        rows["value"] = values.view("i8")
        return np.unique(rows)


def same(one: Iterable[Number], other: Iterable[Number]) -> bool:
    """Are these the same points of one metric, in any order, repeated or not?"""
    import numpy as np

    columns = []
    for points in (one, other):
        found = _Columns()
        for point in points:
            found.add(point)
        columns.append(found.sorted())
    return bool(np.array_equal(*columns))


def by_key(points: Iterable[Number]) -> Iterator[tuple[str, Iterator[Number]]]:
    """Points that come key by key, as one iterator for each key."""
    from itertools import groupby

    return groupby(points, key=lambda point: point.key)


def batches(points: Iterable[Number]) -> Iterator[list[Number]]:
    batch: list[Number] = []
    for point in points:
        batch.append(point)
        if len(batch) == POINTS_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
