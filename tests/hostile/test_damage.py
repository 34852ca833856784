"""F2 and F11: a crash between bytes and row, and bytes that changed where they lie. Bytes without a row harm nobody; no row is without
its bytes; damaged bytes are given to nobody, put aside once, and mended by storing the same again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from blake3 import blake3

from noria.kernel import crash
from noria.kernel.crash import Crashed
from noria.kernel.errors import Unavailable
from tests.conftest import Noria

SMALL, LARGE = 100_000, 9_000_000


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    crash.disarm()


def blob(noria: Noria, data: bytes) -> Path:
    """Where bytes lie on the disk."""
    digest = blake3(data).hexdigest()
    return Path(noria.config.blobs_url.removeprefix("file://")) / "blobs" / digest[:2] / digest


def new_run(noria: Noria) -> str:
    return str(noria.http.post("/api/v1/runs", json={"experiment": "damage"}).json()["id"])


def put(noria: Noria, run: str, data: bytes, path: str = "a.bin") -> httpx.Response:
    return noria.http.put(f"/api/v1/runs/{run}/artifacts/content", params={"path": path}, content=data)


def content(noria: Noria, run: str, path: str = "a.bin") -> httpx.Response:
    return noria.http.get(f"/api/v1/runs/{run}/artifacts/content", params={"path": path})


def flip(path: Path, at: int) -> None:
    """One bit of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_a_crash_between_bytes_and_row_leaves_bytes_alone(noria: Noria) -> None:
    run, data = new_run(noria), random.Random(2).randbytes(SMALL)
    crash.arm("artifact.stored")
    with pytest.raises(Crashed):
        noria.app.tracking.put_artifact(noria.op(), run, "a.bin", data)
    assert blob(noria, data).read_bytes() == data, "an orphan"
    assert noria.http.get(f"/api/v1/runs/{run}/artifacts").json()["items"] == []
    assert content(noria, run).status_code == 404
    assert put(noria, run, data).status_code == 200 and content(noria, run).content == data
    noria.http.delete(f"/api/v1/runs/{run}")
    noria.settle()
    assert blob(noria, data).exists(), "an orphan that got its row is nobody's to remove"


def test_every_row_has_its_bytes_wherever_it_crashes(noria: Noria) -> None:
    """Files in turn, each with a crash on its way or without; whatever is listed can be read."""
    run, chance, kept = new_run(noria), random.Random(3), {}
    for i in range(12):
        data, path = chance.randbytes(1_000 + i), f"{i}.bin"
        if i % 3:
            crash.arm("artifact.stored")
        try:
            noria.app.tracking.put_artifact(noria.op(), run, path, data)
            kept[path] = data
        except Crashed:
            assert i % 3
    assert kept and {f["path"] for f in noria.http.get(f"/api/v1/runs/{run}/artifacts").json()["items"]} == set(kept)
    for path, data in kept.items():
        assert content(noria, run, path).content == data


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_a_flipped_bit_is_given_to_nobody(noria: Noria, size: int) -> None:
    run, data = new_run(noria), random.Random(size).randbytes(size)
    put(noria, run, data).raise_for_status()
    flip(blob(noria, data), size // 2)
    proxy = f"/api/2.0/mlflow-artifacts/artifacts/{noria.http.get(f'/api/v1/runs/{run}').json()['experiment_id']}/{run}/artifacts/a.bin"
    if size == SMALL:
        refused = content(noria, run)
        assert refused.status_code == 503 and "damaged" in refused.json()["error"]["message"]
        assert "store the same file again" in refused.json()["error"]["hint"]
        by_mlflow = noria.http.get(proxy)
        assert by_mlflow.status_code == 503 and by_mlflow.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    else:  # the first chunks are on their way when the last one shows it: the answer ends short, which every client notices
        received = b""
        with pytest.raises(Unavailable, match="damaged"):
            for chunk in noria.app.tracking.open_artifact(noria.op(), run, "a.bin"):
                received += chunk
        assert 0 < len(received) < size
    assert [f.subject for f in noria.facts("blob.damaged")] == [f"blob:{blake3(data).hexdigest()}"], "noted once"
    assert not blob(noria, data).exists(), "it was put aside"
    for _ in range(2):
        assert content(noria, run).status_code == 503, "and is still said to be damaged, not to be unknown"
    assert noria.http.get(f"/api/v1/runs/{run}").status_code == 200
    assert [f["path"] for f in noria.http.get(f"/api/v1/runs/{run}/artifacts").json()["items"]] == ["a.bin"]
    # The same file, stored again by anybody, mends every row that names it.
    put(noria, new_run(noria), data).raise_for_status()
    assert content(noria, run).content == data and len(noria.facts("blob.damaged")) == 1


def test_a_damaged_model_is_not_loaded_and_not_registered(noria: Noria) -> None:
    run, weights = new_run(noria), random.Random(5).randbytes(SMALL)
    put(noria, run, b"flavors: {python_function: {loader_module: none}}\n", "model/MLmodel").raise_for_status()
    put(noria, run, weights, "model/weights.bin").raise_for_status()
    noria.http.post("/api/v1/models", json={"name": "m"}).raise_for_status()
    noria.http.post("/api/v1/models/m/versions", json={"source": f"runs:/{run}/model"}).raise_for_status()
    flip(blob(noria, weights), 7)
    at = "/api/v1/models/m/versions/1/content"
    for _ in range(2):
        assert noria.http.get(at, params={"path": "weights.bin"}).status_code == 503
    assert noria.http.get(at, params={"path": "MLmodel"}).status_code == 200
    put(noria, run, weights, "model/weights.bin").raise_for_status()
    assert noria.http.get(at, params={"path": "weights.bin"}).content == weights
