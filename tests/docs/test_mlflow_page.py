"""docs/reference/mlflow.md against the server it speaks of, and against the MLflow it lists."""

from __future__ import annotations

import pytest

from noria.tracking.mlflow_server import SPEAKS
from noria.tracking.unserved import reason
from scripts.reference_mlflow import endpoints, form, is_served, served
from tests.conftest import Noria

VERSION, ENDPOINTS = endpoints()


def test_the_list_is_that_of_the_version_we_say_we_speak() -> None:
    mlflow = pytest.importorskip("mlflow")
    assert VERSION == SPEAKS == mlflow.__version__, "run scripts/mlflow_endpoints.py with the new MLflow, then make approve"


def test_the_list_holds_every_endpoint_that_the_installed_client_calls() -> None:
    pytest.importorskip("mlflow")
    from mlflow.protos.model_registry_pb2 import ModelRegistryService
    from mlflow.protos.service_pb2 import MlflowService
    from mlflow.protos.webhooks_pb2 import WebhookService
    from mlflow.utils.rest_utils import _REST_API_PATH_PREFIX, extract_all_api_info_for_service

    known = {(e.method, form(e.path).replace("/api/3.0/", "/api/2.0/")) for e in ENDPOINTS}  # it picks the number by call
    for service in (MlflowService, ModelRegistryService, WebhookService):
        for calls in extract_all_api_info_for_service(service, _REST_API_PATH_PREFIX).values():
            for path, method in calls:
                assert (method, form(path)) in known, f"{method} {path}"


def test_what_is_not_served_has_a_reason_and_answers_501_with_it(noria: Noria) -> None:
    for endpoint in ENDPOINTS:
        if is_served(endpoint):
            continue
        why = reason(endpoint.path)
        assert why, f"{endpoint.method} {endpoint.path} is neither served nor refused for a reason"
        for path in endpoint.paths():
            if (endpoint.method, form(path)) in served():
                continue
            path = path.replace("{", "").replace("}", "").rstrip("/")
            answer = noria.http.request(endpoint.method, path)
            body = answer.json()
            assert (answer.status_code, body["error_code"]) == (501, "NOT_IMPLEMENTED"), f"{endpoint.method} {path}: {body}"
            assert f"{endpoint.method} {path} is not served here." in body["message"]


def test_another_workspace_than_ours_is_refused(noria: Noria) -> None:
    name = {"x-mlflow-workspace": "team-b"}
    for path in ("/api/2.0/mlflow/experiments/get?experiment_id=0", "/ajax-api/2.0/mlflow/registered-models/search"):
        refused = noria.http.get(path, headers=name)
        assert (refused.status_code, refused.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
        assert "team-b" in refused.json()["message"] and "default" in refused.json()["message"]
        assert noria.http.get(path, headers={"x-mlflow-workspace": "default"}).status_code == 200
    assert noria.http.get("/api/3.0/mlflow/workspaces").json()["workspaces"][0]["name"] == "default"
    assert noria.http.get("/api/3.0/mlflow/workspaces/default").json()["workspace"]["name"] == "default"
    assert noria.http.get("/api/3.0/mlflow/workspaces/team-b").status_code == 404
    assert noria.http.post("/api/3.0/mlflow/workspaces", json={"name": "team-b"}).status_code == 501
