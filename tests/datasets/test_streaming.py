"""Samples without a checkout: every one once, in an order that a seed decides, shared out, and resumable."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.client.blocks import BLOCK_BYTES, BlockCache
from noria.client.datasets import Dataset, Version
from noria.client.repositories import LocalDataset
from noria.kernel.errors import Conflict, Invalid, NotFound
from noria.repository.repository import open_repository


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalDataset:
    """A dataset without a server: 1,000 rows in row groups of 30, and 40 files."""
    folder = tmp_path_factory.mktemp("streams")
    found = LocalDataset("flights", open_repository(str(folder / "store")))
    rows = pa.table({"x": np.arange(1000), "y": np.arange(1000) / 7, "name": [f"r{i}" for i in range(1000)]})
    for name, part in (("a", rows.slice(0, 700)), ("b", rows.slice(700))):
        pq.write_table(part, folder / f"{name}.parquet", row_group_size=30)
    found.commit({"a.parquet": folder / "a.parquet", "b.parquet": folder / "b.parquet"}, alias="rows")
    found.commit({f"images/{i:02d}.bin": bytes([i]) * (i + 1) for i in range(40)}, alias="files")
    return found


@pytest.fixture(scope="module")
def rows(local: LocalDataset) -> Version:
    return local.version("rows")


def xs(batches: Any) -> list[int]:
    return [int(x) for batch in batches for x in np.atleast_1d(batch["x"])]


def test_every_row_comes_once_in_batches_that_are_full(rows: Version) -> None:
    batches = list(rows.stream(batch_size=64, window=100))
    assert [len(b["x"]) for b in batches] == [64] * 15 + [40]
    assert xs(batches) == list(range(1000))
    assert sorted(batches[0]) == ["name", "x", "y"] and batches[0]["y"].dtype == np.float64
    assert len(rows.stream(batch_size=64, window=100)) == 16


def test_one_row_at_a_time_and_only_some_columns(rows: Version) -> None:
    first = next(iter(rows.stream(columns=["name", "x"])))
    assert first == {"name": "r0", "x": 0}
    assert list(rows.stream("b.parquet", columns=["x"], transform=lambda r: r["x"] + 1)) == list(range(701, 1001))


def test_a_seed_decides_the_order_and_an_epoch_has_its_own(rows: Version) -> None:
    def order(seed: int, epoch: int = 0) -> list[int]:
        stream = rows.stream(batch_size=50, shuffle=True, seed=seed, window=200)
        stream.set_epoch(epoch)
        return xs(stream)

    assert order(1) == order(1) != order(2)
    assert order(1) != order(1, epoch=1)
    assert sorted(order(1)) == sorted(order(2)) == list(range(1000))
    assert order(1)[:200] != sorted(order(1)[:200])
    again = rows.stream(batch_size=50, shuffle=True, seed=1, window=200)
    assert [xs(again), xs(again)] == [order(1), order(1, epoch=1)]  # an iteration that ends moves on to the next epoch


@given(shards=st.integers(1, 7), window=st.integers(1, 400), size=st.sampled_from([None, 1, 7, 64]), shuffle=st.booleans())
def test_shares_have_every_sample_once(rows: Version, shards: int, window: int, size: int | None, shuffle: bool) -> None:
    options: dict[str, Any] = {"window": window, "batch_size": size, "shuffle": shuffle, "seed": 5, "columns": ["x"]}
    shares = [xs(rows.stream(**options, rank=i, ranks=shards)) for i in range(shards)]
    assert sorted(itertools.chain(*shares)) == list(range(1000))
    even = [xs(rows.stream(**options, rank=i, ranks=shards, even=True)) for i in range(shards)]
    assert {len(share) for share in even} == {min(map(len, shares))}
    for share, whole in zip(even, shares, strict=True):
        assert share == whole[: len(share)] or shuffle
        assert set(share) <= set(whole)


@given(stop=st.integers(0, 40), window=st.integers(1, 400), size=st.sampled_from([None, 13, 64]), shuffle=st.booleans())
def test_a_stream_goes_on_exactly_where_it_stopped(
    rows: Version, stop: int, window: int, size: int | None, shuffle: bool
) -> None:
    def made() -> Any:
        return rows.stream(columns=["x"], window=window, batch_size=size, shuffle=shuffle, seed=3, rank=1, ranks=2)

    whole = [xs([b]) for b in made()]
    stopped = made()
    before = [xs([b]) for b in itertools.islice(stopped, stop)]
    state = pickle.loads(pickle.dumps(stopped.state_dict()))
    resumed = made()
    resumed.load_state_dict(state)
    after = [xs([b]) for b in resumed]
    if stop <= len(whole):
        assert before + after == whole
    else:  # the first epoch had ended: what comes is the second
        again = made()
        assert [before, after] == [[xs([b]) for b in again], [xs([b]) for b in again]]


def test_a_state_of_something_else_is_refused(rows: Version, local: LocalDataset) -> None:
    state = rows.stream(seed=1, shuffle=True).state_dict()
    with pytest.raises(Conflict, match="seed 1"):
        rows.stream(seed=2, shuffle=True).load_state_dict(state)
    with pytest.raises(Conflict, match="version"):
        local.version("files").stream(seed=1, shuffle=True).load_state_dict(state)
    with pytest.raises(Invalid, match="state"):
        rows.stream().load_state_dict({"epoch": 1})


def test_files_come_whole_and_shuffled(local: LocalDataset) -> None:
    version = local.version("files")
    found = list(version.stream("images/"))
    assert [f["path"] for f in found] == [f"images/{i:02d}.bin" for i in range(40)]
    assert all(f["data"] == bytes([i]) * (i + 1) for i, f in enumerate(found))
    batches = list(version.stream(batch_size=16, shuffle=True, seed=1))
    assert [len(b) for b in batches] == [16, 16, 8]
    assert sorted(f["path"] for b in batches for f in b) == [f["path"] for f in found] != [b["path"] for b in batches[0]]


def test_wrong_options_say_what_to_do(rows: Version) -> None:
    for options in ({"batch_size": 0}, {"window": 0}, {"rank": 2, "ranks": 2}, {"rank": 0}):
        with pytest.raises(Invalid):
            rows.stream(**options)
    with pytest.raises(NotFound, match="nothing/"):
        list(rows.stream("nothing/"))


def test_a_stream_works_in_another_process(rows: Version) -> None:
    stream = rows.stream(batch_size=100, shuffle=True, seed=9)
    taken = [xs([b]) for b in itertools.islice(stream, 3)]
    copy = pickle.loads(pickle.dumps(stream))  # as a loader's worker gets it
    assert copy._place.open() is not rows
    assert taken + [xs([b]) for b in copy] == [xs([b]) for b in rows.stream(batch_size=100, shuffle=True, seed=9)]


def test_through_a_server(data: Dataset) -> None:
    frame = pd.DataFrame({"x": range(500), "y": [f"v{i % 3}" for i in range(500)]})
    version = data.commit({"t.parquet": frame, "u.parquet": frame})
    assert xs(version.stream("t.parquet", batch_size=100, columns=["x"])) == list(range(500))
    dataset = version.arrow_dataset()
    assert dataset.count_rows() == 1000
    import pyarrow.dataset as pads

    assert dataset.to_table(columns=["x"], filter=pads.field("y") == "v1").num_rows == 334
    with pytest.raises(NotFound):
        version.arrow_dataset("nothing")


def test_an_arrow_dataset_without_a_server(rows: Version) -> None:
    assert rows.arrow_dataset().count_rows() == 1000
    assert rows.arrow_dataset("b").head(2, columns=["x"]).to_pydict() == {"x": [700, 701]}


class Source:
    """A file whose requests are counted."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def fetch(self, start: int, end: int) -> list[bytes]:
        self.asked.append((start, end))
        return [self.data[start:end]]


@given(
    size=st.integers(1, 3 * BLOCK_BYTES + 7),
    reads=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=12),
    kept=st.integers(0, 4),
)
def test_blocks_are_what_the_file_is(size: int, reads: list[tuple[float, float]], kept: int) -> None:
    source = Source(bytes(i % 251 for i in range(size)))
    cache = BlockCache(kept * BLOCK_BYTES)
    for a, b in reads:
        low, high = sorted((int(a * size), int(b * size) + 1))
        assert cache.read("f", size, low, high, source.fetch) == source.data[low:high]
        assert cache._bytes == sum(map(len, cache._kept.values())) <= kept * BLOCK_BYTES
    if kept == 4:
        assert sum(end - start for start, end in source.asked) <= size  # nothing was fetched twice


def test_only_what_is_needed_is_fetched_and_gaps_are_filled_together() -> None:
    source = Source(bytes(40 * BLOCK_BYTES))
    cache = BlockCache(64 << 20)
    cache.read("f", len(source.data), 5 * BLOCK_BYTES + 3, 5 * BLOCK_BYTES + 9, source.fetch)
    assert source.asked == [(5 * BLOCK_BYTES, 6 * BLOCK_BYTES)]
    source.asked.clear()
    cache.read("f", len(source.data), 0, len(source.data), source.fetch)
    assert sorted(source.asked) == [
        (0, 5 * BLOCK_BYTES), (6 * BLOCK_BYTES, 22 * BLOCK_BYTES), (22 * BLOCK_BYTES, 38 * BLOCK_BYTES),
        (38 * BLOCK_BYTES, 40 * BLOCK_BYTES),
    ]  # fmt: skip


def test_a_failure_is_told_and_not_kept() -> None:
    source = Source(bytes(100))
    cache = BlockCache(1 << 20)

    def broken(start: int, end: int) -> list[bytes]:
        raise NotFound("gone")

    with pytest.raises(NotFound, match="gone"):
        cache.read("f", 100, 0, 10, broken)
    with pytest.raises(Exception, match="arrived instead of"):
        cache.read("f", 100, 0, 10, lambda start, end: [b"short"])
    assert cache.read("f", 100, 0, 10, source.fetch) == bytes(10)
