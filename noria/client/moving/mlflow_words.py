"""MLflow's words for things: JSON of its REST API, and what its database means by a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from noria.client.moving.model import Experiment, Input, Model, ModelNumber, Number, Registered, Run, Use, Version

LARGEST = 1.7976931348623157e308  # what MLflow's database keeps instead of infinity
PROMPT_TAG = "mlflow.prompt.is_prompt"


def number(value: Any) -> float:
    """A value as MLflow's API gives it; the largest float is how its database keeps an infinity, NaN is a word."""
    found = float(value)
    return math.copysign(math.inf, found) if abs(found) == LARGEST else found


def pairs(found: list[dict[str, Any]] | None) -> dict[str, str]:
    return {item["key"]: item.get("value") or "" for item in found or []}


def experiment(found: dict[str, Any]) -> Experiment:
    created = int(found.get("creation_time") or 0)
    return Experiment(
        id=str(found["experiment_id"]), name=found["name"], stage=found.get("lifecycle_stage") or "active",
        created_at_ms=created, updated_at_ms=int(found.get("last_update_time") or created), tags=pairs(found.get("tags")),
    )  # fmt: skip


def run(found: dict[str, Any]) -> Run:
    info, data = found["info"], found.get("data") or {}
    inputs, outputs = found.get("inputs") or {}, found.get("outputs") or {}
    ended = info.get("end_time")
    return Run(
        id=info["run_id"], experiment_id=str(info["experiment_id"]), name=info.get("run_name") or "",
        user=info.get("user_id") or "", status=info.get("status") or "RUNNING", started_at_ms=int(info.get("start_time") or 0),
        ended_at_ms=int(ended) if ended else None, stage=info.get("lifecycle_stage") or "active",
        tags=pairs(data.get("tags")), params=pairs(data.get("params")),
        keys=sorted({metric["key"] for metric in data.get("metrics") or []}),
        inputs=[dataset(item) for item in inputs.get("dataset_inputs") or []],
        models=[
            *(Use(model_id=m["model_id"], direction="input") for m in inputs.get("model_inputs") or []),
            *(
                Use(model_id=m["model_id"], direction="output", step=int(m.get("step") or 0))
                for m in outputs.get("model_outputs") or []
            ),
        ],
        place=info.get("artifact_uri") or "",
    )  # fmt: skip


def dataset(found: dict[str, Any]) -> Input:
    about = found["dataset"]
    return Input(
        name=about["name"], digest=about["digest"], source_type=about.get("source_type") or "",
        source=about.get("source") or "", schema=about.get("schema") or "", profile=about.get("profile") or "",
        tags=pairs(found.get("tags")),
    )  # fmt: skip


def point(key: str, found: dict[str, Any], number: Callable[[Any], float] = number) -> Number:
    return Number(key, number(found["value"]), int(found["timestamp"]), int(found.get("step") or 0))


def logged_model(found: dict[str, Any], number: Callable[[Any], float] = number) -> Model:
    info, data = found["info"], found.get("data") or {}
    return Model(
        id=info["model_id"], experiment_id=str(info["experiment_id"]), name=info.get("name") or "",
        status=info.get("status") or "LOGGED_MODEL_READY", created_at_ms=int(info["creation_timestamp_ms"]),
        updated_at_ms=int(info["last_updated_timestamp_ms"]), model_type=info.get("model_type") or "",
        source_run_id=info.get("source_run_id") or "", status_message=info.get("status_message") or "",
        tags=pairs(info.get("tags")), params=pairs(data.get("params")),
        points=[
            ModelNumber(
                run_id=m.get("run_id") or "", key=m["key"], value=number(m["value"]), at_ms=int(m["timestamp"]),
                step=int(m.get("step") or 0), dataset_name=m.get("dataset_name") or "",
                dataset_digest=m.get("dataset_digest") or "",
            )
            for m in data.get("metrics") or []
        ],
        place=info.get("artifact_uri") or "",
    )  # fmt: skip


def registered(found: dict[str, Any]) -> Registered:
    return Registered(
        name=found["name"], created_at_ms=int(found.get("creation_timestamp") or 0),
        updated_at_ms=int(found.get("last_updated_timestamp") or 0), description=found.get("description") or "",
        tags=pairs(found.get("tags")), aliases={a["alias"]: int(a["version"]) for a in found.get("aliases") or []},
    )  # fmt: skip


def version(found: dict[str, Any]) -> Version:
    stage = found.get("current_stage") or "None"
    return Version(
        model=found["name"], number=int(found["version"]), source=found.get("source") or "",
        created_at_ms=int(found.get("creation_timestamp") or 0), updated_at_ms=int(found.get("last_updated_timestamp") or 0),
        run_id=found.get("run_id") or "", run_link=found.get("run_link") or "", description=found.get("description") or "",
        status=found.get("status") or "READY",
        tags=pairs(found.get("tags")) | ({"mlflow.stage": stage} if stage != "None" else {}),
    )  # fmt: skip
