"""The unmodified MLflow client against a real server on loopback: nothing but its tracking URI is set."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from noria.app import App, build
from noria.config import load_config
from noria.http.asgi import asgi
from tests.conftest import furnish

mlflow = pytest.importorskip("mlflow")
pytestmark = [pytest.mark.protocol, pytest.mark.filterwarnings("ignore")]


class Server:
    """A control plane on a free port of loopback."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = load_config({}, home=str(furnish(home)), port=port)
        self.app: App = build(config)
        self.url = config.control_url
        self._server = uvicorn.Server(uvicorn.Config(asgi(self.app, checks=True), port=port, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    mlflow.set_experiment(request.node.name)
    yield mlflow.MlflowClient()
    while mlflow.active_run():
        mlflow.end_run()
    for autolog in (
        mlflow.autolog,
        mlflow.sklearn.autolog,
    ):  # the one does not undo the other, and later tests fit models too
        autolog(disable=True)


def test_a_run_from_beginning_to_end(client: Any) -> None:
    with mlflow.start_run(run_name="first", tags={"team": "a"}, description="why") as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"depth": 3, "model": "forest"})
        mlflow.log_metric("loss", 2, step=0)
        mlflow.log_metrics({"loss": 1.5, "acc": 0.9}, step=1)
        mlflow.set_tag("stage", "dev")
        mlflow.set_tags({"x": 1, "y": 2})
        mlflow.delete_tag("y")
    found = client.get_run(run.info.run_id)
    assert found.data.params == {"lr": "0.1", "depth": "3", "model": "forest"}
    assert found.data.metrics == {"loss": 1.5, "acc": 0.9}
    assert (
        found.data.tags["stage"] == "dev" and "y" not in found.data.tags and found.data.tags["mlflow.note.content"] == "why"
    )
    assert found.info.status == "FINISHED" and found.info.end_time >= found.info.start_time
    assert (found.info.run_name, found.info.lifecycle_stage) == ("first", "active")
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")] == [(0, 2.0), (1, 1.5)]
    assert client.get_metric_history(run.info.run_id, "nothing") == []


def test_numbers_that_are_none_survive(client: Any) -> None:
    with mlflow.start_run() as run:
        for step, value in enumerate((math.nan, math.inf, -math.inf, 1.0)):
            mlflow.log_metric("x", value, step=step)
        mlflow.log_metric("y", math.nan)
    assert [repr(m.value) for m in client.get_metric_history(run.info.run_id, "x")] == ["nan", "inf", "-inf", "1.0"]
    assert math.isnan(client.get_run(run.info.run_id).data.metrics["y"])


def test_a_param_does_not_change(client: Any) -> None:
    with mlflow.start_run():
        mlflow.log_param("lr", 1)
        mlflow.log_param("lr", 1)
        with pytest.raises(mlflow.MlflowException, match="Changing param values is not allowed") as refused:
            mlflow.log_param("lr", 2)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_long_history_is_paged(client: Any) -> None:
    from mlflow.entities import Metric

    with mlflow.start_run() as run:
        for start in range(0, 26_000, 1000):
            client.log_batch(run.info.run_id, [Metric("x", float(i), i, i) for i in range(start, start + 1000)])
    history = client.get_metric_history(run.info.run_id, "x")
    assert [m.step for m in history] == list(range(26_000))


def test_files_go_up_and_come_back(client: Any, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "a b.txt").write_text("one")
    (folder / "deep" / "ünï.bin").write_bytes(os.urandom(3_000_000))
    with mlflow.start_run() as run:
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_dict({"a": 1}, "a.json")
        mlflow.log_artifact(str(folder / "a b.txt"))
        mlflow.log_artifacts(str(folder), "things")
    run_id = run.info.run_id
    assert [f.path for f in client.list_artifacts(run_id)] == ["a b.txt", "a.json", "notes", "things"]
    assert [(f.path, f.is_dir) for f in client.list_artifacts(run_id, "things")] == [
        ("things/a b.txt", False),
        ("things/deep", True),
    ]
    down = Path(client.download_artifacts(run_id, "things", str(tmp_path)))
    assert (down / "deep" / "ünï.bin").read_bytes() == (folder / "deep" / "ünï.bin").read_bytes()
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/notes/hello.txt") == "hello"
    assert mlflow.artifacts.load_dict(run.info.artifact_uri + "/a.json") == {"a": 1}
    repo = mlflow.store.artifact.artifact_repository_registry.get_artifact_repository(run.info.artifact_uri)
    repo.delete_artifacts("things")
    assert [f.path for f in client.list_artifacts(run_id)] == ["a b.txt", "a.json", "notes"]


def test_a_file_goes_up_in_parts_and_comes_down_by_a_link(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "300000")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    (tmp_path / "big.bin").write_bytes(b"x" * 1_000_000)
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / "big.bin"))
    (tmp_path / "down").mkdir()
    down = client.download_artifacts(run.info.run_id, "big.bin", str(tmp_path / "down"))
    assert Path(down).stat().st_size == 1_000_000


def test_runs_are_found(client: Any) -> None:
    ids = []
    for i in range(5):
        with mlflow.start_run(run_name=f"r{i}", tags={"odd": str(i % 2)}) as run:
            mlflow.log_param("i", i)
            if i != 4:
                mlflow.log_metric("loss", [3.0, 1.0, math.nan, 2.0][i])
        ids.append(run.info.run_id)

    def names(filter_string: str = "", **more: Any) -> list[str]:
        found = mlflow.search_runs(filter_string=filter_string, output_format="list", **more)
        return [r.info.run_name for r in found]

    assert names() == ["r4", "r3", "r2", "r1", "r0"]
    assert names("metrics.loss < 2.5 and params.i != '9'", order_by=["metrics.loss DESC"]) == ["r3", "r1"]
    assert names(order_by=["metrics.loss ASC"]) == ["r1", "r3", "r0", "r2", "r4"]
    assert names(order_by=["metrics.loss DESC"]) == ["r0", "r3", "r1", "r2", "r4"]
    assert names("tags.odd = '1'", order_by=["start_time ASC"]) == ["r1", "r3"]
    assert names("attributes.run_name LIKE 'r%' and attributes.status = 'FINISHED'", max_results=2) == ["r4", "r3"]
    assert names("run_name ILIKE 'R1'") == ["r1"] and names("run_name LIKE 'R1'") == []
    assert names(f"run_id IN ('{ids[0]}', '{ids[2]}')", order_by=["params.i"]) == ["r0", "r2"]
    assert list(mlflow.search_runs()["params.i"]) == ["4", "3", "2", "1", "0"]
    experiment = mlflow.get_experiment_by_name("test_runs_are_found").experiment_id
    page, token, seen = None, None, []
    while page is None or token:
        page = client.search_runs([experiment], order_by=["metrics.loss"], max_results=2, page_token=token)
        token, seen = page.token, [*seen, *[r.info.run_name for r in page]]
    assert seen == ["r1", "r3", "r0", "r2", "r4"]
    with pytest.raises(mlflow.MlflowException) as refused:
        names("metrics.loss << 3")
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_runs_nest(client: Any) -> None:
    with mlflow.start_run() as parent, mlflow.start_run(nested=True) as child:
        mlflow.log_metric("x", 1)
    assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == parent.info.run_id
    found = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'", output_format="list")
    assert [r.info.run_id for r in found] == [child.info.run_id]
    assert client.get_parent_run(child.info.run_id).info.run_id == parent.info.run_id


def test_a_dataset_is_an_input(client: Any) -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2], "y": [0, 1]})
    with mlflow.start_run() as run:
        mlflow.log_input(mlflow.data.from_pandas(frame, name="small", targets="y"), context="training")
    inputs = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert [(i.dataset.name, i.tags[0].value) for i in inputs] == [("small", "training")]
    assert "mlflow_colspec" in inputs[0].dataset.schema
    found = mlflow.search_runs(
        filter_string="datasets.name = 'small' and dataset.context = 'training'", output_format="list"
    )
    assert [r.info.run_id for r in found] == [run.info.run_id]


def test_what_is_deleted_comes_back(client: Any) -> None:
    with mlflow.start_run() as run:
        pass
    client.delete_run(run.info.run_id)
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    experiment = run.info.experiment_id
    assert client.search_runs([experiment]) == []
    assert len(client.search_runs([experiment], run_view_type=mlflow.entities.ViewType.DELETED_ONLY)) == 1
    client.restore_run(run.info.run_id)
    assert len(client.search_runs([experiment])) == 1
    client.set_terminated(run.info.run_id, "KILLED")
    client.update_run(run.info.run_id, status="FINISHED", name="renamed")
    assert client.get_run(run.info.run_id).info.run_name == "renamed"


def test_experiments(client: Any) -> None:
    made = client.create_experiment("other", tags={"owner": "ada"})
    with pytest.raises(mlflow.MlflowException) as taken:
        client.create_experiment("other")
    assert taken.value.error_code == "RESOURCE_ALREADY_EXISTS"
    assert client.get_experiment(made).tags == {"owner": "ada"}
    client.set_experiment_tag(made, "goal", "x")
    client.rename_experiment(made, "another")
    assert client.get_experiment_by_name("other") is None
    assert client.get_experiment_by_name("another").tags == {"owner": "ada", "goal": "x"}
    client.delete_experiment(made)
    assert made not in [e.experiment_id for e in client.search_experiments()]
    client.restore_experiment(made)
    assert [e.name for e in client.search_experiments(filter_string="name LIKE 'ano%' and tags.goal = 'x'")] == ["another"]
    assert client.get_experiment("0").name == "Default"
    with pytest.raises(mlflow.MlflowException) as absent:
        client.get_run("0" * 32)
    assert absent.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(mlflow.MlflowException):
        client.create_experiment("elsewhere", artifact_location="file:///etc")


def test_autologging_a_classifier_gives_a_model_that_loads(client: Any, server: Server) -> None:
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression

    x, y = make_classification(200, 5, random_state=0)
    mlflow.sklearn.autolog()
    with mlflow.start_run() as run:
        model = LogisticRegression(C=0.5).fit(x, y)
        model.score(x, y)
    found = client.get_run(run.info.run_id)
    assert found.data.params["C"] == "0.5"
    assert {"training_accuracy_score", "training_log_loss", "training_roc_auc"} <= set(found.data.metrics)
    assert found.inputs.dataset_inputs[0].dataset.name == "dataset"
    uses = found.outputs.model_outputs
    assert len(uses) == 1
    logged = mlflow.get_logged_model(uses[0].model_id)
    assert str(logged.status) == "READY" or logged.status.name == "READY"
    assert logged.source_run_id == run.info.run_id and logged.params["C"] == "0.5"
    assert {m.key for m in logged.metrics} >= {"training_accuracy_score"}
    files = [f.path for f in client.list_artifacts(run.info.run_id, "model")]
    assert "model/MLmodel" in files
    for uri in (f"runs:/{run.info.run_id}/model", f"models:/{logged.model_id}"):
        assert (mlflow.sklearn.load_model(uri).predict(x) == model.predict(x)).all()
    assert (mlflow.pyfunc.load_model(f"models:/{logged.model_id}").predict(x) == model.predict(x)).all()
    assert [m.model_id for m in mlflow.search_logged_models(output_format="list")] == [logged.model_id]
    mlflow.set_logged_model_tags(logged.model_id, {"a": "b"})
    mlflow.delete_logged_model_tag(logged.model_id, "a")
    by_accuracy = mlflow.search_logged_models(
        filter_string="metrics.training_accuracy_score > 0.1 and params.C = '0.5'",
        order_by=[{"field_name": "metrics.training_accuracy_score", "ascending": False}], output_format="list",
    )  # fmt: skip
    assert [m.model_id for m in by_accuracy] == [logged.model_id]
    shown = httpx.get(f"{server.url}/api/v1/runs/{run.info.run_id}/artifacts?path=model").json()["items"]
    assert "model/model.pkl" in [f["path"] for f in shown] or "model/MLmodel" in [f["path"] for f in shown]


def test_what_is_not_served_says_so(client: Any, server: Server) -> None:
    for method, path in (
        ("POST", "/api/3.0/mlflow/traces/metrics"),
        ("GET", "/api/2.0/mlflow/gateway/x"),
        ("DELETE", "/ajax-api/2.0/mlflow/zz"),
    ):
        answer = httpx.request(method, server.url + path)
        assert answer.status_code == 501 and answer.json()["error_code"] == "NOT_IMPLEMENTED"


def test_no_spelling_of_a_path_leaves_the_run(client: Any, server: Server) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("x", "a.txt")
    root = f"{server.url}/api/2.0/mlflow-artifacts/artifacts/{run.info.experiment_id}/{run.info.run_id}/artifacts"
    for path in (
        "%2e%2e/%2e%2e/x", "..%2fx", "%252e%252e/x", "a%5c..%5cx", "%2fetc/passwd", "C%3a/x", "a%00b", "a//b", "%2e/a.txt", "a.txt%2f",
    ):  # fmt: skip
        with httpx.Client() as raw:
            request = raw.build_request("PUT", root + "/x", content=b"evil")
            request.url = request.url.copy_with(raw_path=(httpx.URL(root).raw_path + b"/" + path.encode()))
            assert raw.send(request).status_code == 400, path
            request = raw.build_request("GET", root + "/x")
            request.url = request.url.copy_with(raw_path=(httpx.URL(root).raw_path + b"/" + path.encode()))
            assert raw.send(request).status_code in (400, 404), path
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["a.txt"]
    answer = httpx.get(root + "/a.txt")
    assert answer.headers["content-disposition"] == "attachment" and answer.headers["x-content-type-options"] == "nosniff"


HOSTILE = [
        '{"run_id": %r, "metrics": [{"key": "x", "value": 1e400, "timestamp": 1}]}',
        '{"run_id": %r, "metrics": [{"key": "x", "value": "1e400", "timestamp": 1}]}',
        '{"run_id": %r, "metrics": [{"key": "x", "value": 1, "timestamp": 1, "step": 9223372036854775808}]}',
        '{"run_id": %r, "metrics": [{"key": "x", "value": 1, "timestamp": 1, "step": "9223372036854775808"}]}',
        '{"run_id": %r, "metrics": [{"key": "x", "value": true, "timestamp": 1}]}',
        '{"run_id": %r, "metrics": [{"key": "x", "value": 1}]}',
        '{"run_id": %r, "metrics": [{"key": "x\\ud800", "value": 1, "timestamp": 1}]}',
        '{"run_id": %r, "params": [{"key": "x", "value": "\\ud800"}]}',
        '{"run_id": %r, "params": [{"key": "x", "value": "a\\u0000b"}]}',
        '{"run_id": %r, "tags": [{"key": "a/../b", "value": "1"}]}',
        '{"run_id": %r, "metrics": NaN}', "[", "[]", "null", '{"run_id": "../x"}', '{"run_id": "a b"}', "{}",
        '{"run_id": %r, "metrics": [{"key": "x", "value": ' + "9" * 5000 + ', "timestamp": 1}]}',
        "[" * 100_000,
    ]  # fmt: skip


def test_hostile_batches_are_refused(client: Any, server: Server) -> None:
    with mlflow.start_run() as run:
        pass
    for body in HOSTILE:
        text = body.replace("%r", f'"{run.info.run_id}"').encode("utf-8", "surrogatepass")
        answer = httpx.post(f"{server.url}/api/2.0/mlflow/runs/log-batch", content=text)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (
            body[:200],
            answer.text,
        )
    assert client.get_run(run.info.run_id).data.metrics == {}


def test_words_and_digits_are_numbers_where_mlflow_says_so(client: Any, server: Server) -> None:
    with mlflow.start_run() as run:
        body = {"run_id": run.info.run_id, "metrics": [
            {"key": "x", "value": "Infinity", "timestamp": "5", "step": "9223372036854775807"},
            {"key": "y", "value": "0.5", "timestamp": 5, "step": None},
        ]}  # fmt: skip
        answer = httpx.post(f"{server.url}/ajax-api/2.0/mlflow/runs/log-batch", json=body)
        assert (answer.status_code, answer.json()) == (200, {})
    metrics = client.get_run(run.info.run_id).data.metrics
    assert metrics == {"x": math.inf, "y": 0.5}
    for path in ("get-history-bulk?run_id", "get-history-bulk-interval?run_ids"):
        found = httpx.get(f"{server.url}/ajax-api/2.0/mlflow/metrics/{path}={run.info.run_id}&metric_key=y").json()
        assert [(m["value"], m["run_id"]) for m in found["metrics"]] == [(0.5, run.info.run_id)]
