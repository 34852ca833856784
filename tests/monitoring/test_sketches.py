"""Sketches: accurate to half a percent, and the same however the data was cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from noria.kernel.errors import Invalid
from noria.monitoring.sketches import (
    ACCURACY,
    LABELS_MAX,
    REST,
    align_edges,
    bins_of,
    merge,
    middles,
    profiles_by_bucket,
    quantile,
    sketch_column,
    sketch_numbers,
    sketch_words,
)

NUMBERS = arrays(np.float64, st.integers(0, 80), elements=st.floats(-1e9, 1e9) | st.sampled_from([np.nan, np.inf]))


@given(NUMBERS)
def test_every_value_lies_within_the_accuracy_of_its_bin(values: Any) -> None:
    finite = values[np.isfinite(values)]
    middle = middles(bins_of(finite))
    large = np.abs(finite) > 1e-11
    assert np.all(np.abs(middle - finite)[large] <= ACCURACY * 1.0001 * np.abs(finite)[large])


@given(NUMBERS)
def test_bins_keep_the_order(values: Any) -> None:
    finite = np.sort(values[np.isfinite(values)])
    assert np.all(np.diff(bins_of(finite)) >= 0)


@given(NUMBERS, st.integers(0, 80), st.integers(0, 80))
def test_merging_parts_gives_the_sketch_of_the_whole(values: Any, a: int, b: int) -> None:
    first, last = sorted((a, b))
    parts = [sketch_numbers(p) for p in (values[:first], values[first:last], values[last:])]
    whole = sketch_numbers(values)
    for order in (parts, parts[::-1]):
        found = merge(order)
        assert (found.bins, found.counts, found.nulls) == (whole.bins, whole.counts, whole.nulls)


@given(NUMBERS, st.integers(1, 5), st.integers(0, 99))
@settings(deadline=None)
def test_bucketed_profiles_are_the_sketches_of_their_rows(values: Any, buckets: int, seed: int) -> None:
    starts = np.random.default_rng(seed).integers(0, buckets, len(values))
    words = np.array([None if not np.isfinite(v) else str(int(v) % 3) for v in values], dtype=object)
    found = profiles_by_bucket(starts, {"x": values, "w": words})
    assert sorted(found) == sorted(set(starts.tolist()))
    for start, profile in found.items():
        mine = starts == start
        expected, got = sketch_numbers(values[mine]), profile.columns["x"]
        assert (profile.rows, got.bins, got.counts, got.nulls) == (
            int(mine.sum()), expected.bins, expected.counts, expected.nulls,
        )  # fmt: skip
        assert got.total == pytest.approx(expected.total, rel=1e-9, abs=1e-6)
        assert profile.columns["w"] == sketch_words(words[mine].tolist())


def test_quantiles_are_close() -> None:
    values = np.random.default_rng(1).lognormal(3, 1, 20_000)
    sketch = sketch_numbers(values)
    for q in (0.01, 0.25, 0.5, 0.75, 0.99):
        assert quantile(sketch, q) == pytest.approx(np.quantile(values, q), rel=0.011)
    assert np.isnan(quantile(sketch_numbers(np.array([])), 0.5))


def test_a_value_on_an_edge_counts_below_it() -> None:
    found = align_edges([10.0, 20.0], [1, 1, 1], 0, sketch_numbers(np.array([10.0, 10.2, 20.0, 20.5, np.nan])))
    assert found.current.tolist() == [1, 2, 1, 1]
    with pytest.raises(Invalid):
        align_edges([2.0, 1.0], [1, 1, 1], 0, sketch_numbers(np.array([1.0])))


def test_zero_and_signs_have_bins_of_their_own() -> None:
    assert bins_of(np.array([0.0, -0.0, 1e-13])).tolist() == [0, 0, 0]
    low, high = bins_of(np.array([-5.0, 5.0])).tolist()
    assert low == -high < 0


def test_too_many_words_share_one_count() -> None:
    found = sketch_words(str(i) for i in range(LABELS_MAX + 7))
    assert (len(found.labels), found.labels[REST], found.count) == (LABELS_MAX + 1, 7, LABELS_MAX + 7)


def test_columns_are_sketched_by_kind() -> None:
    assert sketch_column(np.array([True, False, True])).counts == [1, 2]
    assert sketch_column(np.array(["a", None, "a"], dtype=object)).labels == {"a": 2}
    assert sketch_column(np.array([3, 3], dtype=np.int32)).counts == [2]
