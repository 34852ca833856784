"""Where an MLflow database keeps its files: folders and buckets, and nothing beside them."""

from __future__ import annotations

from pathlib import Path

import obstore.store
import pytest

from noria.client.moving.mlflow_files import MlflowFiles
from noria.kernel.errors import Invalid, NotFound
from tests.kernel.test_blobs import s3

__all__ = ["s3"]
FILES = {"a.txt": b"a", "deep/er/big file.bin": b"\x01" * 3_000_000, "empty": b""}


def read_all(place: MlflowFiles, at: str) -> dict[str, bytes]:
    found = {file.path: b"".join(place.read(at, file.path)) for file in place.files(at)}
    assert {path: len(data) for path, data in found.items()} == {f.path: f.size_bytes for f in place.files(at)}
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("3/run1/artifacts", "3/models/m-1/artifacts"):
        for path, data in FILES.items():
            target = tmp_path / "root" / folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "root"


def test_places_are_found_below_the_folder_wherever_it_was(root: Path) -> None:
    place = MlflowFiles(str(root))
    for at in (
        "mlflow-artifacts:/3/run1/artifacts", "mlflow-artifacts://host:5000/3/run1/artifacts", f"{root}/3/run1/artifacts",
        f"file://{root}/3/run1/artifacts", "/where/it/was/3/run1/artifacts", "file:///c:/mlruns/3/run1/artifacts",
        "./mlruns/3/run1/artifacts", "/x/3/models/m-1/artifacts", "mlflow-artifacts:/3/models/m-1/artifacts",
    ):  # fmt: skip
        assert read_all(place, at) == FILES, at
    assert read_all(place, "mlflow-artifacts:/3/nothing/artifacts") == {}


def test_nothing_outside_of_the_folder_is_read(root: Path) -> None:
    place = MlflowFiles(str(root))
    (root / "3/run1/artifacts/link").symlink_to(root.parent / "secret")
    (root / "4").symlink_to(root.parent)
    assert "link" not in read_all(place, "mlflow-artifacts:/3/run1/artifacts")
    for at in (
        "mlflow-artifacts:/../secret", f"{root}/../secret", "mlflow-artifacts:/%2e%2e/secret", "mlflow-artifacts:/4",
        "http://127.0.0.1/x", "dbfs:/x", "", "mlflow-artifacts:/",
    ):  # fmt: skip
        with pytest.raises(Invalid):
            list(place.files(at))
    for path in ("../../../../secret", "link"):
        with pytest.raises(Invalid):
            list(place.read("mlflow-artifacts:/3/run1/artifacts", path))
    with pytest.raises(NotFound):
        list(place.read("mlflow-artifacts:/3/run1/artifacts", "gone"))


def test_a_place_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        list(MlflowFiles("").files("mlflow-artifacts:/3/run1/artifacts"))
    assert "--artifacts" in refused.value.hint
    with pytest.raises(NotFound):
        MlflowFiles(str(tmp_path / "nothing"))
    with pytest.raises(Invalid):
        MlflowFiles("ftp://host/x")


@pytest.mark.slow
def test_files_come_from_a_bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3)
    store = obstore.store.from_url("s3://noria/ml", endpoint=s3, client_options={"allow_http": True})
    for path, data in FILES.items():
        store.put(f"3/run1/artifacts/{path}", data)
    place = MlflowFiles("s3://noria/ml")
    assert read_all(place, "mlflow-artifacts:/3/run1/artifacts") == FILES
    assert read_all(MlflowFiles(""), "s3://noria/ml/3/run1/artifacts") == FILES
