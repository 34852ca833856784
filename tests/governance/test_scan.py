"""Files that would run code are told from those that would not, without running any."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.governance.pickles import OutOfBudget, Walk
from noria.governance.scan import Budget, FileScan, flavor_findings, pickled_paths, scan_file
from tests.governance.hostile_pickles import FILES, MADE, NAMES, OPCODES, Calls, by_name, old, zipped


def scanned(folder: Path, data: bytes, path: str = "model.pkl", **options: Any) -> FileScan:
    file = folder / "file"
    file.write_bytes(data)
    return scan_file(file, path, options.pop("budget", None) or Budget(), **options)


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda v: str(v)[:40])
def test_what_runs_code_is_named(tmp_path: Path, module: str, name: str) -> None:
    for data in (by_name(module, name), old(module, name)):
        found = scanned(tmp_path, data)
        assert found.status == "suspicious"
        assert f"{module}.{name}" in [f.name for f in found.findings], found
    first = scanned(tmp_path, by_name(module, name)).findings[0]
    assert (first.opcode, first.file) == ("STACK_GLOBAL", "model.pkl") and first.at is not None


@pytest.mark.parametrize("path", FILES)
def test_no_way_of_packing_hides_it(tmp_path: Path, path: str) -> None:
    assert scanned(tmp_path, FILES[path], path).status == "suspicious"


@pytest.mark.parametrize("path", MADE)
def test_an_archive_that_readers_read_differently_is_suspicious(tmp_path: Path, path: str) -> None:
    assert "archive" in scanned(tmp_path, MADE[path](), path).findings[0].reason


def test_the_hostile_files_are_hostile(tmp_path: Path) -> None:
    """Reading them calls what they name: shown with a call that does no harm."""
    for name in ("a name out of the memo", "names put under chosen numbers", "a computed name", "obj"):
        proof = tmp_path / "proof"
        data = OPCODES[name].replace(b"\x8c\x02id", b"\x8c" + bytes([len(f"touch {proof}")]) + f"touch {proof}".encode())
        data = data.replace(b"S'id'", f"S'touch {proof}'".encode())
        pickle.loads(data)
        assert proof.exists(), name
        proof.unlink()
        assert scanned(tmp_path, data).status == "suspicious" and not proof.exists()


def test_eval_through_getattr_is_seen(tmp_path: Path) -> None:
    found = scanned(tmp_path, b"cbuiltins\ngetattr\n(cbuiltins\nobject\nS'__class__'\ntR.")
    assert "builtins.getattr" in [f.name for f in found.findings]
    nested = pickle.dumps({"weights": np.zeros(3), "more": [Calls(os.system, "id")]})
    assert [f.name for f in scanned(tmp_path, nested).findings] == ["posix.system"]


def fitted() -> dict[str, Any]:
    from sklearn.utils import all_estimators

    x = np.abs(np.random.default_rng(0).normal(size=(60, 5)))
    y = (x[:, 0] > 0.7).astype(int)
    made = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, kind in all_estimators():
            try:
                made[name] = kind().fit(x, y)
            except Exception:
                continue
    return made


def test_every_estimator_of_scikit_learn_is_clean(tmp_path: Path) -> None:
    models = fitted()
    assert len(models) > 140
    wrong = {}
    for name, model in models.items():
        for protocol in (0, 2, 5):
            found = scanned(tmp_path, pickle.dumps(model, protocol))
            if found.status != "clean":
                wrong[f"{name} {protocol}"] = found.findings
        joblib.dump(model, tmp_path / "joblib")
        found = scanned(tmp_path, (tmp_path / "joblib").read_bytes(), "model.joblib")
        if found.status != "clean":
            wrong[f"{name} joblib"] = found.findings
    assert not wrong


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)], ids=str)
def test_what_joblib_compresses_is_opened(tmp_path: Path, compress: Any) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import Pipeline

    forest = RandomForestClassifier(3).fit(np.eye(4), [0, 1, 0, 1])
    texts = np.array(["a", "bcd"], dtype=object)
    joblib.dump({"a": Pipeline([("m", forest)]), "b": texts, "c": np.array(["x", "yz"])}, tmp_path / "m", compress=compress)
    assert scanned(tmp_path, (tmp_path / "m").read_bytes(), "m.joblib").status == "clean"
    joblib.dump({"a": np.zeros(99), "b": Calls(os.system, "id"), "c": np.ones(99)}, tmp_path / "m", compress=compress)
    assert "posix.system" in [f.name for f in scanned(tmp_path, (tmp_path / "m").read_bytes(), "m.joblib").findings]


def test_data_is_clean(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"a": [1.0, 2], "b": ["x", "y"], "c": pd.Categorical(["u", "v"]), "d": pd.to_datetime(["2020", "2021"])}
    )
    for value in (
        frame, frame.set_index(["a", "b"]), np.array(["a", None], dtype=object), np.random.default_rng(0), {"a": b"x" * 9_999},
        np.zeros(2, dtype=[("x", "f8"), ("y", "i4")]), pd.Timestamp("2020", tz="UTC"), set("abc"), 1 << 200,
    ):  # fmt: skip
        assert scanned(tmp_path, pickle.dumps(value)).status == "clean", value


def torch_file(**storages: bytes) -> bytes:
    """A state dict as torch writes it: a tensor names its storage by a persistent id."""
    storage = (
        b"("
        + b"".join(b"X" + struct.pack("<I", len(t)) + t for t in (b"storage",))
        + b"ctorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ"
    )
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x04\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    )
    data = b"\x80\x02ccollections\nOrderedDict\n)RU\x01w" + tensor + b"s."
    return zipped(**{"archive/data.pkl": data, "archive/version": b"3\n", "archive/data/0": b"\x80\x02cos\nx", **storages})


def test_formats_are_told_and_safe_ones_said(tmp_path: Path) -> None:
    import skops.io
    from sklearn.linear_model import LinearRegression

    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    tensors = struct.pack("<Q", len(header)) + header + b"\x00" * 4
    spool = io.BytesIO()
    np.savez(spool, a=np.zeros(3))
    examples = {
        "model.safetensors": (tensors, "safetensors"), "model.npz": (spool.getvalue(), "npz"),
        "xgboost.json": (b'{"learner": {}}', "json"), "MLmodel": (b"flavors: {}\n", "yaml"),
        "model.onnx": (b"\x08\x07\x12\x04test", "onnx"),
        "requirements.txt": (b"cloudpickle==3.1\nnumpy==2\n", "text"), "model.pt": (torch_file(), "torch"),
        "model.skops": (skops.io.dumps(LinearRegression().fit([[1], [2]], [1, 2])), "skops"),
        "model.pkl": (pickle.dumps([1]), "pickle"), "empty": (b"", "data"),
    }  # fmt: skip
    for path, (data, format) in examples.items():
        found = scanned(tmp_path, data, path)
        assert (found.status, found.format) == ("clean", format), found


def test_what_is_not_known_is_not_called_clean(tmp_path: Path) -> None:
    found = scanned(tmp_path, bytes(range(200, 256)) * 9, "model.weights")
    assert (found.status, found.why) == ("unscanned", "the format of model.weights is not known")
    assert scanned(tmp_path, b"\x04\x22\x4d\x18 lz4", "m.joblib").status == "unscanned"


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(gzip.compress(b"\x00" * (200 << 20)))
    budget = Budget(unpacked_bytes=8 << 20)
    assert "bomb" in scanned(tmp_path, bomb, "m.gz", budget=budget).findings[0].reason
    with pytest.raises(OutOfBudget):
        scanned(tmp_path, bomb, "m.gz", budget=Budget(unpacked_bytes=8 << 20, is_final=False))
    deep = b"x"
    for _ in range(9):
        deep = gzip.compress(deep)
    assert "deep" in scanned(tmp_path, deep, "m.gz").findings[0].reason
    spool = io.BytesIO()
    with zipfile.ZipFile(spool, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bin", b"\x00" * (64 << 20))
    assert "bomb" in scanned(tmp_path, spool.getvalue(), "m.zip", budget=Budget(unpacked_bytes=8 << 20)).findings[0].reason


def test_what_the_description_asks_for_is_looked_at() -> None:
    flavors = {
        "python_function": {"loader_module": "evil_loader"},
        "sklearn": {"pickled_model": "m.skops", "serialization_format": "skops", "skops_trusted_types": ["os.system", "numpy.dtype"]},
    }  # fmt: skip
    assert [f.name for f in flavor_findings(flavors)] == ["evil_loader", "os.system"]
    assert flavor_findings({"python_function": {"loader_module": "mlflow.sklearn"}}) == []
    assert pickled_paths({"sklearn": {"pickled_model": "weights.txt"}}) == {"weights.txt"}
    assert pickled_paths(flavors) == set()


@given(st.binary(max_size=200))
def test_any_bytes_are_walked_or_refused(data: bytes) -> None:
    """What ends without a finding is read by pickle itself, with no import that is not on the list."""
    body = b"\x80\x04" + data
    walk = Walk("f", io.BytesIO(body), len(body), steps=10_000)
    walk.run()
    if walk.findings:
        return

    class Watch(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            assert f"{module}.{name}" in walk.imports
            return super().find_class(module, name)

    with contextlib.suppress(Exception):  # values of the wrong kinds are pickle's to refuse
        Watch(io.BytesIO(body)).load()
