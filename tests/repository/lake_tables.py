"""Run by test_lake.py where the libraries of Delta, Iceberg and Lance can be imported. Prints `ok` after every check."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from click.testing import CliRunner

from noria.cli.main import main as noria
from noria.client.datasets import dataset
from noria.kernel.errors import Invalid, NotFound, Unavailable
from noria.repository.links import link_files

ROWS = pa.table({"x": [1, 2, 3, 4], "p": ["a", "b c", "a", "d"]})


def command(*args: str, code: int = 0) -> str:
    done = CliRunner().invoke(noria, ["data", *args], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def refused(error: type[Exception], *args: Any, **options: Any) -> str:
    with pytest.raises(error) as found:
        link_files(*args, **options)
    return str(found.value)


def delta(folder: Path) -> None:
    from deltalake import DeltaTable, write_deltalake

    place = str(folder / "with space" / "orders")
    write_deltalake(place, ROWS, partition_by=["p"])
    write_deltalake(place, ROWS, mode="append")
    assert "(delta@0)" in command("link", "orders", place, "--at", "0")
    assert "(delta@1)" in command("link", "orders", Path(place).as_uri(), "-m", "newest")
    first, second = dataset("orders").version(1), dataset("orders").version(2)
    assert sorted(first.to_pandas()["x"]) == [1, 2, 3, 4] and set(first.table().column_names) == {"x", "p"}
    assert second.arrow_dataset().count_rows() == 8
    assert second.arrow_dataset().to_table(filter=pads.field("p") == "b c").num_rows == 2
    assert len(first.files()) == 3 and first.info.table == "delta@0"
    assert len(second.table(first.files()[0].path)) in (1, 2), "one file can be read as a file"
    DeltaTable(place).delete("x = 1")
    assert sorted(second.to_pandas()["x"]) == [1, 1, 2, 2, 3, 3, 4, 4], "a version does not change with its table"
    DeltaTable(place).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(Unavailable, match="gone"):
        second.to_pandas()
    refused(NotFound, place, at="99")
    refused(Invalid, place, at="newest")
    made = DeltaTable(place)
    made.alter.set_table_properties({"delta.enableDeletionVectors": "true"}, raise_if_not_exists=False)
    if "deletionVectors" in (DeltaTable(place).protocol().reader_features or []):
        assert "deletion vectors" in refused(Invalid, place)


def lance(folder: Path) -> None:
    import lance

    place = str(folder / "points.lance")
    lance.write_dataset(ROWS, place)
    lance.write_dataset(ROWS, place, mode="append")
    lance.dataset(place).delete("x = 1")
    for at, rows in (("1", 4), ("2", 8), ("3", 6)):
        assert f"(lance@{at})" in command("link", "points", place, "--at", at)
        assert dataset("points").version().arrow_dataset().count_rows() == rows
    refused(NotFound, place, at="99")


def iceberg(folder: Path) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("c", uri=f"sqlite:///{folder}/c.db", warehouse=folder.as_uri())
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", schema=ROWS.schema)
    table.append(ROWS)
    table.append(ROWS)
    place, snapshots = table.location(), [s.snapshot_id for s in table.snapshots()]
    command("link", "events", place, "--at", str(snapshots[0]))
    command("link", "events", place)
    assert dataset("events").version(1).to_pandas()["x"].tolist() == [1, 2, 3, 4]
    assert dataset("events").version(2).table().num_rows == 8
    assert dataset("events").version(2).info.table == f"iceberg@{snapshots[1]}"
    refused(NotFound, place, at="12345")
    shutil.rmtree(Path(place.removeprefix("file://")) / "data")
    with pytest.raises(Unavailable):
        dataset("events").version(1).table()


if __name__ == "__main__":
    sys.path.append(sys.argv[2])
    for check in (delta, lance, iceberg):
        check(Path(sys.argv[1]).resolve())
    print("ok")
