"""One script of client calls, run under several versions of MLflow's client: `python client_calls.py URL NAME`.

Nothing but the standard library, MLflow and numpy is imported. It prints a JSON object of what the client saw, without what
differs from run to run; the test compares it between versions and with what it must be.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType

VERSION = tuple(int(p) for p in mlflow.__version__.split(".")[:2])


def runs(client: MlflowClient, name: str) -> dict[str, Any]:
    experiment = client.create_experiment(name, tags={"team": "a"})
    client.set_experiment_tag(experiment, "stage", "x")
    mlflow.set_experiment(name)
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_params({"lr": 0.1, "depth": "3"})
        mlflow.log_metric("loss", 1.5, step=0)
        mlflow.log_metrics({"loss": 0.5, "acc": 0.9}, step=1)
        mlflow.log_metric("bad", math.nan, step=2)
        mlflow.log_metric("big", math.inf, step=2)
        mlflow.set_tag("k", "v")
        mlflow.log_text("hello", "notes/a.txt")
        mlflow.log_dict({"a": 1}, "d.json")
    id_ = run.info.run_id
    points = [Metric("many", float(i), 1_700_000_000_000 + i, i) for i in range(1000)]
    client.log_batch(id_, metrics=points[:900], params=[Param("p", "q")], tags=[RunTag("t", "u")])
    client.log_batch(id_, metrics=points[900:] + points[:100])
    found = client.get_run(id_)
    second = client.create_run(experiment, run_name="second")
    client.log_metric(second.info.run_id, "loss", 0.1)
    client.set_terminated(second.info.run_id, "FAILED")
    search = client.search_runs
    by_loss = search([experiment], "metrics.loss < 1 and tags.`mlflow.runName` like '%'", order_by=["metrics.loss ASC"])
    pages = search([experiment], max_results=1)
    rest = search([experiment], max_results=1, page_token=pages.token)
    client.delete_run(second.info.run_id)
    deleted = search([experiment], run_view_type=ViewType.DELETED_ONLY)
    client.restore_run(second.info.run_id)
    folder = Path(tempfile.mkdtemp())
    got = client.download_artifacts(id_, "notes", str(folder))
    return {
        "experiment": [client.get_experiment(experiment).name, dict(client.get_experiment_by_name(name).tags)],
        "experiments": [e.name for e in client.search_experiments(filter_string=f"name = '{name}'")],
        "params": found.data.params, "status": found.info.status, "name": found.info.run_name,
        "metrics": {k: repr(v) for k, v in sorted(found.data.metrics.items())},
        "tags": {k: v for k, v in found.data.tags.items() if k in ("k", "t")},
        "history": [len(client.get_metric_history(id_, "many")), client.get_metric_history(id_, "many")[-1].step],
        "search": [r.info.run_name for r in by_loss], "pages": [len(pages), len(rest), pages[0].info.run_id != rest[0].info.run_id],
        "deleted": [r.info.run_name for r in deleted],
        "files": sorted(f.path for f in client.list_artifacts(id_)), "inside": [f.path for f in client.list_artifacts(id_, "notes")],
        "text": (Path(got) / "a.txt").read_text(), "dict": mlflow.artifacts.load_dict(f"runs:/{id_}/d.json"),
    }  # fmt: skip


def errors(client: MlflowClient, name: str) -> dict[str, str]:
    calls = {
        "no run": lambda: client.get_run("0" * 32),
        "no experiment": lambda: client.get_experiment("999999"),
        "twice": lambda: client.create_experiment(name),
        "filter": lambda: client.search_runs(["0"], "metrics.loss <> 'x' or"),
        "no model": lambda: client.get_registered_model("none"),
        "no version": lambda: client.get_model_version("none", "1"),
    }
    found = {}
    for what, call in calls.items():
        try:
            call()
            found[what] = "no error"
        except mlflow.exceptions.MlflowException as error:
            found[what] = error.error_code
    return found


class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input


def registry(client: MlflowClient, name: str) -> dict[str, Any]:
    with mlflow.start_run() as run:
        mlflow.log_metric("auc", 0.9)
        at = {"name": "model"} if VERSION >= (3, 0) else {"artifact_path": "model"}
        mlflow.pyfunc.log_model(**at, python_model=Echo(), registered_model_name=name, pip_requirements=["mlflow"])
    client.create_model_version(
        name, f"runs:/{run.info.run_id}/model", run.info.run_id, tags={"n": "2"}, description="second"
    )
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_tag(name, "team", "a")
    client.set_model_version_tag(name, "1", "ok", "yes")
    client.update_registered_model(name, "about")
    client.transition_model_version_stage(name, "1", "Staging")
    client.transition_model_version_stage(name, "2", "Staging", archive_existing_versions=True)
    model, one = client.get_registered_model(name), client.get_model_version(name, "1")
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    import numpy as np

    seen = {
        "model": [model.name, model.description, model.tags, {k: int(v) for k, v in model.aliases.items()}],
        "one": [int(one.version), one.current_stage, one.status, one.tags, list(one.aliases), one.run_id == run.info.run_id],
        "search": [int(v.version) for v in client.search_model_versions(f"name = '{name}'", order_by=["version_number ASC"])],
        "tagged": [int(v.version) for v in client.search_model_versions(f"name = '{name}' and tags.n = '2'")],
        "models": [m.name for m in client.search_registered_models(f"name like '{name[:5]}%'")],
        "predict": np.asarray(loaded.predict(np.array([[1.0]]))).tolist(),
        "source": bool(client.get_model_version_download_uri(name, "1")),
    }  # fmt: skip
    client.delete_registered_model_alias(name, "champion")
    client.delete_model_version(name, "2")
    client.delete_registered_model(name)
    seen["left"] = [m.name for m in client.search_registered_models(f"name = '{name}'")]
    return seen


def parts(client: MlflowClient, name: str) -> dict[str, Any]:
    """A file that goes up in parts, and where the client can, comes down in ranges."""
    os.environ |= {
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true", "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "500000",
        "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": "300000", "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
        "MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE": "400000",
    }  # fmt: skip
    folder = Path(tempfile.mkdtemp())
    (folder / "big.bin").write_bytes(bytes(range(250)) * 4_000)
    run = client.create_run(client.get_experiment_by_name(name).experiment_id).info.run_id
    client.log_artifact(run, str(folder / "big.bin"), "deep")
    (folder / "down").mkdir()
    got = client.download_artifacts(run, "deep/big.bin", str(folder / "down"))
    return {"same": Path(got).read_bytes() == (folder / "big.bin").read_bytes()}


def prompts(name: str) -> dict[str, Any]:
    """Prompts had another address before MLflow 3."""
    api: Any = mlflow.genai if VERSION >= (3, 0) else mlflow
    name = f"prompt-{name}"
    api.register_prompt(name, "Hello {{who}}!", commit_message="first")
    api.register_prompt(name, "Bye {{who}}.")
    api.set_prompt_alias(name, "live", 1)
    live = api.load_prompt(f"prompts:/{name}@live")
    return {
        "live": live.format(who="Ada"),
        "second": api.load_prompt(f"prompts:/{name}/2").template,
        "version": int(live.version),
    }


def main(url: str, name: str) -> dict[str, Any]:
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    client = MlflowClient()
    seen = {"runs": runs(client, name), "errors": errors(client, name), "registry": registry(client, name)}
    return {**seen, "prompts": prompts(name), "parts": parts(client, name)}


if __name__ == "__main__":
    print(json.dumps({"version": mlflow.__version__, "saw": main(*sys.argv[1:3])}))
