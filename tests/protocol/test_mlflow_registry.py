"""The registry through the unmodified MLflow client, against a real server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from noria.registry.model import Evaluation
from tests.protocol.test_mlflow_tracking import Server

mlflow = pytest.importorskip("mlflow")
sklearn = pytest.importorskip("sklearn")
pytestmark = [pytest.mark.protocol, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    mlflow.set_experiment(request.node.name)
    yield mlflow.MlflowClient()
    while mlflow.active_run():
        mlflow.end_run()


def log_model(name: str | None = None, *, slope: float = 1.0) -> tuple[str, Any]:
    """A run with a fitted model at `model`; its id and what log_model gave."""
    import numpy as np
    from sklearn.linear_model import LinearRegression

    rows = np.array([[1.0], [2.0], [3.0]])
    with mlflow.start_run() as run:
        fitted = LinearRegression().fit(rows, slope * rows[:, 0])
        info = mlflow.sklearn.log_model(
            fitted, name="model", input_example=rows[:1], registered_model_name=name, serialization_format="cloudpickle"
        )
    return run.info.run_id, info


def answer(model: Any) -> float:
    import numpy as np

    return float(model.predict(np.array([[10.0]]))[0])


def test_a_model_logged_with_a_name_is_registered_and_loads(client: Any, server: Server) -> None:
    run_id, _ = log_model("flights", slope=2.0)
    client.set_registered_model_alias("flights", "champion", "1")
    found = client.get_model_version_by_alias("flights", "champion")
    assert (found.name, int(found.version), found.status) == ("flights", 1, "READY")
    assert found.run_id == run_id and found.aliases == ["champion"]
    for uri in ("models:/flights@champion", "models:/flights/1", "models:/flights/latest"):
        assert answer(mlflow.pyfunc.load_model(uri)) == pytest.approx(20.0)
    ours = server.app.registry.version(server.app.ops.system("test"), "flights@champion")
    assert ours.signature and ours.input_example is not None and "sklearn" in ours.flavors and ours.packages


def test_register_model_from_a_run_and_from_another_version(client: Any, server: Server) -> None:
    run_id, info = log_model(slope=3.0)
    one = mlflow.register_model(f"runs:/{run_id}/model", "rain", tags={"team": "ops"})
    two = mlflow.register_model(info.model_uri, "rain")
    three = client.copy_model_version("models:/rain/1", "rain-production")
    assert (int(one.version), int(two.version), int(three.version)) == (1, 2, 1)
    assert client.get_model_version("rain", "1").tags == {"team": "ops"}
    op = server.app.ops.system("test")
    digests = {server.app.registry.version(op, handle).digest for handle in ("rain@1", "rain@2", "rain-production@1")}
    assert len(digests) == 1
    assert answer(mlflow.pyfunc.load_model("models:/rain-production/1")) == pytest.approx(30.0)


def test_a_version_keeps_its_bytes_when_the_run_changes(client: Any, tmp_path: Any) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    (tmp_path / "w.txt").write_text("first")
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(tmp_path), "model")
    mlflow.register_model(f"runs:/{run.info.run_id}/model", "frozen")
    (tmp_path / "w.txt").write_text("second")
    client.log_artifacts(run.info.run_id, str(tmp_path), "model")
    folder = mlflow.artifacts.download_artifacts("models:/frozen/1", dst_path=str(tmp_path / "out"))
    from pathlib import Path

    assert (Path(folder) / "w.txt").read_text() == "first"


def test_a_model_loads_through_links(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "100")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    log_model("linked", slope=4.0)
    assert answer(mlflow.pyfunc.load_model("models:/linked/1")) == pytest.approx(40.0)


def test_the_rest_of_the_protocol(client: Any, server: Server) -> None:
    log_model("snow")
    log_model("snow")
    client.update_registered_model("snow", "about snow")
    client.set_registered_model_tag("snow", "team", "ops")
    client.set_model_version_tag("snow", "2", "reviewed", "yes")
    client.update_model_version("snow", "2", "the second")
    client.set_registered_model_alias("snow", "champion", "2")
    model = client.get_registered_model("snow")
    assert (model.description, model.tags, {k: int(v) for k, v in model.aliases.items()}) == (
        "about snow", {"team": "ops"}, {"champion": 2},
    )  # fmt: skip
    assert [int(v.version) for v in client.get_latest_versions("snow")] == [2]
    assert [m.name for m in client.search_registered_models("name = 'snow'")] == ["snow"]
    assert [m.name for m in client.search_registered_models("tags.team = 'ops'")] == ["snow"]
    assert [int(v.version) for v in client.search_model_versions("name = 'snow'", order_by=["version_number asc"])] == [1, 2]
    assert [int(v.version) for v in client.search_model_versions("name = 'snow' and tags.reviewed = 'yes'")] == [2]
    moved = client.transition_model_version_stage("snow", "1", "Production")
    assert moved.current_stage == "Production"
    client.transition_model_version_stage("snow", "2", "Production", archive_existing_versions=True)
    assert client.get_model_version("snow", "1").current_stage == "Archived"
    assert {v.current_stage: int(v.version) for v in client.get_latest_versions("snow")} == {"Production": 2, "Archived": 1}
    assert [int(v.version) for v in client.get_latest_versions("snow", stages=["Production"])] == [2]
    assert client.get_model_version_download_uri("snow", "1").startswith("mlflow-artifacts:/model-versions/")
    client.delete_model_version_tag("snow", "2", "reviewed")
    client.delete_registered_model_tag("snow", "team")
    assert client.get_model_version("snow", "2").tags == {} and client.get_registered_model("snow").tags == {}
    with pytest.raises(mlflow.MlflowException, match="still needed"):
        client.delete_registered_model("snow")
    client.delete_registered_model_alias("snow", "champion")
    client.delete_model_version("snow", "1")
    client.rename_registered_model("snow", "hail")
    assert client.get_registered_model("hail").name == "hail"
    client.delete_registered_model("hail")
    for refused, code in (
        (lambda: client.get_registered_model("hail"), "RESOURCE_DOES_NOT_EXIST"),
        (lambda: client.create_model_version("flights", "file:///etc"), "INVALID_PARAMETER_VALUE"),
        (lambda: client.create_registered_model("a/b"), "INVALID_PARAMETER_VALUE"),
        (lambda: [client.create_registered_model("twice") for _ in range(2)], "RESOURCE_ALREADY_EXISTS"),
    ):
        with pytest.raises(mlflow.MlflowException) as error:
            refused()
        assert error.value.error_code == code


def test_the_passport_of_a_version_names_run_code_data_and_numbers(client: Any, server: Server) -> None:
    run_id, _ = log_model("known")
    op = server.app.ops.system("test")
    server.app.registry.set_evaluation(op, "known@1", Evaluation(dataset_version="d1", split="test", metrics={"r2": 0.9}))
    passport = server.app.registry.passport_of_version(op, "known@1")
    assert passport["run"]["id"] == run_id and passport["run"]["experiment"]
    assert passport["environment"]["packages"] and passport["evaluations"][0]["metrics"] == {"r2": 0.9}
