"""Profiles, samples and diffs of tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from noria.client.datasets import Dataset
from noria.datasets.diff import psi
from noria.datasets.model import ColumnProfile, Profile
from noria.kernel.errors import Invalid, NotFound
from tests.conftest import Noria


def frame(rows: int = 1000, seed: int = 0, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "key": [f"k{i:05}" for i in range(rows)],
            "x": rng.normal(shift, 1, rows),
            "n": rng.integers(0, 24, rows),
            "carrier": rng.choice(["UA", "AA", "DL"], rows, p=[0.5, 0.3, 0.2]),
            "late": rng.random(rows) < 0.25,
            "at": pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 86_400, rows), unit="s"),
        }
    )


def columns(profile: Profile, table: int = 0) -> dict[str, ColumnProfile]:
    return {c.name: c for c in profile.tables[table].columns}


def test_a_frame_comes_back_as_it_was(data: Dataset) -> None:
    made = data.commit(frame(), message="January")
    pd.testing.assert_frame_equal(made.to_pandas(), frame(), check_dtype=False)
    assert (made.info.rows_count, [c.name for c in made.info.schema or []]) == (1000, list(frame().columns))
    assert made.table().schema.field("x").type == pa.float64()
    assert not data.commit(frame()).is_new, "the same frame is the same file"


def test_a_profile_says_what_numpy_says(data: Dataset, noria: Noria) -> None:
    table = frame(5000)
    table.loc[:99, "x"] = np.nan
    table.loc[100:109, "carrier"] = None
    made = data.commit({"t.parquet": table})
    noria.settle()
    profile = made.profile()
    assert profile.state == "ready"
    found = columns(profile)
    x, known = found["x"], table["x"].dropna()
    assert (x.kind, x.rows, x.nulls + x.nans, x.distinct) == ("numeric", 5000, 100, known.nunique())
    assert x.mean == pytest.approx(known.mean())
    assert x.std == pytest.approx(known.std())
    assert (x.min, x.max) == (known.min(), known.max())
    assert x.quantiles[100] == pytest.approx(known.quantile(0.5, interpolation="lower"), abs=1e-2)
    assert x.histogram is not None and sum(x.histogram.counts) == 4900
    assert len(x.histogram.edges) == len(x.histogram.counts) + 1
    n = found["n"]
    assert n.top_is_complete and sum(t.count for t in n.top) == 5000 and (n.min, n.max) == (0, 23)
    carrier = found["carrier"]
    expected = table["carrier"].value_counts()
    assert {t.value: t.count for t in carrier.top} == expected.to_dict() and carrier.nulls == 10
    assert {t.value for t in found["late"].top} == {True, False}
    at = found["at"]
    assert at.kind == "time" and str(at.min).startswith("2013-01-01T00:00")
    assert at.mean == pytest.approx(table["at"].astype("datetime64[ms, UTC]").astype("int64").mean())


def test_a_profile_is_computed_once_per_content(data: Dataset, noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    from noria.datasets import profiles

    computed: list[int] = []
    real = profiles.profile_file
    monkeypatch.setattr(profiles, "profile_file", lambda *a: computed.append(1) or real(*a))
    monkeypatch.setattr(profiles, "NOW_BYTES", 0)
    same = frame(50)
    first = data.commit({"a.parquet": same, "b.parquet": frame(50, 1)})
    assert first.profile().state == "pending"
    noria.settle()
    assert first.profile().state == "ready" and len(computed) == 2
    second = data.commit({"a.parquet": same, "renamed.parquet": same, "notes.txt": b"x"})
    assert second.profile().state == "ready"
    noria.settle()
    assert len(computed) == 2
    assert [e.data["job_kind"] for e in noria.facts("job.succeeded")] == ["dataset.profile"] * 2


def test_the_profile_job_fills_in_what_a_csv_says(data: Dataset, noria: Noria) -> None:
    made = data.commit({"t.csv": b"id,name,when\n1,a,2013-01-01\n2,,2013-01-02\n"})
    assert made.info.rows_count is None
    noria.settle()
    info = data.version().info
    assert info.rows_count == 2
    assert [(c.name, c.type) for c in info.schema or []] == [("id", "int64"), ("name", "string"), ("when", "date32[day]")]
    assert columns(made.profile())["name"].nulls == 1
    assert made.to_pandas()["id"].tolist() == [1, 2]


def test_a_broken_table_is_committed_and_said(data: Dataset, noria: Noria, tmp_path: Any) -> None:
    whole = tmp_path / "whole.parquet"
    parquet.write_table(pa.table({"a": [1]}), whole)
    broken = whole.read_bytes()[:-8]
    made = data.commit(
        {"broken.parquet": broken, "fine.parquet": whole, "empty.csv": b"", "nul.csv": b"a,b\n\x00\x01,2\n\xff"}
    )
    assert made.is_new and len(made.warnings) == 1
    assert "broken.parquet cannot be read as Parquet" in made.warnings[0]
    noria.settle()
    states = {t.path: (t.state, bool(t.reason)) for t in made.profile().tables}
    assert states["broken.parquet"] == ("unreadable", True)
    assert states["fine.parquet"] == ("ready", False)
    assert all("noria-tables" not in t.reason for t in made.profile().tables)
    assert made.read("broken.parquet") == broken, "nothing is lost"
    assert noria.facts("job.failed") == []
    assert made.sample("broken.parquet").kind in ("binary", "text")


def test_odd_columns_are_described_or_left_alone(data: Dataset, noria: Noria, tmp_path: Any) -> None:
    table = pa.table(
        {
            'a" from secret; --': pa.array([1, 2, None], pa.int8()),
            "list": pa.array([[1], [2, 3], None]),
            "bytes": pa.array([b"\x00", b"\xff", None]),
            "extreme": pa.array([math.inf, -math.inf, math.nan]),
            "huge": pa.array([1.7e308, -1.7e308, 0.0]),
            "u64": pa.array([2**64 - 1, 0, None], pa.uint64()),
            "nothing": pa.nulls(3),
            "same": pa.array([5, 5, 5]),
            "decimal": pa.array([None, None, None], pa.decimal128(10, 2)),
            "dictionary": pa.array(["x", "y", "x"]).dictionary_encode(),
            "text": pa.array(["é" * 500, "", "a"]),
        }
    )
    parquet.write_table(table, tmp_path / "odd.parquet")
    made = data.commit(tmp_path / "odd.parquet")
    noria.settle()
    profile = made.profile()
    assert (profile.tables[0].state, profile.tables[0].reason) == ("ready", "")
    found = columns(profile)
    assert found["list"].kind == found["bytes"].kind == "other" and found["list"].nulls == 1
    assert (found["extreme"].nans, found["extreme"].mean, found["extreme"].min) == (3, None, None)
    assert found["huge"].histogram is None
    assert found["same"].histogram is not None and found["same"].histogram.counts == [3]
    assert found["nothing"].nulls == 3
    assert found["dictionary"].type == "string"
    rows = made.sample().rows
    assert len(rows) == 3 and rows[0][3] == "Infinity"


def test_an_empty_table_is_a_table(data: Dataset, noria: Noria) -> None:
    made = data.commit(frame(0))
    noria.settle()
    profile = made.profile()
    assert profile.tables[0].state == "ready" and profile.tables[0].rows_count == 0
    other = data.commit(frame(10))
    diff = data.diff(1, 2)
    assert diff.tables[0].rows_after == 10 and diff.tables[0].columns[1].psi is None
    assert other.number == 2


def test_an_auditor_sees_what_data_is_like_but_no_values(data: Dataset, noria: Noria) -> None:
    data.commit(frame(100))
    noria.settle()
    seen = noria.as_("auditor", "auditor").get("/api/v1/datasets/flights/versions/1/profile").json()
    carrier = next(c for c in seen["tables"][0]["columns"] if c["name"] == "carrier")
    assert (carrier["distinct"], carrier["top"], carrier["min"]) == (3, [], None)


def test_samples_show_the_beginning(data: Dataset, noria: Noria) -> None:
    text = "\n".join(f"line {i}" for i in range(100))
    made = data.commit(
        {
            "t.parquet": frame(30),
            "t.tsv": b"a\tb\n1\t2\n3\t4\n",
            "notes.md": text.encode(),
            "x.bin": b"\x00\x01",
            "e.txt": b"",
        }
    )
    table = made.sample(limit=5)
    assert (table.path, table.kind, len(table.rows), table.is_truncated) == ("t.parquet", "table", 5, True)
    assert table.rows[0][0] == "k00000"
    tsv = made.sample("t.tsv")
    assert ([c.name for c in tsv.columns], tsv.rows, tsv.is_truncated) == (["a", "b"], [["1", "2"], ["3", "4"]], False)
    notes = made.sample("notes.md", limit=3)
    assert (notes.kind, notes.text, notes.is_truncated) == ("text", "line 0\nline 1\nline 2", True)
    assert made.sample("x.bin").kind == "binary"
    assert (made.sample("e.txt").text, made.sample("e.txt").is_truncated) == ("", False)
    assert noria.http.get("/api/v1/datasets/flights/versions/1/sample?limit=9999").status_code == 400
    with pytest.raises(NotFound):
        made.sample("nope")


def test_a_diff_names_files_columns_and_drift(data: Dataset, noria: Noria) -> None:
    data.commit({"t.parquet": frame(4000), "same.txt": b"=", "gone.txt": b"-", "was.txt": b"1"})
    after = frame(5000, seed=1, shift=1.5).rename(columns={"late": "is_late"}).astype({"n": "float64"})
    data.commit({"t.parquet": after, "same.txt": b"=", "came.txt": b"+", "was.txt": b"2"})
    noria.settle()
    diff = data.diff(1, 2)
    assert [c.path for c in diff.added] == ["came.txt"]
    assert [c.path for c in diff.removed] == ["gone.txt"]
    assert [c.path for c in diff.changed] == ["t.parquet", "was.txt"]
    table = diff.tables[0]
    assert (table.state, table.rows_before, table.rows_after) == ("ready", 4000, 5000)
    assert [c.name for c in table.schema.added] == ["is_late"]
    assert [c.name for c in table.schema.removed] == ["late"]
    assert [(r.name, r.before, r.after) for r in table.schema.retyped] == [("n", "int64", "double")]
    moved = {c.name: c for c in table.columns}
    assert moved["x"].psi is not None and moved["x"].psi > 1
    assert moved["n"].psi is not None and moved["n"].psi < 0.02
    assert moved["carrier"].psi is not None and moved["carrier"].psi < 0.02
    assert moved["x"].mean_before == pytest.approx(0, abs=0.1) and moved["x"].mean_after == pytest.approx(1.5, abs=0.1)


def test_psi_agrees_with_the_raw_data(data: Dataset, noria: Noria) -> None:
    """Against a second implementation that has the values, not the profiles."""
    rng = np.random.default_rng(7)
    a = pd.DataFrame({"cont": rng.gamma(2, 2, 20_000), "rain": np.where(rng.random(20_000) < 0.9, 0.0, rng.random(20_000))})
    b = pd.DataFrame(
        {"cont": rng.gamma(2.5, 2, 20_000), "rain": np.where(rng.random(20_000) < 0.7, 0.0, rng.random(20_000))}
    )
    data.commit(a)
    data.commit(b)
    found = {c.name: c.psi for c in data.diff(1, 2).tables[0].columns}
    for name in a.columns:
        cuts = np.unique(np.quantile(a[name], np.arange(0.1, 1, 0.1), method="inverted_cdf"))
        p, q = (np.bincount(np.searchsorted(cuts, s[name], "left"), minlength=len(cuts) + 1) / len(s) for s in (a, b))
        p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
        assert found[name] == pytest.approx(float(((q - p) * np.log(q / p)).sum()), rel=0.05, abs=0.002), name


def test_psi_of_a_column_with_itself_is_zero(data: Dataset, noria: Noria) -> None:
    made = data.commit(frame(3000))
    for column in made.profile().tables[0].columns:
        assert psi(column, column) == pytest.approx(0, abs=1e-12), column.name


def test_rows_are_compared_by_key(data: Dataset) -> None:
    before = frame(100)
    after = before.drop(index=[3, 4]).copy()
    after.loc[10, "x"] = 99.5
    after.loc[11, "carrier"] = None
    after = pd.concat([after, frame(101, seed=5).tail(1)], ignore_index=True).sample(frac=1, random_state=1)
    data.commit({"t.parquet": before})
    data.commit({"t.parquet": after})
    rows = data.diff(1, 2, rows=True, key="key").tables[0].rows
    assert rows is not None
    assert (rows.added_count, rows.removed_count, rows.changed_count, rows.unchanged_count) == (1, 2, 2, 96)
    assert [r["key"] for r in rows.added] == ["k00100"]
    assert [r["key"] for r in rows.removed] == ["k00003", "k00004"]
    changed = {c.key["key"]: c.changes for c in rows.changed}
    assert changed == {
        "k00010": {"x": [before.loc[10, "x"], 99.5]},
        "k00011": {"carrier": [before.loc[11, "carrier"], None]},
    }
    back = data.diff(2, 1, rows=True, key="key").tables[0].rows
    assert back is not None and (back.added_count, back.removed_count, back.changed_count) == (2, 1, 2)


def test_rows_are_compared_whole_without_a_key(data: Dataset) -> None:
    data.commit({"t.csv": b"a,b\n1,x\n1,x\n2,y\n"})
    data.commit({"t.csv": b"b,a\nx,1\ny,2\nz,3\n"})
    rows = data.diff(1, 2, rows=True).tables[0].rows
    assert rows is not None
    assert (rows.added_count, rows.removed_count, rows.unchanged_count) == (1, 1, 2)
    assert (rows.added, rows.removed) == ([{"a": 3, "b": "z"}], [{"a": 1, "b": "x"}])


def test_a_key_that_does_not_name_rows_is_refused(data: Dataset) -> None:
    data.commit({"t.csv": b"a,b,c\n1,x,1\n1,y,2\n2,,3\n"})
    data.commit({"t.csv": b"a,b,c\n1,x,1\n1,y,5\n3,z,3\n"})
    for key, says in [("a", "not unique in a: 1 occurs 2 times"), ("b", "null in 1 rows of a"), ("nope", "no column 'nope'"),
                      (("a", "a"), "named twice")]:  # fmt: skip
        with pytest.raises(Invalid, match=says):
            data.diff(1, 2, rows=True, key=key)
    rows = data.diff(1, 2, rows=True, key=("c",)).tables[0].rows
    assert rows is not None and (rows.added_count, rows.removed_count, rows.changed_count) == (1, 1, 1)


def test_a_single_table_is_followed_through_a_rename_and_a_change_of_type(data: Dataset) -> None:
    data.commit({"old.csv": b"id,v\n1,7\n2,8\n"})
    data.commit({"new.csv": b"id,v\n1,7\n2,eight\n"})
    table = data.diff("v1", "@latest", rows=True, key="id").tables[0]
    assert (table.path_before, table.path) == ("old.csv", "new.csv")
    assert table.rows is not None
    assert [c.changes for c in table.rows.changed] == [{"v": [8, "eight"]}]
    assert table.columns[1].psi is None, "the two have nothing to compare"


def test_several_tables_join_when_they_agree(data: Dataset) -> None:
    made = data.commit({"p/0.parquet": frame(10), "p/1.parquet": frame(5, 1)})
    assert made.table().num_rows == made.info.rows_count == 15
    other = data.commit({"a.parquet": frame(10), "b.csv": b"a\n1\n"})
    with pytest.raises(Invalid, match="different columns"):
        other.table()
    assert other.table("b.csv").num_rows == 1
    with pytest.raises(NotFound, match="no Parquet or CSV"):
        data.commit({"x.txt": b"x"}).table()


def test_a_file_cannot_read_others_through_duckdb(data: Dataset, noria: Noria) -> None:
    from noria.datasets.tables import closed_duckdb

    with closed_duckdb() as (connection, _):
        for statement in (
            "select * from read_csv('/etc/passwd')",
            "copy (select 1) to '/tmp/noria-out.csv'",
            "set enable_external_access = true",
            "install httpfs",
            "attach '/tmp/noria-other.db'",
        ):
            with pytest.raises(Exception, match=r"(?i)permission|configuration|disabled|locked"):
                connection.execute(statement)
