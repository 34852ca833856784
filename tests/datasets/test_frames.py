"""Frames committed as tables, through the door and without a server: what is stored, and every way to read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from pyarrow import parquet

from noria.client.datasets import Dataset, dataset
from noria.client.filesystem import NoriaFileSystem
from noria.client.repositories import LocalDataset
from noria.datasets.model import TableFile
from noria.kernel.errors import Conflict, Invalid, NotFound
from tests.conftest import Noria
from tests.datasets.test_cli import Run, run  # noqa: F401  (a fixture)


def frame(rows: int = 2000, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "x": rng.normal(size=rows),
            "origin": rng.choice(["JFK", "LGA"], rows),
            "n": rng.integers(0, 9, rows),
        }
    )


def edited(old: pd.DataFrame) -> pd.DataFrame:
    """Three rows changed, one gone, one new."""
    new = old.copy()
    new.loc[[5, 700, 1500], "x"] = [7.0, 8.0, 9.0]
    return pd.concat([new.drop(index=9), pd.DataFrame({"id": [90_000], "x": [1.0], "origin": ["EWR"], "n": [1]})])


@pytest.fixture(params=["server", pytest.param("alone", marks=pytest.mark.one_database)])
def flights(
    request: pytest.FixtureRequest, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Dataset]:
    """A dataset through the door, and one without a server."""
    if request.param == "server":
        yield data
        return
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NORIA_URL", raising=False)
    found = dataset("flights")
    yield found
    if found._connected is not None:  # type: ignore[attr-defined]
        found._api.close()


def rows(found: pd.DataFrame) -> pd.DataFrame:
    return found.sort_values("id").reset_index(drop=True)


def test_a_version_is_read_every_way(flights: Dataset, tmp_path: Path) -> None:
    flights.commit(frame(), key="id")
    made = flights.commit(edited(frame()))
    (file,) = made.files()
    assert isinstance(file, TableFile) and file.path == "data.parquet" and made.files_count == 1
    assert len([p for p in file.parts if "/layers/" in p.path]) == 1, "three rows and a key are a layer, not the table again"
    wanted = rows(edited(frame()))
    pd.testing.assert_frame_equal(rows(made.to_pandas()), wanted)
    pd.testing.assert_frame_equal(rows(made.table("data.parquet").to_pandas()), wanted)
    pd.testing.assert_frame_equal(rows(pd.read_parquet(made.open())), wanted)
    pd.testing.assert_frame_equal(rows(made.arrow_dataset().to_table().to_pandas()), wanted)
    streamed = [pd.DataFrame(batch) for batch in made.stream(batch_size=300, shuffle=True)]
    pd.testing.assert_frame_equal(rows(pd.concat(streamed)), wanted, check_dtype=False)
    path = f"{made.handle}/data.parquet"
    files = NoriaFileSystem.of(made)
    with files.open(path) as opened:
        assert parquet.read_table(opened).num_rows == 2000
    assert files.info(path)["size"] == len(made.read("data.parquet")) == made.files(whole=True)[0].size_bytes
    assert [e["name"] for e in files.ls(made.handle)] == [path]
    made.checkout(tmp_path / "out")
    pd.testing.assert_frame_equal(
        rows(duckdb.sql(f"select * from '{tmp_path}/out/data.parquet'").df()), wanted, check_dtype=False
    )
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["data.parquet"]
    assert flights.status(tmp_path / "out") == []
    assert made.verify().damaged == [] and made.rows_count == 2000
    pd.testing.assert_frame_equal(flights.version(1).to_pandas(), frame())


def test_an_arrow_dataset_reads_a_table_where_it_is_stored(flights: Dataset, tmp_path: Path, noria: Noria) -> None:
    """No copy of the whole table is made for it; only of parts that have layers, and by no server."""
    first = flights.commit(frame(), key="id")
    found = first.arrow_dataset()
    assert found.to_table(columns=["x"], filter=pads.field("id") == 7).to_pydict() == {"x": [frame().x[7]]}
    assert found.count_rows() == 2000 and set(found.schema.names) == set(frame().columns)
    stores = [tmp_path / "home" / "blobs" / "files", Path(noria.config.blobs_url) / "files"]
    assert not [copy for store in stores for copy in store.glob("**/*.parquet")]
    second = flights.commit(edited(frame())).arrow_dataset()
    pd.testing.assert_frame_equal(rows(second.to_table().to_pandas()), rows(edited(frame())))
    assert duckdb.sql("select count(*) from second where x in (7, 8, 9)").fetchall() == [(3,)]
    copies = [copy for store in set(stores) for copy in store.glob("**/*.parquet")]
    assert len(copies) == isinstance(flights, LocalDataset), "the part with a layer, by whoever reads it"


def test_categories_are_rows_like_others(flights: Dataset) -> None:
    """Texts come back as categories, other values as themselves, with whatever numbers the frame gave them."""
    old = pd.DataFrame(
        {"id": range(600), "grade": pd.Categorical(["low", "high", None] * 200), "size": pd.Categorical([3, 1] * 300)}
    )
    first = flights.commit(old, key="id")
    other = old.assign(grade=old.grade.cat.reorder_categories(["low", "high"]).cat.add_categories(["never"]))
    assert not flights.commit(other).is_new
    new = old.copy()
    new.loc[4, "grade"] = "low"
    second = flights.commit(new)
    for version, wanted in ((first, old), (second, new)):
        found = rows(version.to_pandas())
        assert found.grade.dtype == "category" and found["size"].tolist() == wanted["size"].tolist()
        assert found.grade.astype(object).fillna("").tolist() == wanted.grade.astype(object).fillna("").tolist()
    assert rows(second.arrow_dataset().to_table().to_pandas()).equals(rows(second.to_pandas()))
    assert flights.diff(1, 2, rows=True).tables[0].rows.changed_count == 1  # type: ignore[union-attr]


def test_the_same_rows_make_no_version(flights: Dataset) -> None:
    first = flights.commit(frame(), key="id")
    assert not flights.commit(frame()).is_new
    assert not flights.commit(frame().sample(frac=1, random_state=1)).is_new, "with a key the order does not count"
    flights.commit(edited(frame()))
    again = flights.commit(frame())
    assert again.is_new and again.rows_count == first.rows_count


def test_rows_of_a_diff_come_from_layers(flights: Dataset) -> None:
    flights.commit(frame(), key="id")
    flights.commit(edited(frame()))
    flights.compact()
    for before, after in ((1, 2), (1, 3)):
        (table,) = flights.diff(before, after, rows=True).tables
        found = table.rows
        assert found is not None and found.key == ["id"]
        assert (found.added_count, found.removed_count, found.changed_count, found.unchanged_count) == (1, 1, 3, 1996)
        assert [c.key for c in found.changed] == [{"id": 5}, {"id": 700}, {"id": 1500}]
        assert found.changed[1].changes == {"x": [frame().x[700], 8.0]}
        assert (found.added[0]["id"], found.removed[0]["id"]) == (90_000, 9)
    by_other = flights.diff(1, 2, rows=True, key=["id", "origin"]).tables[0].rows
    assert by_other is not None and by_other.changed_count == 3
    (same,) = flights.diff(2, 3, rows=True).tables
    assert same.rows is not None and (same.rows.changed_count, same.rows.unchanged_count) == (0, 2000)


def test_without_a_key_rows_are_compared_whole(flights: Dataset) -> None:
    flights.commit(frame())
    new = frame()
    new.loc[5, "x"] = 7.0
    flights.commit(new)
    found = flights.diff(1, 2, rows=True).tables[0].rows
    assert found is not None and (found.added_count, found.removed_count, found.unchanged_count) == (1, 1, 1999)
    pd.testing.assert_frame_equal(flights.version().to_pandas(), new)


def test_branches_are_merged_by_row(flights: Dataset) -> None:
    flights.commit(frame(), key="id")
    flights.branch("trial")
    mine, other = frame(), frame()
    mine.loc[1, "x"], other.loc[2, "x"] = 10.0, 20.0
    flights.commit(mine)
    flights.commit(other.drop(index=3), branch="trial")
    made, outcome = flights.merge("trial")
    found = rows(made.to_pandas())
    assert outcome == "merged" and list(found.x[1:3]) == [10.0, 20.0] and 3 not in set(found.id)
    flights.branch("again")
    mine, other = found.copy(), found.copy()
    mine.loc[1, "x"], other.loc[1, "x"] = 11.0, 12.0
    flights.commit(mine)
    flights.commit(other, branch="again")
    with pytest.raises(Conflict, match="with id 1"):
        flights.merge("again")
    made, _ = flights.merge("again", strategy="theirs")
    assert rows(made.to_pandas()).x[1] == 12.0


def test_a_table_is_compacted(flights: Dataset) -> None:
    with pytest.raises(NotFound):
        flights.compact()
    flights.commit({"a.txt": b"a"})
    with pytest.raises(NotFound, match="no table"):
        flights.compact()
    flights.commit(frame(), key="id")
    assert not flights.compact().is_new
    flights.commit(edited(frame()))
    made = flights.compact()
    (file,) = made.files()
    assert made.is_new and isinstance(file, TableFile) and not [p for p in file.parts if "/layers/" in p.path]
    pd.testing.assert_frame_equal(rows(made.to_pandas()), rows(edited(frame())))


class Streamed:
    """What gives its rows once, as polars frames and others do."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def test_frames_of_every_kind(flights: Dataset, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(frame(), preserve_index=False)
    flights.commit(table, key="id")
    views = table.set_column(2, "origin", table["origin"].cast(pa.string_view()))  # as polars gives texts
    for same in (
        table.to_reader(), Streamed(views), pa.RecordBatch.from_pandas(frame()), duckdb.from_arrow(table), frame(),
    ):  # fmt: skip
        assert not flights.commit(same).is_new, type(same)
    with pytest.raises(Invalid, match="polars"):
        flights.version().to_polars()
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert not flights.commit(tmp_path / "rows.parquet", table=True).is_new


def test_what_cannot_be_a_table_is_refused(flights: Dataset, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(Invalid, match="Only a frame or a Parquet file"):
        flights.commit(tmp_path / "a.csv", table=True)
    with pytest.raises(Invalid, match="cannot be read as Parquet"):
        flights.commit(tmp_path / "bad.parquet", key="id")
    with pytest.raises(Invalid, match="two columns 'a'"):
        flights.commit(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]))
    with pytest.raises(Invalid, match="cannot be called"):
        flights.commit(pa.table({"__noria_state": [1]}))
    with pytest.raises(Invalid, match="at least one column"):
        flights.commit(pd.DataFrame())
    with pytest.raises(Invalid, match="not unique"):
        flights.commit(pd.DataFrame({"id": [1, 1]}), key="id")
    empty = flights.commit(pd.DataFrame({"id": np.arange(0), "x": np.arange(0.0)}), key="id")
    assert empty.rows_count == 0 and empty.to_pandas().shape == (0, 2) and empty.profile().tables[0].rows_count == 0
    assert flights.commit(pd.DataFrame({"id": [1], "x": [1.0]})).to_pandas().shape == (1, 2)


def test_expectations_see_the_whole_table(flights: Dataset) -> None:
    flights.commit(frame(), key="id")
    flights.expect({"tables": {"*.parquet": {"rows_min": 1500, "columns": {"x": {"max": 50.0}}, "unique": ["id"]}}})
    bad = frame()
    bad.loc[3, "x"] = 99.0
    with pytest.raises(Invalid, match="x ≤ 50"):
        flights.commit(bad)
    assert flights.commit(edited(frame())).is_new
    with pytest.raises(Invalid, match="at least 5,000 rows"):
        flights.commit(frame(), expect={"tables": {"data.parquet": {"rows_min": 5000}}})


def test_the_server_profiles_and_shows_rows(data: Dataset, noria: Noria) -> None:
    data.commit(frame(), key="id")
    made = data.commit(edited(frame()))
    noria.settle()
    (table,) = made.profile().tables
    found = {c.name: c for c in table.columns}
    assert (table.path, table.state, table.rows_count) == ("data.parquet", "ready", 2000)
    assert found["x"].max == 9.0 and found["id"].max == 90_000 and found["origin"].distinct == 3
    assert made.sample(limit=10).rows[5][:2] == [5, 7.0]
    drift = data.diff(1, 2).tables[0]
    assert drift.state == "ready" and {c.name for c in drift.columns} == {"id", "x", "origin", "n"}
    assert data.version(1).info.rows_count == 2000 and [c.name for c in data.version(1).info.schema or []] == list(
        frame().columns
    )


def test_a_person_is_erased_from_layers_and_fragments(data: Dataset, noria: Noria) -> None:
    data.commit(frame(), key="id")
    data.commit(edited(frame()))
    answer = noria.http.post("/api/v1/datasets/flights/subject/erase", json={"column": "id", "value": "5"})
    assert answer.status_code == 200, answer.text
    made = data.version()
    (file,) = made.files()
    assert isinstance(file, TableFile) and 5 not in set(made.to_pandas().id) and made.rows_count == 1999
    for part in file.parts[1:]:
        assert 5 not in parquet.read_table(pa.BufferReader(made._read_file(part)))["id"].to_pylist(), part.path


def test_parts_that_make_no_table_are_refused(data: Dataset, noria: Noria) -> None:
    made = data.commit(frame(), key="id")
    (file,) = made.files()
    assert isinstance(file, TableFile)
    entries = [{"path": p.path, "size_bytes": p.size_bytes, "digest": p.digest} for p in file.parts]
    answer = noria.http.post("/api/v1/datasets/other/versions", json={"files": entries[:1]})
    assert answer.status_code == 400 and "lacks" in answer.text
    answer = noria.http.post("/api/v1/datasets/other/versions", json={"files": entries})
    assert answer.status_code == 200, "the same parts are the same table"


def test_the_command_line_knows_tables(run: Run, tmp_path: Path) -> None:  # noqa: F811
    frame().to_parquet(tmp_path / "rows.parquet")
    assert "2,000 rows" in run("commit", "flights", "rows.parquet", "--table", "--key", "id").output
    edited(frame()).to_parquet(tmp_path / "rows.parquet", index=False)
    assert "flights@2" in run("commit", "flights", "rows.parquet", "--table").output
    assert "no new version" in run("commit", "flights", "rows.parquet", "--table").output
    told = run("diff", "flights", "1", "2", "--rows").output
    assert "1 added, 1 removed, 3 changed, 1,996 the same" in told
    assert "flights@3" in run("compact", "flights").output
    assert "no layers" in run("compact", "flights").output
    assert "data.parquet" in run("show", "flights@2").output
    assert "2,000 rows" in run("profile", "flights").output
    run("checkout", "flights@2", "out")
    pd.testing.assert_frame_equal(rows(pd.read_parquet(tmp_path / "out" / "data.parquet")), rows(edited(frame())))
    run("push", "flights", str(tmp_path / "remote"))
    assert "0 faults" in run("verify").output
    assert "Only a frame" in run("commit", "flights", "out", "--table", code=3).output
