"""`mlflow.autolog()` of an unmodified MLflow against Noria: what six frameworks log by themselves arrives, and loads back.

All trainings run in one process of the environment `.venv/clients/autolog` (tests/protocol/autolog_trainings.py); each test then asks
Noria's own API for one of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts import mlflow_clients
from tests.protocol.test_mlflow_tracking import Server

FRAMEWORKS = ["sklearn", "xgboost", "lightgbm", "statsmodels", "lightning", "keras"]
LIMIT_S = 500
pytestmark = [pytest.mark.protocol, pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 400)]


class Logged:
    """What was logged, through Noria's API."""

    def __init__(self, url: str, done: dict[str, Any]) -> None:
        self.done = done
        self._http = httpx.Client(base_url=url)
        self.run: dict[str, Any] = self.get(f"/api/v1/runs/{done['run_id']}")
        self.model_id = done["models"][-1]

    def get(self, path: str, /, **params: Any) -> Any:
        answer = self._http.get(path, params=params)
        assert answer.is_success, answer.text
        return answer.json()

    def points(self) -> dict[str, int]:
        """How many points each metric has."""
        found = self.get(f"/api/v1/runs/{self.run['id']}/series", buckets=1)["series"]
        return {key: curve["count"] for key, curve in found.items()}

    def steps(self, key: str) -> list[int]:
        asked = {"run_id": self.run["id"], "metric_key": key}
        return [m["step"] for m in self.get("/api/2.0/mlflow/metrics/get-history", **asked)["metrics"]]

    def files(self, path: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        for item in self.get(f"/api/v1/runs/{self.run['id']}/artifacts", path=path)["items"]:
            found |= self.files(item["path"]) if item["is_dir"] else {item["path"]: item["size_bytes"]}
        return found

    def content(self, path: str) -> bytes:
        return self._http.get(f"/api/v1/runs/{self.run['id']}/artifacts/content", params={"path": path}).content

    def inputs(self) -> list[tuple[str, str]]:
        return sorted((i["name"], i["tags"]["mlflow.data.context"]) for i in self.run["inputs"])

    def version(self, name: str) -> dict[str, Any]:
        """The model as a registered version, whose files Noria read."""
        answer = self._http.post(f"/api/v1/models/{name}/versions", json={"source": f"models:/{self.model_id}"})
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def trained(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All of them, trained once."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTHON", "NORIA"))}
    script = str(Path(__file__).parent / "autolog_trainings.py")
    done = subprocess.run(
        [str(mlflow_clients.python_of("autolog")), "-W", "ignore", script, server.url, *FRAMEWORKS],
        capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=tmp_path_factory.mktemp("work"),
        # What a model needs is found by importing it once more in another process, for fifteen seconds each; not what is tested.
        env=plain | {"MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.fixture
def logged(request: pytest.FixtureRequest, server: Server, trained: dict[str, Any]) -> Logged:
    """The one that the test is named for."""
    done = trained[request.node.name.split("_")[1]]
    assert "error" not in done, done.get("error")
    return Logged(server.url, done)


def check_common(logged: Logged, *, flavor: str, has_example: bool = True, has_signature: bool = True) -> None:
    """What is the same for all: an ended run with one model that is ready, and that predicts as the one that was trained."""
    run = logged.run
    assert run["status"] == "FINISHED" and run["ended_at_ms"] >= run["started_at_ms"]
    assert run["tags"]["mlflow.source.type"] == "LOCAL" and run["tags"]["mlflow.source.name"].endswith(
        "autolog_trainings.py"
    )
    assert run["tags"]["mlflow.user"] == run["user"] and run["tags"]["mlflow.runName"] == run["name"]
    assert {m["model_id"] for m in run["models"] if m["direction"] == "output"} == {logged.model_id}
    model = logged.get(f"/api/2.0/mlflow/logged-models/{logged.model_id}")["model"]
    assert model["info"]["status"] == "LOGGED_MODEL_READY" and model["info"]["source_run_id"] == run["id"]
    assert {m["key"] for m in model["data"]["metrics"]} == set(logged.points()), "its numbers are the model's too"
    version = logged.version(f"autolog-{flavor}")
    assert flavor in version["flavors"] and "python_function" in version["flavors"] and version["run_id"] == run["id"]
    assert (version["signature"] is not None) == has_signature and (version["input_example"] is not None) == has_example
    predicted = pytest.approx(logged.done["predicted"], rel=1e-6)
    assert len(logged.done["predicted"]) == 5
    assert logged.done["loaded"] == [predicted, predicted], "by runs:/…/model, and by models:/m-…"


def is_png(logged: Logged, path: str) -> bool:
    return logged.content(path).startswith(b"\x89PNG")


def test_sklearn(logged: Logged) -> None:
    check_common(logged, flavor="sklearn")
    run = logged.run
    assert run["params"]["n_estimators"] == "5" and run["params"]["max_depth"] == "3" and len(run["params"]) > 10
    assert run["tags"]["estimator_name"] == "RandomForestClassifier" and run["tags"]["mlflow.autologging"] == "sklearn"
    assert {"training_accuracy_score", "training_roc_auc", "training_log_loss"} <= set(run["metrics"])
    assert run["metrics"]["RandomForestClassifier_score_unknown_dataset"] == run["metrics"]["training_score"], (
        "of score(), afterwards"
    )
    assert logged.inputs() == [("dataset", "eval"), ("dataset", "train")]
    assert all(i["digest"] and "mlflow_colspec" in i["schema"] and "num_rows" in i["profile"] for i in run["inputs"])
    plots = ["training_confusion_matrix.png", "training_precision_recall_curve.png", "training_roc_curve.png"]
    assert all(is_png(logged, plot) for plot in plots)
    assert {"estimator.html", "metric_info.json", "model/MLmodel", "model/input_example.json"} <= set(logged.files())


def test_xgboost(logged: Logged) -> None:
    check_common(logged, flavor="xgboost")
    assert logged.run["params"]["eta"] == "0.3" and logged.run["params"]["num_boost_round"] == "8"
    assert logged.steps("train-logloss") == list(range(8)), "one for each round"
    assert logged.inputs() == [("dataset", "train"), ("train", "eval")]
    assert is_png(logged, "feature_importance_weight.png")
    assert set(json.loads(logged.content("feature_importance_weight.json"))) <= {"a", "b", "c"}


def test_lightgbm(logged: Logged) -> None:
    check_common(logged, flavor="lightgbm")
    assert logged.run["params"]["num_leaves"] == "4" and logged.run["params"]["num_boost_round"] == "6"
    assert logged.steps("train-binary_logloss") == list(range(6))
    assert logged.inputs() == [("dataset", "train"), ("train", "eval")]
    for kind in ("gain", "split"):
        assert is_png(logged, f"feature_importance_{kind}.png")
        assert set(json.loads(logged.content(f"feature_importance_{kind}.json"))) == {"a", "b", "c"}


def test_statsmodels(logged: Logged) -> None:
    check_common(logged, flavor="statsmodels", has_example=False, has_signature=False)  # MLflow logs neither here
    assert logged.run["params"]["method"] == "pinv" and logged.run["params"]["cov_type"] == "nonrobust"
    assert {"rsquared", "aic", "bic", "f_pvalue"} <= set(logged.run["metrics"])
    assert b"OLS Regression Results" in logged.content("model_summary.txt")


def test_lightning(logged: Logged) -> None:
    check_common(logged, flavor="pytorch", has_example=False)  # MLflow logs none here
    assert logged.run["params"]["epochs"] == "4" and logged.run["params"]["optimizer_name"] == "SGD"
    assert logged.run["params"]["lr"] == "0.1"
    assert logged.steps("loss") == [0, 1, 2, 3], "one for each epoch"
    assert b"layer" in logged.content("model_summary.txt")


def test_keras(logged: Logged) -> None:
    check_common(logged, flavor="keras", has_example=False)  # MLflow logs none here
    assert logged.run["params"]["epochs"] == "4" and logged.run["params"]["optimizer_name"] == "sgd"
    assert logged.steps("loss") == logged.steps("accuracy") == [0, 1, 2, 3]
    assert logged.inputs() == [("dataset", "train")]
    assert b"dense" in logged.content("model_summary.txt")
