"""What data must be like: a commit that is not is refused, with and without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from noria.cli.main import main
from noria.client.datasets import Dataset
from noria.client.repositories import LocalDataset
from noria.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from noria.repository.repository import open_repository
from tests.conftest import Noria

GOOD = pd.DataFrame(
    {
        "id": range(6), "delay": [1.5, -3.0, None, 40.0, 7.0, 0.0], "origin": ["JFK", "LGA", "EWR", "JFK", "LGA", "EWR"],
        "at": pd.to_datetime(["2013-01-01"] * 6), "from_h": [1, 2, 3, 4, 5, 6], "to_h": [2, 3, 4, 5, 6, 7],
    }
)  # fmt: skip
RULES: dict[str, Any] = {
    "tables": {
        "*.parquet": {
            "rows_min": 2, "rows_max": 10, "unique": ["id", "origin"], "rows": ["to_h > from_h or delay is null"],
            "columns": {
                "id": {"type": "int64", "not_null": True, "unique": True, "min": 0},
                "delay": {"type": "numeric", "nulls_max": 0.5, "min": -120, "max": 3000, "mean_min": -10, "mean_max": 100},
                "origin": {"values": ["JFK", "LGA", "EWR"], "pattern": "[A-Z]{3}"},
                "at": {"type": "time", "min": "2013-01-01", "max": "2014-01-01"},
            },
        }
    },
    "files_min": 1,
}  # fmt: skip


@pytest.fixture(params=["server", pytest.param("local", marks=pytest.mark.one_database)])
def flights(request: pytest.FixtureRequest, data: Dataset, tmp_path: Path) -> Dataset:
    if request.param == "server":
        return data
    return LocalDataset("flights", open_repository(str(tmp_path / "store")))


def changed(**columns: Any) -> pd.DataFrame:
    return GOOD.assign(**columns)


BAD: list[tuple[str, pd.DataFrame, str]] = [
    ("a null", changed(id=[0, 1, 2, 3, 4, None]), "id is int64; found double|id is not null; found 1 nulls"),
    ("twice", changed(id=[0, 0, 2, 3, 4, 5]), "id name a row; found 1 values more than once (such as 0)"),
    ("below", changed(delay=[-121.0] + [1.0] * 5), "delay ≥ -120; found 1 below (such as -121.0)"),
    ("NaN is no null", changed(delay=pd.array([1.0] * 6)).assign(delay=np.float64("inf")), "delay ≤ 3000; found 6 above"),
    ("half null", changed(delay=[None] * 4 + [1.0, 2.0]), "at most 50.0% of delay are null; found 66.7%"),
    ("mean", changed(delay=[1000.0] * 6), "at most 100 mean of delay; found 1,000"),
    ("another value", changed(origin=["XXX"] * 6), "origin is one of JFK, LGA, EWR; found 6 others (such as XXX)"),
    ("pattern", changed(origin=["jfk"] * 6), "origin matches [A-Z]{3}; found 6 others (such as jfk)"),
    ("rows", GOOD.head(1), "at least 2 and at most 10 rows; found 1"),
    ("row rule", changed(to_h=0), "every row has to_h > from_h or delay is null; found 5 rows that do not"),
    ("column gone", GOOD.drop(columns="origin"), "has a column 'origin'; found no such column"),
    ("time", changed(at=pd.to_datetime(["2015-01-01"] * 6)), "at ≤ 2014-01-01; found 6 above (such as 2015-01-01T00:00:00)"),
    ("type", changed(at=1), "at is time; found int64 (numeric)"),
]


@pytest.mark.parametrize(("frame", "text"), [(f, t) for _, f, t in BAD], ids=[n for n, _, _ in BAD])
def test_each_rule_tells_what_it_found(flights: Dataset, frame: pd.DataFrame, text: str) -> None:
    made = flights.commit(GOOD)
    flights.expect(RULES)
    with pytest.raises(Invalid) as caught:
        flights.commit(frame)
    assert any(t in caught.value.message for t in text.split("|")), caught.value.message
    assert caught.value.hint
    assert flights.version().id == made.id  # nothing came of it
    found = flights.commit(GOOD.head(5))
    assert found.number == 2 and found.check().passed


def test_expectations_are_kept_shown_and_taken_away(flights: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        flights.expect(RULES)  # there is nothing to expect it of
    flights.commit(GOOD)
    file = tmp_path / "rules.yaml"
    file.write_text('tables:\n  "*":\n    columns:\n      delay: {type: numeric}\n      new: {required: false, min: 3}\n')
    kept = flights.expect(file)
    assert flights.expectations() == kept and kept.tables["*"].columns["delay"].type == "numeric"
    flights.commit(changed(x=1))
    assert flights.expect({}) == flights.expectations()
    flights.commit(changed(delay="late"))


def test_a_warning_warns(flights: Dataset) -> None:
    flights.commit(GOOD)
    flights.expect({"tables": {"*": {"rows_min": 100, "severity": "warning"}}, "files_max": 1})
    made = flights.commit(GOOD.head(4))
    assert made.is_new and made.warnings == ["data.parquet: at least 100 rows; found 4"]
    with pytest.raises(Invalid, match="at most 1 files; found 2"):
        flights.commit({"a.csv": b"x\n1\n", "b.csv": b"x\n2\n"})


def test_only_what_is_new_is_read_again(flights: Dataset) -> None:
    flights.commit({"old.parquet": GOOD, "b.txt": b"1"})
    flights.expect({"tables": {"*": {"rows_max": 3}}})  # the old table is not like that
    assert not flights.version().check().passed
    flights.commit({"old.parquet": GOOD, "b.txt": b"2"})
    with pytest.raises(Invalid, match=r"new.parquet: at most 3 rows; found 6"):
        flights.commit({"old.parquet": GOOD, "new.parquet": changed(x=1)})


def test_a_table_that_cannot_be_read_is_not_as_expected(flights: Dataset) -> None:
    flights.commit(GOOD)
    flights.expect({"tables": {"*.parquet": {"rows_min": 1}}})
    with pytest.raises(Invalid, match=r"bad.parquet: is a parquet table"):
        flights.commit({"bad.parquet": b"PAR1 not a table"})


def test_what_one_commit_must_be_like(flights: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="at least 100 rows; found 6"):
        flights.commit(GOOD, expect={"tables": {"*": {"rows_min": 100}}})
    with pytest.raises(NotFound):
        flights.version()
    assert flights.commit(GOOD, expect=RULES).number == 1


def test_a_merge_is_as_expected_or_does_not_happen(flights: Dataset) -> None:
    """Each side is as it should be, and together they are not."""
    flights.commit({"a.csv": b"x\n1\n"})
    flights.branch("trial")
    flights.expect({"files_max": 2})
    flights.commit({"a.csv": b"x\n1\n", "b.csv": b"x\n2\n"})
    flights.commit({"a.csv": b"x\n1\n", "c.csv": b"x\n3\n"}, branch="trial")
    with pytest.raises(Invalid, match="at most 2 files; found 3"):
        flights.merge("trial")
    assert [f.path for f in flights.version().files()] == ["a.csv", "b.csv"]
    flights.expect({"files_max": 3})
    made, outcome = flights.merge("trial")
    assert outcome == "merged" and len(made.files()) == 3


def test_a_schema_of_pandera_is_asked(flights: Dataset) -> None:
    import pandera.pandas as pa

    schema = pa.DataFrameSchema({"id": pa.Column(int, pa.Check.le(3))})
    with pytest.raises(Invalid, match=r"data.parquet: id: less_than_or_equal_to\(3\); found 4"):
        flights.commit(GOOD, expect=schema)
    with pytest.raises(Invalid, match="column_in_dataframe; found nothing"):
        flights.commit(GOOD, expect=pa.DataFrameSchema({"nothing": pa.Column(int)}))
    assert flights.commit(GOOD.head(4), expect=schema).number == 1


@pytest.mark.parametrize(
    "text",
    [
        "tables: [1]", "table: {}", "tables: {'*': {columns: {a: {pattern: '('}}}}", "- a: [",
        "tables: {'*': {columns: {a: {nulls_max: 3}}}}", "tables: {'*': {rows_min: many}}", "a" * 70_000,
    ],
)  # fmt: skip
def test_expectations_that_make_no_sense_are_refused(flights: Dataset, tmp_path: Path, text: str) -> None:
    flights.commit(GOOD)
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(Invalid):
        flights.expect(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    "expression",
    [
        "nonsense(", "1; drop table t", "id) from t; select (1", "(select count(*) from read_csv('/etc/passwd')) = 0",
        "getenv('HOME') = ''", "unknown_column = 1", "id --",
    ],
)  # fmt: skip
def test_an_expression_can_only_compute(flights: Dataset, expression: str) -> None:
    flights.commit(GOOD)
    flights.expect({"tables": {"*": {"rows": [expression]}}})
    if expression == "id --":  # a comment hides nothing
        flights.commit(GOOD.tail(3))
        return
    with pytest.raises(Invalid, match="is not as expected"):
        flights.commit(GOOD.head(3))


@given(
    rows=st.lists(st.tuples(st.integers(-5, 5), st.one_of(st.none(), st.floats(-9, 9))), min_size=1, max_size=30),
    low=st.integers(-6, 6),
    unique=st.booleans(),
    nulls=st.floats(0, 1),
)
def test_the_same_as_counting_by_hand(
    rows: list[tuple[int, float | None]], low: int, unique: bool, nulls: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from noria.datasets import expectations
    from noria.datasets.model import VersionFile

    frame = pd.DataFrame({"a": [a for a, _ in rows], "b": pd.array([b for _, b in rows], dtype="Float64")})
    wanted = expectations.parse("{}")
    rule = {"columns": {"a": {"min": low, "unique": unique}, "b": {"nulls_max": nulls}}}
    import msgspec

    wanted = msgspec.convert({"tables": {"*": rule}}, expectations.Expectations)
    found = expectations.examine(
        wanted, [VersionFile(path="t.parquet", size_bytes=1, digest="x")], lambda _, target: frame.to_parquet(target)
    )
    values = [a for a, _ in rows]
    share = sum(b is None for _, b in rows) / len(rows)
    right = min(values) >= low and (not unique or len(set(values)) == len(values)) and share <= nulls
    assert found.passed == right


def test_rights_and_facts(noria: Noria, data: Dataset) -> None:
    data.commit(GOOD)
    data.expect(RULES)
    with pytest.raises(Invalid):
        data.commit(changed(origin="XXX"))
    refused = noria.facts("dataset_commit.refused")
    assert len(refused) == 1 and "origin is one of" in refused[0].data["broken"][0]
    assert [f.data["rules"] for f in noria.facts("dataset.expected")] == [6]
    from noria.client.api import Api

    contributor = Dataset("flights", Api(noria.as_("cleo", "contributor"), url=noria.config.control_url))
    assert contributor.expectations().files_min == 1
    with pytest.raises(Forbidden):
        contributor.expect({})  # who is held to it cannot take it away
    with pytest.raises(Invalid):
        contributor.commit(changed(origin="XXX"))


def test_what_is_expected_may_not_change_under_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = LocalDataset("flights", open_repository(str(tmp_path / "store")))
    data.commit(GOOD)
    original: Callable[..., Any] = data._as_expected

    def slow(*args: Any) -> Any:
        found = original(*args)
        data.expect({"tables": {"*": {"rows_min": 100}}})
        return found

    monkeypatch.setattr(data, "_as_expected", slow)
    with pytest.raises(Conflict, match="changed meanwhile"):
        data.commit(GOOD.head(3))


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NORIA_URL", raising=False)
    GOOD.to_parquet(tmp_path / "data.parquet")
    rules = tmp_path / "rules.yaml"
    rules.write_text('tables:\n  "*": {rows_min: 100}\n')

    def run(*args: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["data", *args])
        assert done.exit_code == code, done.output
        return done.output

    assert "at least 100 rows" in run("commit", "flights", str(tmp_path / "data.parquet"), "--expect", str(rules), code=3)
    run("commit", "flights", str(tmp_path / "data.parquet"))
    assert "Nothing is expected" in run("expect", "flights")
    run("expect", "flights", str(rules))
    assert "rows_min: 100" in run("expect", "flights")
    assert "at least 100 rows; found 6" in run("check", "flights@latest", code=1)
    run("expect", "flights", "--remove")
    assert "0 broken" in run("check", "flights@latest")
