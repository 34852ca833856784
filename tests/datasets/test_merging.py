"""The profile of a table from its fragments, beside that of all its rows at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from noria.datasets.merging import merge_profiles, merge_quantiles
from noria.datasets.model import ColumnProfile, FragmentProfile, TableProfile
from noria.datasets.profile import profile_file
from noria.datasets.profiles import sketched
from noria.datasets.sketches import estimate, sketch


def table(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "id": np.arange(rows),
            "x": pa.array(rng.normal(3, 2, rows), mask=rng.random(rows) < 0.1),
            "few": rng.integers(0, 9, rows),
            "many": [f"user {i}" for i in rng.integers(0, rows // 3, rows)],
            "origin": rng.choice(["JFK", "LGA", "EWR"], rows, p=[0.6, 0.3, 0.1]),
            "at": pa.array(rng.integers(0, 10**9, rows), pa.timestamp("s")),
            "late": rng.random(rows) < 0.2,
            "tags": [["a"]] * rows,
        }
    )


def profile(rows: pa.Table) -> TableProfile:
    return profile_file(lambda target: parquet.write_table(rows, target), "parquet", rows.nbytes)


def by_name(found: TableProfile) -> dict[str, ColumnProfile]:
    return {c.name: c for c in found.columns}


def test_parts_say_what_the_whole_says() -> None:
    rows = table(9000)
    parts = [sketched(rows.slice(low, high - low)) for low, high in ((0, 1000), (1000, 5000), (5000, 9000))]
    merged, whole = merge_profiles(parts), profile(rows)
    assert (merged.rows_count, merged.state) == (9000, "ready")
    for name, said in by_name(whole).items():
        found = by_name(merged)[name]
        for exact in ("type", "kind", "rows", "nulls", "nans", "min", "max"):
            assert getattr(found, exact) == getattr(said, exact), (name, exact)
        if said.mean is not None:
            assert found.mean == pytest.approx(said.mean) and found.std == pytest.approx(said.std)
            values = np.sort(
                rows[name].drop_null().cast(pa.int64() if name == "at" else rows[name].type).to_numpy()
                * (1000 if name == "at" else 1)
            )
            ranks = np.searchsorted(values, found.quantiles, side="right") / len(values)
            lows = np.searchsorted(values, found.quantiles, side="left") / len(values)
            wanted = np.linspace(0, 1, 201)
            assert np.all((lows - 0.011 <= wanted) & (wanted <= ranks + 0.011)), name
            assert found.histogram is not None and sum(found.histogram.counts) == len(values)
    found = by_name(merged)
    assert (found["id"].distinct, found["id"].distinct_is_exact) == (9000, True), "ranges that do not overlap"
    assert [(t.value, t.count) for t in found["origin"].top] == [(t.value, t.count) for t in by_name(whole)["origin"].top]
    assert (found["few"].distinct, found["few"].distinct_is_exact, found["few"].top_is_complete) == (9, True, True)
    many = by_name(whole)["many"].distinct
    assert (
        many is not None and found["many"].distinct == pytest.approx(many, rel=0.1) and not found["many"].distinct_is_exact
    )


def test_a_part_that_cannot_be_read_decides() -> None:
    broken = FragmentProfile(path="", format="parquet", state="skipped", reason="It takes too much.")
    merged = merge_profiles([sketched(table(10)), broken])
    assert (merged.state, merged.reason) == ("skipped", "It takes too much.")


@given(
    parts=st.lists(
        st.lists(st.floats(-1e6, 1e6, allow_nan=False, width=32), min_size=1, max_size=60), min_size=1, max_size=5
    )
)
@settings(max_examples=60, deadline=None)
def test_merged_quantiles_are_near_the_true_ones(parts: list[list[float]]) -> None:
    """In rank: by at most a step of the parts, and a value of each part where there are few."""

    def quantiles(values: list[float]) -> list[float]:
        return [float(v) for v in np.quantile(values, np.linspace(0, 1, 201), method="inverted_cdf")]

    found = merge_quantiles([(len(p), quantiles(p)) for p in parts])
    together = np.sort(np.concatenate(parts))
    assert found[0] == together[0] and found[-1] == together[-1] and found == sorted(found)
    slack = 0.01 + len(parts) / len(together)
    low = np.searchsorted(together, found, side="left") / len(together)
    high = np.searchsorted(together, found, side="right") / len(together)
    wanted = np.linspace(0, 1, 201)
    assert np.all((low - slack <= wanted) & (wanted <= high + slack))


@pytest.mark.parametrize("count", [0, 1, 100, 5_000, 200_000])
def test_distinct_values_are_estimated(count: int, tmp_path: Path) -> None:
    columns: list[Any] = [
        pa.array(np.arange(count)), pa.array(np.random.default_rng(0).random(count)), pa.array([f"{i}" for i in range(count)], pa.string()),
    ]  # fmt: skip
    for column in columns:
        parts = [sketch(column), sketch(column.slice(0, count // 2)), sketch(column.slice(count // 3))]
        assert estimate(parts) == pytest.approx(count, rel=0.08)
