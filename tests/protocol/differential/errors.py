"""Steps that are refused: missing fields, unknown ids, wrong types, limits."""

from __future__ import annotations

from typing import Any

from tests.protocol.differential.api import Api
from tests.protocol.differential.tracking import T0, begin, metric, start, tags

NO_RUN = "f" * 32
MISSING: tuple[tuple[str, str], ...] = (
    ("POST", "experiments/create"), ("GET", "experiments/get"), ("GET", "experiments/get-by-name"), ("POST", "experiments/delete"),
    ("POST", "experiments/restore"), ("POST", "experiments/update"), ("POST", "experiments/set-experiment-tag"),
    ("POST", "experiments/delete-experiment-tag"), ("GET", "runs/get"), ("POST", "runs/update"), ("POST", "runs/delete"),
    ("POST", "runs/restore"), ("POST", "runs/log-metric"), ("POST", "runs/log-parameter"), ("POST", "runs/set-tag"),
    ("POST", "runs/delete-tag"), ("POST", "runs/log-batch"), ("POST", "runs/log-inputs"), ("POST", "runs/outputs"),
    ("POST", "runs/log-model"), ("GET", "metrics/get-history"), ("GET", "artifacts/list"), ("POST", "registered-models/create"),
    ("GET", "registered-models/get"), ("PATCH", "registered-models/update"), ("POST", "registered-models/rename"),
    ("DELETE", "registered-models/delete"), ("POST", "registered-models/set-tag"), ("DELETE", "registered-models/delete-tag"),
    ("POST", "registered-models/alias"), ("DELETE", "registered-models/alias"), ("GET", "registered-models/alias"),
    ("POST", "registered-models/get-latest-versions"), ("POST", "model-versions/create"), ("GET", "model-versions/get"),
    ("PATCH", "model-versions/update"), ("DELETE", "model-versions/delete"), ("POST", "model-versions/transition-stage"),
    ("POST", "model-versions/set-tag"), ("DELETE", "model-versions/delete-tag"), ("GET", "model-versions/get-download-uri"),
)  # fmt: skip


def play(api: Api) -> None:
    where = begin(api, "refusals")
    run = start(api, where, "refused")
    for method, path in MISSING:
        how: dict[str, Any] = {} if method == "GET" else {"json": {}}
        api.send(f"nothing to {method} {path}", method, path, **how)
    unknown(api)
    wrong_types(api, where, run)
    limits(api, where, run)
    bodies(api, where)


def unknown(api: Api) -> None:
    for path in ("experiments/delete", "experiments/restore"):
        api.post(f"unknown {path}", path, experiment_id="987654")
    api.get("unknown experiment", "experiments/get", experiment_id="987654")
    api.get("unknown experiment name", "experiments/get-by-name", experiment_name="nobody")
    api.post("unknown experiments/update", "experiments/update", experiment_id="987654", new_name="x")
    api.post("unknown experiment tag", "experiments/set-experiment-tag", experiment_id="987654", key="a", value="b")
    api.get("unknown run", "runs/get", run_id=NO_RUN)
    for path in ("runs/delete", "runs/restore"):
        api.post(f"unknown {path}", path, run_id=NO_RUN)
    api.post("unknown run, update", "runs/update", run_id=NO_RUN, status="FINISHED")
    api.post("unknown run, metric", "runs/log-metric", run_id=NO_RUN, key="a", value=1, timestamp=T0)
    api.post("unknown run, param", "runs/log-parameter", run_id=NO_RUN, key="a", value="1")
    api.post("unknown run, tag", "runs/set-tag", run_id=NO_RUN, key="a", value="1")
    api.post("unknown run, tag removed", "runs/delete-tag", run_id=NO_RUN, key="a")
    api.post("unknown run, batch", "runs/log-batch", run_id=NO_RUN, tags=tags(a="1"))
    api.post("unknown run, empty batch", "runs/log-batch", run_id=NO_RUN)
    api.get("unknown run, files", "artifacts/list", run_id=NO_RUN)
    api.get("odd run id", "runs/get", run_id="a b/c")
    api.get("endpoint that is not there", "runs/dance")
    api.get("endpoint by the wrong method", "runs/create")


def wrong_types(api: Api, where: str, run: str) -> None:
    api.post("name is a number", "experiments/create", name=5)
    api.post("name is a list", "experiments/create", name=["x"])
    api.post("name is empty", "experiments/create", name="")
    api.post("name is blank", "experiments/create", name="  ")
    api.post("name is taken", "experiments/create", name="refusals")
    api.post("tags are an object", "experiments/create", name="t1", tags={"a": "b"})
    api.post("tag is a number", "experiments/create", name="t2", tags=[{"key": "a", "value": 1}])
    api.post("experiment id is a number", "runs/create", experiment_id=5)
    api.post("start time is text", "runs/create", experiment_id=where, start_time="soon")
    api.post("run name is a number", "runs/create", experiment_id=where, run_name=5)
    api.post("status is unknown", "runs/update", run_id=run, status="GREAT")
    api.post("status is a big number", "runs/update", run_id=run, status=77)
    api.post("end time is text", "runs/update", run_id=run, end_time="soon")
    api.post("param is a number", "runs/log-parameter", run_id=run, key="n", value=1)
    api.post("param is a list", "runs/log-parameter", run_id=run, key="n", value=["1"])
    api.post("metrics are an object", "runs/log-batch", run_id=run, metrics={"a": 1})
    api.post("metric without value", "runs/log-batch", run_id=run, metrics=[{"key": "a", "timestamp": T0}])
    api.post("metric without time", "runs/log-batch", run_id=run, metrics=[{"key": "a", "value": 1}])
    api.post("metric without key", "runs/log-batch", run_id=run, metrics=[{"value": 1, "timestamp": T0}])
    api.post("param without key", "runs/log-batch", run_id=run, params=[{"value": "1"}])
    api.post("tag without key", "runs/log-batch", run_id=run, tags=[{"value": "1"}])
    api.post("batch tag without value", "runs/log-batch", run_id=run, tags=[{"key": "bare"}])
    api.post("param twice", "runs/log-batch", run_id=run, params=[{"key": "d", "value": "1"}, {"key": "d", "value": "2"}])
    api.post("param twice the same", "runs/log-batch", run_id=run, params=[{"key": "e", "value": "1"}] * 2)
    api.post("tag twice", "runs/log-batch", run_id=run, tags=[{"key": "d", "value": "1"}, {"key": "d", "value": "2"}])
    api.post("filter is a number", "runs/search", experiment_ids=[where], filter=5)
    api.post("experiment ids are text", "runs/search", experiment_ids="x")
    api.post("order is text", "experiments/search", order_by="name", max_results=5)
    api.post("unknown field", "runs/set-tag", run_id=run, key="a", value="b", colour="red")
    api.post("model json is no json", "runs/log-model", run_id=run, model_json="{")
    api.post("model json lacks fields", "runs/log-model", run_id=run, model_json="{}")
    api.get("run after all refusals", "runs/get", run_id=run)


def limits(api: Api, where: str, run: str) -> None:
    begin(api, "n" * 500)
    api.post("name of 501", "experiments/create", name="n" * 501)
    for what, path in (("metric", "runs/log-metric"), ("param", "runs/log-parameter"), ("tag", "runs/set-tag")):
        more = {"timestamp": T0, "value": 1} if what == "metric" else {"value": "1"}
        for key in (
            "k" * 250,
            "k" * 251,
            "a//b",
            "../a",
            "/a",
            ".",
            "a/../b",
            "a\\b",
            "a,b",
            "sp ace",
            "co:lon",
            "a/b",
            "ä",
            "a\nb",
        ):
            shown = key if len(key) < 20 else len(key)
            api.post(f"{what} key {shown!r}", path, run_id=run, key=key, **more)
    api.post("tag value of 8000", "runs/set-tag", run_id=run, key="long", value="v" * 8000)
    api.post("param value of 6000", "runs/log-parameter", run_id=run, key="long", value="v" * 6000)
    api.post(
        "experiment tag of 20000", "experiments/set-experiment-tag", experiment_id=where, key="long", value="v" * 20_000
    )
    api.post(
        "experiment tag of 20001", "experiments/set-experiment-tag", experiment_id=where, key="long", value="v" * 20_001
    )
    api.post("experiment tag key of 251", "experiments/set-experiment-tag", experiment_id=where, key="k" * 251, value="v")
    api.post("1000 metrics", "runs/log-batch", run_id=run, metrics=[metric("m", i, i) for i in range(1000)])
    api.post("1001 metrics", "runs/log-batch", run_id=run, metrics=[metric("m", i, i) for i in range(1001)])
    api.post("100 params", "runs/log-batch", run_id=run, params=[{"key": f"p{i}", "value": "x"} for i in range(100)])
    api.post("101 params", "runs/log-batch", run_id=run, params=[{"key": f"q{i}", "value": "x"} for i in range(101)])
    api.post("101 tags", "runs/log-batch", run_id=run, tags=[{"key": f"q{i}", "value": "x"} for i in range(101)])
    api.post("1000 in all", "runs/log-batch", run_id=run, metrics=[metric("m", i, i) for i in range(950)],
             params=[{"key": f"r{i}", "value": "x"} for i in range(51)])  # fmt: skip


def bodies(api: Api, where: str) -> None:
    json_type = {"content-type": "application/json"}
    api.send("body is no json", "POST", "experiments/create", content=b"{", headers=json_type)
    api.send("body is a list", "POST", "experiments/create", content=b"[]", headers=json_type)
    api.send("body is text", "POST", "experiments/create", content=b'"x"', headers=json_type)
    api.send("body is json in text", "POST", "experiments/get-by-name-x", content=b'"{}"', headers=json_type)
    api.send("body of another type", "POST", "experiments/create", content=b"name=x", headers={"content-type": "text/plain"})
    api.send("no body", "POST", "runs/search", headers=json_type)
    api.send("null", "POST", "experiments/create", content=b"null", headers=json_type)
