"""Skew between training and serving: the same entity, as the model was trained on it and as it was asked about it.

Distributions may agree while a feature is computed otherwise for one row in ten. So rows are compared: those of the dataset with the
answers that have the same key, column by column.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct

from noria.monitoring.intervals import wilson
from noria.monitoring.rows import Rows

TOLERANCE = 1e-6  # relative; 32-bit floats on the way are no skew
EXAMPLES = 3


class Example(Struct, frozen=True, kw_only=True):
    """One entity whose value differs."""

    key: str
    served: Any
    trained: Any


class ColumnSkew(Struct, frozen=True, kw_only=True):
    """How many of the compared answers have another value than the dataset."""

    column: str
    compared: int
    differ: int
    share: float
    low: float
    high: float
    examples: list[Example]


class Skew(Struct, frozen=True, kw_only=True):
    """Columns, the most skewed first."""

    items: list[ColumnSkew]
    reference: str
    answers: int
    matched: int  # answers whose key the dataset has
    next: str | None = None


def skew_of(rows: Rows, trained: dict[str, dict[str, Any]]) -> list[ColumnSkew]:
    """Every input that the dataset has too."""
    pairs = [(i, key, trained[key]) for i, key in enumerate(rows.key.tolist()) if key in trained]
    found = []
    for name, values in rows.inputs.items():
        served = values.tolist()
        compared = [(key, served[i], row[name]) for i, key, row in pairs if name in row]
        if not compared:
            continue
        differing = [(key, mine, theirs) for key, mine, theirs in compared if differs(mine, theirs)]
        share = wilson(len(differing), len(compared))
        found.append(
            ColumnSkew(
                column=name, compared=len(compared), differ=len(differing), share=share.value, low=share.low, high=share.high,
                examples=[Example(key=k, served=plain(s), trained=plain(t)) for k, s, t in differing[:EXAMPLES]],
            )
        )  # fmt: skip
    return sorted(found, key=lambda c: (-c.share, c.column))


def differs(served: Any, trained: Any) -> bool:
    """Is it another value? Missing equals missing; numbers within TOLERANCE are equal."""
    a, b = plain(served), plain(trained)
    if a is None or b is None:
        return a is not b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return not math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return str(a) != str(b)


def plain(value: Any) -> Any:
    """A number, a text, or None for what is missing."""
    if value is None or value != value:
        return None
    return value if isinstance(value, int | float | str) else str(value)
