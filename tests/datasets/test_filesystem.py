"""noria:// for whatever reads files through fsspec."""

from __future__ import annotations

import io

import fsspec
import pandas as pd
import pyarrow.dataset as pads
import pytest

from noria.client.datasets import Dataset
from noria.client.filesystem import NoriaFileSystem


@pytest.fixture
def fs(data: Dataset) -> NoriaFileSystem:
    data.commit({"a.txt": b"one", "sub/b.txt": b"0123456789", "sub/deep/c.txt": b""}, alias="train")
    data.commit({"t.parquet": pd.DataFrame({"x": [1, 2, 3]})})
    return NoriaFileSystem(api=data._api, skip_instance_cache=True)


def test_paths_are_listed_as_folders(fs: NoriaFileSystem) -> None:
    assert fs.ls("", detail=False) == ["flights"]
    assert fs.ls("noria://flights@1", detail=False) == ["flights@1/a.txt", "flights@1/sub"]
    assert fs.find("flights@train") == ["flights@train/a.txt", "flights@train/sub/b.txt", "flights@train/sub/deep/c.txt"]
    assert fs.info("flights@1/sub")["type"] == "directory"
    assert fs.info("flights@1/sub/b.txt")["size"] == 10
    assert fs.glob("flights@1/**/*.txt") == ["flights@1/a.txt", "flights@1/sub/b.txt", "flights@1/sub/deep/c.txt"]
    assert fs.exists("flights@1/a.txt") and not fs.exists("flights@1/nope") and not fs.exists("flights@9")


def test_files_are_read_whole_and_in_parts(fs: NoriaFileSystem) -> None:
    assert fs.cat("flights@1/a.txt") == b"one"
    assert fs.cat_file("flights@1/sub/b.txt", start=2, end=5) == b"234"
    with fs.open("flights@train/sub/b.txt") as file:
        file.seek(-3, 2)
        assert file.read() == b"789"
    with pytest.raises(FileNotFoundError):
        fs.open("flights@1/nope")
    with pytest.raises(io.UnsupportedOperation, match="noria data commit"):
        fs.open("flights@1/new", "wb")


def test_pandas_and_arrow_read_a_version(fs: NoriaFileSystem) -> None:
    with fs.open("flights@latest/t.parquet") as file:
        assert pd.read_parquet(file)["x"].tolist() == [1, 2, 3]
    assert pads.dataset("flights@2/t.parquet", filesystem=fs).to_table().num_rows == 3


def test_the_address_is_known_to_fsspec(data: Dataset) -> None:
    fsspec.register_implementation("noria", NoriaFileSystem, clobber=True)  # what the entry point does once installed
    data.commit({"t.csv": b"x\n7\n"})
    frame = pd.read_csv("noria://flights@1/t.csv", storage_options={"api": data._api})
    assert frame["x"].tolist() == [7]
