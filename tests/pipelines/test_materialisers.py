"""Values in files: by the materialiser of their type, through a real server and worker; and given back exactly, or pickled."""

from __future__ import annotations

import datetime as dt
import decimal
import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import noria
from noria.client.api import Api
from noria.client.values import decode, encode
from noria.kernel.errors import Invalid
from noria.pipelines.graph import cache_key
from noria.pipelines.model.spec import StepSpec
from noria.pipelines.model.values import Many, Pickle, Saved
from tests.pipelines.processes import Server, ended, imported, logs

frames = pd.DataFrame


# --- in a pipeline --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    with made.worker():
        yield made
    made.stop()


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with server.api() as made:
        yield made


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    with imported(Path(__file__).with_name("materials.py.txt"), tmp_path_factory.mktemp("code")) as module:
        yield module


def output(view: dict[str, Any], name: str = "result") -> Any:
    return view["run"]["outputs"][name]


def test_each_value_is_kept_by_the_materialiser_of_its_type(api: Api, flow: ModuleType) -> None:
    view = ended(api, flow.kept.submit(api=api)["id"])
    assert view["run"]["state"] == "succeeded", logs(api, view, "look")
    found = output(view, "found")["items"]
    assert {k: (v["as"], v.get("materialiser"), v.get("version")) for k, v in found.items()} == {
        "frame": ("saved", "noria.pandas", 1), "series": ("saved", "noria.pandas", 1), "array": ("saved", "noria.numpy", 1),
        "table": ("saved", "noria.arrow", 1), "mesh": ("saved", "MeshAsText", 2), "coarse": ("saved", "MeshAsText", 2),
        "odd": ("pickle", None, None), "number": ("json", None, None),
    }  # fmt: skip
    assert found["mesh"]["type"].endswith("materials.Mesh") and found["mesh"]["name"] == "mesh.txt"
    assert api.get_bytes(f"/blobs/{found['mesh']['digest']}").__next__() == b"1 2"  # anybody can read it with what they have
    body = b"".join(api.get_bytes(f"/blobs/{found['frame']['digest']}"))
    assert pa.ipc.open_file(io.BytesIO(body)).read_all().column("n").to_pylist() == [1, 2, 3]
    looked = output(view, "looked")["value"]
    assert looked["kinds"] == {
        "frame": "DataFrame", "series": "Series", "array": "ndarray", "table": "Table", "mesh": "Mesh", "coarse": "Mesh",
        "odd": "DataFrame", "number": "int",
    }  # fmt: skip
    assert (looked["sum"], looked["who"], looked["index"], looked["points"], looked["n"]) == (
        15,
        "c",
        [5, 6, 7],
        [1, 2, 3],
        6,
    )


def test_files_and_folders_of_a_step_come_along(api: Api, flow: ModuleType) -> None:
    view = ended(api, flow.filed.submit(size=3_000_000, api=api)["id"])
    assert view["run"]["state"] == "succeeded", view
    assert output(view, "read")["value"] == {
        "file": ["one.csv", "x\n1\n"], "folder": ["out", 3_000_000], "elsewhere": "/dev/null", "own": True,
    }  # fmt: skip
    assert output(view, "again")["value"] == ["x\n1\n", "a"]  # what another step did with its copy is its own
    kept = output(view, "folder")
    assert (kept["materialiser"], kept["name"]) == ("noria.files", "") and kept["size_bytes"] > 3_000_000


def test_the_working_directory_itself_is_no_value(api: Api, flow: ModuleType) -> None:
    view = ended(api, flow.wholly.submit(api=api)["id"])
    assert "Write into a folder below it" in view["run"]["error"]


def test_a_list_of_frames_is_spread_out_one_by_one(api: Api, flow: ModuleType) -> None:
    view = ended(api, flow.mapped.submit(api=api)["id"])
    assert output(view)["value"] == [0, 1, 2]
    parts = next(s["step"]["outputs"] for s in view["steps"] if s["step"]["name"] == "spread")
    assert [item["materialiser"] for item in parts["items"]] == ["noria.pandas"] * 3


def test_a_frame_that_is_written_in_the_pipeline_is_saved_too(api: Api, flow: ModuleType) -> None:
    view = ended(api, flow.written.submit(api=api)["id"])
    assert output(view)["value"] == 42
    source = api.get("/pipelines/written")["spec"]["steps"][0]["inputs"]["frame"]
    assert source["saved"]["materialiser"] == "noria.pandas"


def test_two_equal_values_of_one_step_are_one_blob(api: Api, flow: ModuleType) -> None:
    assert output(ended(api, flow.twin.submit(api=api)["id"]))["value"] == 2


def test_a_value_of_a_materialiser_that_is_not_there_says_so(api: Api, flow: ModuleType) -> None:
    view = ended(api, flow.unregistered.submit(api=api)["id"])
    text = logs(api, view, "use")
    assert "saved by the materialiser LateAsNothing, version 3, which is not registered here" in text
    assert "registered: MeshAsText" in text and "Register it at the top of the pipeline's file" in text


def test_a_step_with_saved_inputs_is_replayed(api: Api, flow: ModuleType, server: Server) -> None:
    run = flow.filed.submit(size=5, api=api)["id"]
    ended(api, run)
    noria_ = [sys.executable, "-m", "noria.cli.main", "pipeline", "replay", run, "read"]
    done = subprocess.run(noria_, capture_output=True, text=True, env=server_environment(server), timeout=60)
    assert done.returncode == 0, done.stderr
    assert "one.csv" in done.stdout + done.stderr


def server_environment(server: Server) -> dict[str, str]:
    import os

    kept = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_")}
    return {**kept, "NORIA_URL": server.url}


# --- exactly, or not at all -----------------------------------------------------------------------------------------------


DAYS = pd.date_range("2026-01-01", periods=3, tz="Europe/Paris")
EXACT: dict[str, Any] = {
    "numbers": frames({"i": [1, 2], "f": [0.5, np.nan], "b": [True, False], "u": np.array([1, 255], "uint8")}),
    "text": frames({"s": ["a", None]}),
    "empty": frames({"a": pd.Series([], dtype="int32")}),
    "times": frames({"t": DAYS._with_freq(None), "d": pd.to_timedelta([1, 2, 3], unit="s")}),
    "categories": frames({"c": pd.Categorical(["a", "b", None], categories=["b", "a"], ordered=True)}),
    "nullable": frames({"n": pd.array([1, None], dtype="Int64"), "b": pd.array([True, None], dtype="boolean")}),
    "two levels": frames({"x": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "n"])),
    "named index": frames({"x": [1, 2]}, index=pd.Index([3, 4], name="id")),
    "series": pd.Series([1.5, 2.5], name="x", index=["a", "b"]),
    "nameless series": pd.Series([1, 2]),
    "period": frames({"p": pd.period_range("2026-01", periods=2, freq="M")}),
}
PICKLED: dict[str, Any] = {
    "no columns": frames(index=[1, 2]),
    "mixed": frames({"x": [1, "a"]}),
    "NaN among text": frames({"x": pd.Series(["a", np.nan], dtype=object)}),
    "dates": frames({"x": [dt.date(2026, 1, 1)]}),
    "decimals": frames({"x": [decimal.Decimal("1.0")]}),
    "arrays": frames({"x": [np.array([1])]}),
    "labels of numbers": frames([[1, 2]]),
    "twice the same label": frames([[1, 2]], columns=["a", "a"]),
    "a frequency": frames({"x": [1, 2, 3]}, index=DAYS),
    "complex": frames({"x": [1j]}),
    "a mixed index": frames({"x": [1, 2]}, index=pd.Index([1, 2.5], dtype=object)),
    "mixed categories": frames({"c": pd.Categorical([1, "a"])}),
    "surrogates": frames({"x": pd.Series(["\ud800"], dtype=object)}),
    "a number for a name": pd.Series([1], name=3),
}


def kept(value: Any, folder: Path) -> tuple[Any, Any]:
    """How it is kept, and what comes back."""
    found = encode(value, folder)
    return found, decode(found, folder, folder / "scratch")


@pytest.mark.parametrize("name", EXACT)
def test_frames_that_arrow_holds_come_back_exactly(name: str, tmp_path: Path) -> None:
    value = EXACT[name]
    found, back = kept(value, tmp_path)
    assert isinstance(found, Saved) and found.materialiser == "noria.pandas"
    if isinstance(value, pd.Series):
        pd.testing.assert_series_equal(back, value, check_freq=True)
    else:
        pd.testing.assert_frame_equal(back, value, check_freq=True, check_column_type=True)


def test_text_in_objects_stays_text_in_objects(tmp_path: Path) -> None:
    """With one version of pandas Arrow gives it back, with another it would become that one's own kind of text."""
    value = frames({"o": pd.Series(["a", None], dtype=object)})
    _, back = kept(value, tmp_path)
    pd.testing.assert_frame_equal(back, value)
    assert back["o"][1] is None


@pytest.mark.parametrize("name", PICKLED)
def test_frames_that_it_would_change_are_pickled(name: str, tmp_path: Path) -> None:
    found, back = kept(PICKLED[name], tmp_path)
    assert isinstance(found, Pickle)
    assert type(back) is type(PICKLED[name])


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 0)), np.array(3.5), np.asfortranarray(np.ones((2, 3), "f4")), np.array(["ä", "b"]), np.array([1], ">i4"),
        np.array(["2026-01-01"], "M8[D]"), np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
    ],
)  # fmt: skip
def test_arrays_come_back_exactly(value: Any, tmp_path: Path) -> None:
    found, back = kept(value, tmp_path)
    assert isinstance(found, Saved) and found.name == "array.npy"
    assert back.dtype == value.dtype and back.shape == value.shape and np.array_equal(back, value)
    assert back.flags.f_contiguous == value.flags.f_contiguous


@pytest.mark.parametrize("value", [np.array([object()], object), np.ma.masked_array([1, 2], [True, False])])
def test_arrays_that_numpy_would_pickle_or_change_are_pickled(value: Any, tmp_path: Path) -> None:
    assert isinstance(kept(value, tmp_path)[0], Pickle)


def test_arrow_tables_and_batches_come_back_exactly(tmp_path: Path) -> None:
    types = {"d": pa.dictionary(pa.int8(), pa.string()), "n": pa.list_(pa.struct({"x": pa.decimal128(5, 2)}))}
    for value in (
        pa.table({"x": [1, None]}, metadata={"a": "b"}),
        pa.record_batch({"x": ["a"]}),
        pa.table({"d": pa.array(["a"], types["d"]), "n": pa.array([[{"x": decimal.Decimal("1.25")}]], types["n"])}),
    ):
        found, back = kept(value, tmp_path)
        assert isinstance(found, Saved) and back.equals(value, check_metadata=True) and type(back) is type(value)


def test_frames_of_polars_come_back_exactly(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"a": [1, None], "c": pl.Series(["x", "y"], dtype=pl.Categorical), "l": [[1], []]})
    for value in (frame, frame["l"]):
        found, back = kept(value, tmp_path)
        assert found.materialiser == "noria.polars" and back.equals(value, null_equal=True) and type(back) is type(value)


def test_tensors_and_states_are_read_without_running_code(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    found, back = kept(module.state_dict(), tmp_path)
    assert found.materialiser == "noria.torch"
    module.load_state_dict(back)
    for value in (torch.ones(2, dtype=torch.bfloat16), torch.nn.Parameter(torch.zeros(1))):
        found, back = kept(value, tmp_path)
        assert found.materialiser == "noria.torch" and torch.equal(back, value) and type(back) is type(value)
    assert isinstance(kept(module, tmp_path)[0], Pickle)


def test_the_same_value_has_the_same_digest(tmp_path: Path) -> None:
    """Or what rests on it would never be found in the cache."""
    values = [EXACT["text"], EXACT["series"], np.ones(3), pa.table({"x": [1]}), [EXACT["numbers"], 1]]
    for value in values:
        found = [encode(value, Path(folder)) for folder in (tmp_path, tmp_path)]
        assert found[0] == found[1]


def test_what_is_pickled_keeps_its_place_in_the_cache() -> None:
    """A key that was made before there were materialisers; and one of a saved value says by which."""
    step = StepSpec(name="a", function="m:a", code_digest="c" * 64)
    key = cache_key("p", step, {"x": Pickle("ab" * 32, 3, "Mesh")})
    assert key.inputs["x"] == cache_key("p", step, {"x": Pickle("ab" * 32, 99)}).inputs["x"]
    assert key.key == "2cd7f4edf3269af1382b42db2078ef0947e73c08796f6195d4d3a5baa587e8c9"
    saved = [Saved("ab" * 32, 3, "Mesh", name, version) for name, version in (("M", 1), ("M", 2), ("N", 1))]
    assert len({cache_key("p", step, {"x": value}).key for value in (Pickle("ab" * 32, 3), *saved)}) == 4


# --- registering ----------------------------------------------------------------------------------------------------------


class Base: ...


class Derived(Base): ...


class Third(Derived): ...


class _Empty:
    def save(self, value: Any, folder: Path) -> None: ...

    def load(self, folder: Path) -> Any: ...


@pytest.fixture
def fresh() -> Iterator[None]:
    """Without what this test registers."""
    module = importlib.import_module("noria.client.materialisers")
    before = dict(module._by_type), dict(module._by_name)
    yield
    module._by_type, module._by_name = before


def maker(name: str, **more: Any) -> type:
    """A materialiser that writes its name."""

    def save(self: Any, value: Any, folder: Path) -> None:
        (folder / "a").write_text(name)

    def load(self: Any, folder: Path) -> Any:
        return (folder / "a").read_text()

    return type(name, (), {"save": save, "load": load, **more})


def test_the_most_specific_class_decides(fresh: None, tmp_path: Path) -> None:
    noria.materialiser(Base)(maker("ForBase"))
    noria.materialiser(Derived)(maker("ForDerived", takes=lambda self, value: not hasattr(value, "is_odd")))
    assert kept(Base(), tmp_path)[1] == "ForBase"
    assert kept(Third(), tmp_path)[1] == "ForDerived"
    odd = Third()
    odd.is_odd = True  # type: ignore[attr-defined]
    assert kept(odd, tmp_path)[1] == "ForBase"


def test_the_users_comes_before_ours(fresh: None, tmp_path: Path) -> None:
    noria.materialiser(pd.DataFrame)(maker("Mine"))
    assert kept(EXACT["text"], tmp_path)[1] == "Mine"
    assert isinstance(encode([EXACT["text"], 2], tmp_path), Many)


def test_a_version_that_is_not_read_any_more_is_refused(fresh: None, tmp_path: Path) -> None:
    noria.materialiser(Base)(maker("ForBase"))
    old = encode(Base(), tmp_path)
    noria.materialiser(Base)(maker("ForBase", version=2))
    with pytest.raises(Invalid, match=r"ForBase, version 1; the one here is version 2 and reads 2.*reads = \(1,\)"):
        decode(old, tmp_path, tmp_path / "scratch")
    noria.materialiser(Base)(maker("ForBase", version=2, reads=(1,)))
    assert decode(old, tmp_path, tmp_path / "scratch") == "ForBase"


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = encode(EXACT["numbers"], tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        Invalid, match=r"noria.pandas, version 1, and cannot be loaded here: .*It needs pandas and pyarrow: env="
    ):
        decode(found, tmp_path, tmp_path / "scratch")


def test_one_that_saves_nothing_is_told(fresh: None, tmp_path: Path) -> None:
    noria.materialiser(Base)(_Empty)
    with pytest.raises(Invalid, match="saved nothing of a Base"):
        encode(Base(), tmp_path)


@pytest.mark.parametrize(
    ("types", "made", "says"),
    [
        ((), maker("A"), "says for which types"),
        (("Mesh",), maker("A"), "takes classes"),
        ((dict,), maker("A"), "kept as it is"),
        ((Base,), type("B", (), {"save": lambda *_: None}), "has no load"),
        ((Base,), type("D", (_Empty,), {"name": "noria.mine"}), "no name for a materialiser"),
        ((Base,), maker("C", version=0), "number from 1 on"),
    ],
)
def test_what_cannot_be_registered_is_refused(fresh: None, types: Any, made: Any, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        noria.materialiser(*types)(made)


def test_two_of_one_name_are_refused(fresh: None) -> None:
    noria.materialiser(Base)(maker("Same"))
    with pytest.raises(Invalid, match="Two materialisers are called Same"):
        noria.materialiser(Derived)(type("Other", (_Empty,), {"name": "Same"}))
