"""Sketches of many columns while rows come in: one dense array of counts, so that small blocks cost little.

A sketch has few of the bins there are (12,435 for every number that a column may hold). Here every bin has a place: a block is one pass
of arithmetic over all its columns and one addition per value, where merging sketches would sort and walk lists for each column. Turned
into sketches at the end, the counts are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noria.monitoring.sketches import BIN_LARGEST, Floats, Sketch, bins_of

WIDTH = 2 * BIN_LARGEST + 1
DENSE_MIN = 4_096  # values from which on counting all bins beats adding one by one
PIECE = 65_536  # values at a time: what the processor's cache holds


class Tally:
    """Counts of the bins of some columns of numbers."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._counts = np.zeros(len(self.names) * WIDTH, dtype=np.int64)
        self._starts: NDArray[np.int64] = np.arange(len(self.names), dtype=np.int64) * WIDTH + BIN_LARGEST
        self._nulls = np.zeros(len(self.names), dtype=np.int64)
        self._totals = np.zeros(len(self.names))

    def add_rows(self, rows: Floats) -> None:
        """Count a block: one row per answer, one column per name. NaN and infinities count as missing."""
        finite = np.isfinite(rows)
        if finite.all():
            places = bins_of(rows)
            places += self._starts
            self._totals += rows.sum(axis=0)
        else:
            self._nulls += (~finite).sum(axis=0)
            safe = np.where(finite, rows, 0.0)
            self._totals += safe.sum(axis=0)
            places = (bins_of(safe) + self._starts)[finite]
        np.add.at(self._counts, places.reshape(-1), 1)

    def add_column(self, index: int, values: Floats) -> None:
        """Count values of one column."""
        start = index * WIDTH
        mine = self._counts[start : start + WIDTH]
        for at in range(0, len(values), PIECE):
            piece = values[at : at + PIECE]
            finite = np.isfinite(piece)
            if not finite.all():
                self._nulls[index] += len(piece) - int(finite.sum())
                piece = piece[finite]
            self._totals[index] += piece.sum()
            places = bins_of(piece)
            places += BIN_LARGEST
            if len(piece) >= DENSE_MIN:
                mine += np.bincount(places, minlength=WIDTH)
            else:
                np.add.at(mine, places, 1)

    def sketches(self) -> dict[str, Sketch]:
        """What was counted so far, by name."""
        found = {}
        for i, name in enumerate(self.names):
            counts = self._counts[i * WIDTH : (i + 1) * WIDTH]
            some = np.flatnonzero(counts)
            found[name] = Sketch(
                bins=(some - BIN_LARGEST).tolist(), counts=counts[some].tolist(), nulls=int(self._nulls[i]),
                total=float(self._totals[i]),
            )  # fmt: skip
        return found
