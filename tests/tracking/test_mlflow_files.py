"""Files by MLflow's addresses, and what its pages ask about data sets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Noria

API = "/api/2.0/mlflow"
AJAX = "/ajax-api/2.0/mlflow"


def new_run(noria: Noria) -> Any:
    return noria.http.post(f"{API}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]


def new_run_root(noria: Noria, run: str) -> str:
    found = noria.http.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["info"]
    return str(found["artifact_uri"]).removeprefix("mlflow-artifacts:/")


def test_a_file_is_sent_and_fetched_by_its_run(noria: Noria) -> None:
    run = new_run(noria)["run_id"]
    at = {"run_uuid": run, "path": "plots/a b.html"}
    assert noria.http.post(f"{AJAX}/upload-artifact", params=at, content=b"<script>").status_code == 200
    root = new_run_root(noria, run)
    listed = [
        noria.http.get("/api/2.0/mlflow-artifacts/artifacts", params={"path": f"{root}/{p}"}) for p in ("plots", at["path"])
    ]
    assert [[f["path"] for f in a.json()["files"]] for a in listed] == [["a b.html"], []]  # 2.x clients tell files by this
    for query in (at, {"run_id": run, "path": at["path"]}):
        found = noria.http.get("/get-artifact", params=query)
        assert (found.status_code, found.content) == (200, b"<script>")
        assert found.headers["content-disposition"].startswith("attachment")
        assert found.headers["x-content-type-options"] == "nosniff"


def test_a_file_of_a_logged_model_and_of_a_version(noria: Noria) -> None:
    body = {"experiment_id": "0", "name": "m"}
    model = noria.http.post(f"{API}/logged-models", json=body).json()["model"]["info"]
    at = model["artifact_uri"].removeprefix("mlflow-artifacts:")
    made = noria.http.put(f"/api/2.0/mlflow-artifacts/artifacts{at}/MLmodel", content=b"flavors: {}")
    assert made.status_code == 200, made.text
    file = f"{AJAX}/logged-models/{model['model_id']}/artifacts/files"
    assert noria.http.get(file, params={"artifact_file_path": "MLmodel"}).content == b"flavors: {}"
    assert noria.http.get(file, params={"artifact_file_path": "none"}).status_code == 404
    noria.http.post(f"{API}/registered-models/create", json={"name": "m"})
    source = {"name": "m", "source": f"models:/{model['model_id']}"}
    assert noria.http.post(f"{API}/model-versions/create", json=source).status_code == 200
    asked = {"name": "m", "version": "1", "path": "MLmodel"}
    assert noria.http.get("/model-versions/get-artifact", params=asked).content == b"flavors: {}"


@pytest.mark.parametrize(
    "query", [{}, {"run_id": "x"}, {"path": "a"}, {"run_id": "x", "path": "../a"}, {"run_id": "../x", "path": "a"}]
)
def test_a_bad_question_for_a_file_is_refused(noria: Noria, query: dict[str, str]) -> None:
    for answer in (noria.http.get("/get-artifact", params=query), noria.http.post(f"{AJAX}/upload-artifact", params=query)):
        assert answer.status_code in (400, 404) and answer.json()["error_code"], answer.text


def test_the_data_sets_of_experiments(noria: Noria) -> None:
    for _ in range(2):
        run = new_run(noria)["run_id"]
        data = {"name": "d", "digest": "1", "source_type": "local", "source": "x"}
        tags = [{"key": "mlflow.data.context", "value": "training"}]
        body = {"run_id": run, "datasets": [{"dataset": data, "tags": tags}]}
        assert noria.http.post(f"{API}/runs/log-inputs", json=body).status_code == 200
    found = noria.http.post(f"{AJAX}/experiments/search-datasets", json={"experiment_ids": ["0", "nope"]}).json()
    assert found == {"dataset_summaries": [{"experiment_id": "0", "name": "d", "digest": "1", "context": "training"}]}
    for wrong in ({}, {"experiment_ids": []}, {"experiment_ids": [str(i) for i in range(21)]}):
        assert noria.http.post(f"{AJAX}/experiments/search-datasets", json=wrong).status_code == 400
