"""A person's rows: found in every version, traced to what rests on them, and taken out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.cli.main import main
from noria.client.api import Api
from noria.client.datasets import Dataset
from noria.datasets.model import SubjectRequest
from noria.datasets.subjects import _csv_without, _parquet_without
from noria.kernel.errors import Forbidden, Invalid, NotFound
from noria.kernel.ids import Ref
from tests.conftest import Noria

ORDERS = pd.DataFrame({"customer": [1, 2, 3, 2], "sum": [10.0, 20.5, None, 5.0]})


def find(data: Dataset, value: str, **more: Any) -> Any:
    return data._api.post("/datasets/flights/subject", {"column": "customer", "value": value, **more})


def erase(data: Dataset, value: str) -> Any:
    return data._api.post("/datasets/flights/subject/erase", {"column": "customer", "value": value})


def test_every_version_is_looked_into(data: Dataset) -> None:
    data.commit({"orders.parquet": ORDERS, "other.csv": b"customer,x\n2,a\n4,b\n", "notes.txt": b"2"})
    data.commit({"orders.parquet": ORDERS[ORDERS.customer != 2]})
    data.commit({"orders.parquet": ORDERS, "broken.parquet": b"no table"})
    found = find(data, "2")
    assert [(v["number"], v["path"], v["rows"]) for v in found["versions"]] == [
        (1, "orders.parquet", 2), (1, "other.csv", 1), (3, "orders.parquet", 2),
    ]  # fmt: skip
    assert found["unread"] == ["flights@3 broken.parquet: it cannot be read as a table"]
    assert [v["number"] for v in find(data, "2", after=1)["versions"]] == [3]
    assert find(data, "99")["versions"] == []


def test_what_rests_on_them_is_told(noria: Noria, data: Dataset) -> None:
    version = data.commit({"orders.parquet": ORDERS})
    with noria.app.db.write(noria.op()) as tx:  # what runs, the registry and serving draw
        for src, kind, dst in (
            (Ref("run", "r1"), "read", Ref("dataset_version", version.id)),
            (Ref("model_version", "m1"), "built_by", Ref("run", "r1")),
            (Ref("revision", "v1"), "serves", Ref("model_version", "m1")),
            (Ref("endpoint", "shop"), "has", Ref("revision", "v1")),
            (Ref("model_version", "m2"), "evaluated_on", Ref("dataset_version", version.id)),
        ):
            tx.link(src, kind, dst)
    assert find(data, "3")["dependents"] == ["endpoint:shop", "model_version:m1", "run:r1"]
    assert find(data, "9")["dependents"] == []


def test_rows_are_taken_out_and_older_versions_go(noria: Noria, data: Dataset) -> None:
    data.commit({"orders.parquet": ORDERS, "other.csv": b"customer,x\n2,a\n4,b\n", "notes.txt": b"2"})
    tagged = data.commit({"orders.parquet": ORDERS.head(2)})
    data.tag("paper", tagged.id)
    clean = data.commit({"orders.parquet": ORDERS[ORDERS.customer != 2]})
    data.branch("trial", 1)
    data.commit({"orders.parquet": ORDERS.assign(new=1)}, branch="trial")
    head = data.commit({"orders.parquet": ORDERS})
    done = erase(data, "2")
    assert [k["number"] for k in done["kept"]] == [tagged.number] and "paper" in done["kept"][0]["why"]
    assert done["deleted"] == [1, 4, head.number]
    assert done["made"] == [6, 7]
    now = data.version()
    assert now.to_pandas()["customer"].tolist() == [1, 3] and now.number in done["made"]
    trial = data.version("trial")
    assert trial.to_pandas()["customer"].tolist() == [1, 3] and "new" in trial.to_pandas()
    assert data.version(clean.number).id == clean.id
    assert [v["number"] for v in find(data, "2")["versions"]] == [tagged.number]
    fact = noria.facts("subject.erased")[-1]
    assert fact.data["kept"] == [tagged.number]
    assert done["subject"] == fact.data["subject"] and now.message.endswith(f"({done['subject']})")
    data.delete_tag("paper")
    assert erase(data, "2")["deleted"] == [tagged.number]
    assert not find(data, "2")["versions"]


def test_nothing_to_erase_makes_nothing(data: Dataset) -> None:
    made = data.commit({"orders.parquet": ORDERS})
    done = erase(data, "77")
    assert (done["made"], done["deleted"], done["kept"], done["rows"]) == ([], [], [], 0)
    assert data.version().id == made.id


def test_bad_questions_and_rights(noria: Noria, data: Dataset) -> None:
    data.commit({"orders.parquet": ORDERS})
    with pytest.raises(Invalid):
        find(data, "")
    with pytest.raises(NotFound):
        data._api.post("/datasets/nothing/subject", {"column": "a", "value": "b"})
    contributor = Api(noria.as_("cleo", "contributor"), url=noria.config.control_url)
    with pytest.raises(Forbidden):
        contributor.post("/datasets/flights/subject/erase", {"column": "customer", "value": "2"})
    auditor = Api(noria.as_("ada2", "auditor"), url=noria.config.control_url)
    with pytest.raises(Forbidden):
        auditor.post("/datasets/flights/subject", {"column": "customer", "value": "2"})


def test_the_command(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.cli.data_subjects.api", lambda: data._api)
    data.commit({"orders.parquet": ORDERS})

    def run(*args: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["data", "subject", *args])
        assert done.exit_code == code, done.output
        return done.output

    assert "orders.parquet" in run("customer", "2")
    assert "no such rows" in run("customer", "9")
    run("customer", "2", "--erase", code=1)  # asked, and nobody said yes
    assert "2 rows; made flights@2; deleted flights@1" in run("customer", "2", "--erase", "--yes")
    assert "no such rows" in run("customer", "2", "--erase", "--yes")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.one_of(st.none(), st.sampled_from(["a", "b", "é", "1"])), st.one_of(st.none(), st.integers())),
        max_size=20,
    )
)
def test_a_parquet_file_keeps_everything_else(rows: list[tuple[str | None, int | None]], tmp_path: Path) -> None:
    rows = [(who, n if n is None or abs(n) < 2**62 else 1) for who, n in rows]
    schema = pa.schema([pa.field("who", pa.string()), pa.field("n", pa.int64())], metadata={"made": "by hand"})
    table = pa.table({"who": [w for w, _ in rows], "n": [n for _, n in rows]}, schema=schema)
    pq.write_table(table, tmp_path / "old")
    _parquet_without(tmp_path / "old", tmp_path / "new", SubjectRequest(column="who", value="a"))
    new = pq.read_table(tmp_path / "new")
    assert new.schema.equals(pq.read_schema(tmp_path / "old"), check_metadata=True)
    assert list(zip(*new.to_pydict().values(), strict=True)) == [r for r in rows if r[0] != "a"]


def test_a_csv_file_keeps_everything_else(tmp_path: Path) -> None:
    (tmp_path / "old").write_text('id,text\n1,"a, ""quoted"""\n2,b\n2.0,c\n02,"two\nlines"\n3,\n')
    _csv_without(tmp_path / "old", tmp_path / "new", SubjectRequest(column="id", value="2"), ",")
    assert (tmp_path / "new").read_text() == 'id,text\n1,"a, ""quoted"""\n3,\n'
