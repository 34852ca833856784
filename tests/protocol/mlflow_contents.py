"""Fills an MLflow with one of everything that can be moved. Run with the interpreter that has MLflow; prints the ids as JSON.

python mlflow_contents.py http://127.0.0.1:5001 | sqlite:////path/mlflow.db
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType

SERIES = 3_000  # points of the longest metric: more than one page of anything


class Echo(mlflow.pyfunc.PythonModel):
    """A model that any MLflow can log without another library."""

    def predict(self, context, model_input, params=None):
        return model_input


def fill(url: str) -> dict[str, object]:
    """Everything, and what was made."""
    mlflow.set_tracking_uri(url)
    client = MlflowClient()
    flights = client.create_experiment("flights", tags={"team": "a", "mlflow.note.content": "Why *delays* happen."})
    put_away = client.create_experiment("put away")
    made: dict[str, object] = {"flights": flights, "put_away": put_away}

    mlflow.set_experiment("flights")
    with mlflow.start_run(run_name="first", tags={"stage": "dev"}, description="the first") as run:
        first = run.info.run_id
        mlflow.log_params({"lr": 0.1, "depth": "3", "long": "x" * 5_000})
        mlflow.log_metrics({"loss": 0.5, "acc": 0.25}, step=-3)
        points = [Metric("loss", 1 / (i + 1), 1_700_000_000_000 + i, i) for i in range(SERIES)]
        for at in range(0, SERIES, 1_000):
            client.log_batch(first, metrics=points[at : at + 1_000])
        odd = [math.nan, math.inf, -math.inf, 0.0, 1e-300, -5.0]
        client.log_batch(first, metrics=[Metric("odd/values", v, 1_700_000_000_000, i) for i, v in enumerate(odd)])
        twice = [Metric("twice", v, t, 1) for v, t in ((1.0, 10), (2.0, 10), (1.0, 11))]
        client.log_batch(first, metrics=twice, params=[Param("seed", "7")], tags=[RunTag("a/b c", "ü")])
        mlflow.log_text("hello\n", "notes/a.txt")
        mlflow.log_dict({"a": 1}, "notes/deep/er.json")
        with tempfile.TemporaryDirectory() as folder:
            big = Path(folder) / "big file.bin"
            big.write_bytes(bytes(range(256)) * 12_000)
            mlflow.log_artifact(str(big))
        data = mlflow.data.from_numpy(
            __import__("numpy").arange(6.0).reshape(3, 2), name="six", source="https://example.org/six"
        )
        mlflow.log_input(data, context="training", tags={"split": "train"})
        logged = mlflow.pyfunc.log_model(
            name="echo",
            python_model=Echo(),
            params={"k": "v"},
            tags={"kind": "echo"},
            model_type="classifier",
            pip_requirements=["mlflow"],
        )
        model = logged.model_id
        mlflow.log_metric("score", 0.75, step=2, model_id=model, dataset=data)
    made |= {"first": first, "model": model}

    with mlflow.start_run(run_name="child", parent_run_id=first) as run:
        made["child"] = run.info.run_id
        mlflow.log_metric("loss", 1.0)
        mlflow.set_logged_model_tags(model, {"seen": "yes"})
    made["failed"] = client.create_run(flights, start_time=1_600_000_000_000, tags={"mlflow.user": "bob"}).info.run_id
    client.log_batch(made["failed"], params=[Param(f"p{i}", str(i)) for i in range(99)])
    client.set_terminated(made["failed"], status="FAILED", end_time=1_600_000_000_500)
    made["running"] = client.create_run(flights, run_name="goes on").info.run_id
    client.log_metric(made["running"], "loss", 3.0)
    made["deleted"] = client.create_run(flights, run_name="put away").info.run_id
    client.log_metric(made["deleted"], "loss", 4.0, step=9)
    client.set_terminated(made["deleted"])
    client.delete_run(made["deleted"])
    made["with_experiment"] = client.create_run(put_away, run_name="went along").info.run_id
    client.log_param(made["with_experiment"], "lr", "1")
    client.set_terminated(made["with_experiment"])
    client.delete_experiment(put_away)

    client.create_registered_model("echo", tags={"team": "a"}, description="says it back")
    from_model = client.create_model_version(
        "echo", f"models:/{model}", first, tags={"v": "1"}, description="one", model_id=model
    )
    gone = client.create_model_version("echo", f"models:/{model}", first, model_id=model)
    third = client.create_model_version("echo", f"models:/{model}", first, model_id=model)
    client.delete_model_version("echo", gone.version)
    client.set_registered_model_alias("echo", "champion", from_model.version)
    client.set_registered_model_alias("echo", "next", third.version)
    client.transition_model_version_stage("echo", third.version, "Staging")
    copied = client.copy_model_version(f"models:/echo/{third.version}", "copy")
    made |= {"versions": [int(from_model.version), int(third.version)], "copied": int(copied.version)}

    mlflow.genai.register_prompt("greet", "Hello {{name}}!", commit_message="first", tags={"lang": "en"})
    mlflow.genai.register_prompt("greet", "Good day, {{name}}!")
    mlflow.genai.set_prompt_alias("greet", alias="polite", version=2)

    with mlflow.start_span(name="outer") as span:
        span.set_inputs({"question": "why"})
        with mlflow.start_span(name="inner") as inner:
            inner.set_outputs({"n": 1})
        span.set_outputs("because")
    made["trace"] = span.trace_id
    mlflow.flush_trace_async_logging()
    mlflow.log_feedback(trace_id=span.trace_id, name="good", value=True, rationale="it is")
    runs = client.search_runs([flights, put_away], run_view_type=ViewType.ALL)
    return made | {"runs": sorted(run.info.run_id for run in runs)}


if __name__ == "__main__":
    print(json.dumps(fill(sys.argv[1])))
