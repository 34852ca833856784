"""Steps about experiments, runs, numbers, inputs and logged models."""

from __future__ import annotations

import json
from typing import Any

from tests.protocol.differential.api import Api

T0 = 1_700_000_000_000


def tags(**found: str) -> list[dict[str, str]]:
    return [{"key": k.replace("__", "."), "value": v} for k, v in found.items()]


def metric(key: str, value: Any, step: int = 0, at: int = T0, **more: Any) -> dict[str, Any]:
    return {"key": key, "value": value, "step": step, "timestamp": at, **more}


def play(api: Api) -> None:
    first = experiments(api)
    run = runs(api, first)
    oddities(api, start(api, begin(api, "apart"), "odd"))
    numbers(api, run)
    searches(api, first)
    inputs(api, first)
    models(api, first)
    endings(api, first, run)


def begin(api: Api, name: str, **more: Any) -> str:
    """An experiment, known by its name."""
    made = api.post(f"begin {name}", "experiments/create", name=name, **more)
    found = api.experiment(made["experiment_id"], name)
    api.answers[f"begin {name}"] = (200, sorted(made))
    return found


def start(api: Api, experiment: str, name: str, at: int = T0, **more: Any) -> str:
    """A run, known by its name."""
    made = api.http.post(
        "/api/2.0/mlflow/runs/create",
        json={"experiment_id": experiment, "run_name": name, "start_time": at, "user_id": "ada", **more},
    )
    return api.known_as(made.json()["run"]["info"]["run_id"], name)


def experiments(api: Api) -> str:
    first = begin(api, "first", tags=tags(team="a", stage="x"))
    begin(api, "second")
    begin(api, "Third one: ü/%_")
    api.get("experiment", "experiments/get", experiment_id=first)
    api.get("experiment by name", "experiments/get-by-name", experiment_name="first")
    api.post("experiment tag", "experiments/set-experiment-tag", experiment_id=first, key="stage", value="y")
    api.post("experiment tag of unicode", "experiments/set-experiment-tag", experiment_id=first, key="ключ", value="λ")
    api.post("experiment tag empty", "experiments/set-experiment-tag", experiment_id=first, key="empty", value="")
    api.post("experiment tag removed", "experiments/delete-experiment-tag", experiment_id=first, key="team")
    api.post("experiment renamed", "experiments/update", experiment_id=first, new_name="FIRST")
    api.get("experiment after all", "experiments/get", experiment_id=first)
    for filter in (
        "name = 'FIRST'", "name != 'FIRST'", "name LIKE 'F%'", "name LIKE 'f%'", "name ILIKE 'f%'", "tags.stage = 'y'",
        "tags.stage != 'z'", "tag.stage ILIKE 'Y'", "attribute.name = 'second'", "tags.`stage` = 'y' AND name = 'FIRST'",
        "creation_time > 0", "last_update_time >= 1", "name = 'FIRST' and name = 'second'", "tags.none = 'x'",
        "name IN ('FIRST')", "nothing = 'x'", "name = FIRST", "name > 'a'", "creation_time = 'x'", "name = 'x' OR name = 'y'",
        "params.x = 'y'", "name ==", "tags.stage > 'a'",
    ):  # fmt: skip
        api.post(f"experiments where {filter}", "experiments/search", filter=filter, max_results=10, order_by=["name ASC"])
    for order in (
        ["name"],
        ["name DESC"],
        ["last_update_time DESC", "name"],
        ["experiment_id ASC"],
        ["attribute.name desc"],
    ):
        api.post(f"experiments by {order}", "experiments/search", max_results=10, order_by=order)
    for order in (["nothing"], ["tags.stage"], ["name sideways"], ["name asc desc"], [""]):
        api.post(f"experiments by wrong {order}", "experiments/search", max_results=10, order_by=order)
    page = api.post("experiments page", "experiments/search", max_results=2, order_by=["name"])
    api.post(
        "experiments next page", "experiments/search", max_results=2, order_by=["name"], page_token=page["next_page_token"]
    )
    for count in (0, -1, 50_001, "many"):
        api.post(f"experiments {count}", "experiments/search", max_results=count)
    api.post("experiments bad token", "experiments/search", max_results=2, page_token="???")
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL"):
        api.post(f"experiments {view}", "experiments/search", max_results=10, view_type=view, order_by=["name"])
    api.get("experiments by query", "experiments/search", max_results=10, filter="name = 'FIRST'", view_type="ALL")
    return first


def runs(api: Api, experiment: str) -> str:
    made = api.http.post("/api/2.0/mlflow/runs/create", json={"experiment_id": experiment, "run_name": "one",
                          "start_time": T0, "user_id": "ada", "tags": tags(a="1", mlflow__note__content="why")}).json()  # fmt: skip
    run = api.known_as(made["run"]["info"]["run_id"], "one")
    api.get("run", "runs/get", run_id=run)
    api.get("run by its old name", "runs/get", run_uuid=run)
    api.post("param", "runs/log-parameter", run_id=run, key="lr", value="0.1")
    api.post("param again", "runs/log-parameter", run_id=run, key="lr", value="0.1")
    api.post("param changed", "runs/log-parameter", run_id=run, key="lr", value="0.2")
    api.post("param empty", "runs/log-parameter", run_id=run, key="nothing", value="")
    api.post("param without value", "runs/log-parameter", run_id=run, key="absent")
    api.post("tag", "runs/set-tag", run_id=run, key="k", value="v")
    api.post("tag again", "runs/set-tag", run_id=run, key="k", value="w")
    api.post("tag without value", "runs/set-tag", run_id=run, key="no value")
    api.post("tag removed", "runs/delete-tag", run_id=run, key="a")
    api.post("tag removed twice", "runs/delete-tag", run_id=run, key="a")
    api.post("renamed", "runs/update", run_id=run, run_name="uno")
    api.post("scheduled", "runs/update", run_id=run, status="SCHEDULED")
    api.post("finished", "runs/update", run_id=run, status="FINISHED", end_time=T0 + 5)
    api.post("finished by number", "runs/update", run_id=run, status=4, end_time=str(T0 + 6))
    api.get("run after all", "runs/get", run_id=run)
    api.post("running again", "runs/update", run_id=run, status="RUNNING")
    api.get("run running again", "runs/get", run_id=run)
    api.post("named by tag", "runs/set-tag", run_id=run, key="mlflow.runName", value="one")
    api.get("run named by tag", "runs/get", run_id=run)
    api.post("finished again", "runs/update", run_id=run, status="FINISHED", end_time=T0 + 7)
    made = api.post("run of a tag's name", "runs/create", experiment_id=experiment, start_time=T0 - 10, user_id="ada",
                    tags=tags(mlflow__runName="by tag"))  # fmt: skip
    api.answers.pop("run of a tag's name")
    two = api.known_as(made["run"]["info"]["run_id"], "by tag")
    api.get("run of a tag's name", "runs/get", run_id=two)
    api.post("run of two names", "runs/create", experiment_id=experiment, run_name="a", tags=tags(mlflow__runName="b"))
    api.post("run nowhere", "runs/create", experiment_id="987654")
    return run


def numbers(api: Api, run: str) -> None:
    api.post("metric", "runs/log-metric", run_id=run, key="loss", value=0.5, timestamp=T0, step=1)
    api.post("metric of old name", "runs/log-metric", run_uuid=run, key="loss", value=0.25, timestamp=T0, step=2)
    api.post("metric without step", "runs/log-metric", run_id=run, key="plain", value=1, timestamp=T0)
    api.post("metric as text", "runs/log-metric", run_id=run, key="text", value="1.5", timestamp=str(T0), step="3")
    for value in ("NaN", "Infinity", "-Infinity"):
        api.post(f"metric {value}", "runs/log-metric", run_id=run, key=f"is{value}", value=value, timestamp=T0, step=0)
    for at in (-5, 2**53, "12"):
        api.post(f"metric step {at}", "runs/log-metric", run_id=run, key=f"s{at}", value=1, timestamp=T0, step=at)
    api.post("batch", "runs/log-batch", run_id=run, metrics=[metric("acc", i / 10, i) for i in range(10)],
             params=tags(depth="3", model="forest"), tags=tags(t="u"))  # fmt: skip
    api.post("batch of nothing", "runs/log-batch", run_id=run)
    api.post("batch of the same", "runs/log-batch", run_id=run, metrics=[metric("acc", 0.9, 9)] * 3, params=tags(depth="3"))
    api.post("batch param conflict", "runs/log-batch", run_id=run, params=tags(depth="4", other="x"))
    api.post("batch of NaN", "runs/log-batch", run_id=run, metrics=[metric("mixed", "NaN", 1), metric("mixed", 1.0, 1)])
    api.post("batch same step", "runs/log-batch", run_id=run, metrics=[metric("tie", 2.0, 1, T0), metric("tie", 1.0, 1, T0 + 1),
             metric("tie", 5.0, 0, T0 + 9), metric("tie", 3.0, 1, T0 + 1)])  # fmt: skip
    api.get("run with numbers", "runs/get", run_id=run)
    api.get("history", "metrics/get-history", run_id=run, metric_key="acc")
    page = api.get("history page", "metrics/get-history", run_id=run, metric_key="acc", max_results=4)
    api.get("history next page", "metrics/get-history", run_id=run, metric_key="acc", max_results=4,
            page_token=page["next_page_token"])  # fmt: skip
    api.get("history of ties", "metrics/get-history", run_id=run, metric_key="tie")
    api.get("history of nothing", "metrics/get-history", run_id=run, metric_key="never")
    api.get("history of text", "metrics/get-history", run_id=run, metric_key="text")
    for count in (0, -1, "x"):
        api.get(f"history of {count}", "metrics/get-history", run_id=run, metric_key="acc", max_results=count)
    api.get("history without key", "metrics/get-history", run_id=run)
    api.get("history of no run", "metrics/get-history", run_id="f" * 32, metric_key="acc")
    ajax = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
    api.get("bulk", ajax, run_id=run, metric_key="acc")
    api.get("bulk of three", ajax, run_id=run, metric_key="acc", max_results=3)
    api.get("bulk without run", ajax, metric_key="acc")
    api.get("bulk without key", ajax, run_id=run)
    api.get("interval", ajax + "-interval", run_ids=run, metric_key="acc", start_step=2, end_step=5)
    api.get("interval of all", ajax + "-interval", run_ids=run, metric_key="acc")
    for count in (1, 2, 3, 4, 7, 9, 10):
        api.get(f"interval of {count} points", ajax + "-interval", run_ids=run, metric_key="acc", max_results=count)
    api.get("interval half", ajax + "-interval", run_ids=run, metric_key="acc", start_step=2)
    api.get("interval backwards", ajax + "-interval", run_ids=run, metric_key="acc", start_step=5, end_step=2)
    api.get("interval of too many", ajax + "-interval", run_ids=run, metric_key="acc", max_results=2501)
    api.get("interval of none", ajax + "-interval", run_ids=run, metric_key="acc", max_results=0)
    api.get("interval of 101 runs", ajax + "-interval", run_ids=[run] * 101, metric_key="acc")
    api.get("interval without key", ajax + "-interval", run_ids=run)


def oddities(api: Api, run: str) -> None:
    """Numbers that are none, on a run that nothing else looks at."""
    for value in ("nan", "inf", "1,5", "x", "", None, True, 1e400, [1]):
        content = json.dumps({"run_id": run, "key": "odd", "value": value, "timestamp": T0})
        api.send(f"metric odd {value!r}", "POST", "runs/log-metric", content=content.replace("Infinity", "1e400"),
                 headers={"content-type": "application/json"})  # fmt: skip
    for name, at in (("negative time", -1), ("fraction of time", 1.5), ("no time", None), ("text time", "x")):
        api.post(f"metric {name}", "runs/log-metric", run_id=run, key="t", value=1, timestamp=at)
    for step in (1.5, 2**63, "x"):
        api.post(f"metric step {step}", "runs/log-metric", run_id=run, key=f"s{step}", value=1, timestamp=T0, step=step)


FILTERS = (
    "metrics.acc > 0.5", "metrics.acc = 0.3", "metrics.acc != 0.3", "metrics.acc <= 1", "metric.acc >= 0", "metrics.acc < -1",
    "metrics.`val acc` > 0", 'metrics."val acc" > 0', "params.model = 'forest'", "params.model != 'forest'",
    "params.model LIKE 'for%'", "params.model LIKE 'FOR%'", "params.model ILIKE 'FOR%'", "param.lr = '0.1'",
    "parameters.lr = '0.1'", "tags.t = 'u'", "tags.t != 'v'", "tag.t LIKE '_'", "tags.`mlflow.user` = 'ada'",
    "tags.mlflow.user = 'ada'", "attributes.status = 'RUNNING'", "attribute.status != 'FINISHED'", "attr.status = 'running'",
    "status IN ('RUNNING', 'FINISHED')", "attributes.run_id IN ('x')", "attributes.run_id NOT IN ('x')",
    "run_name = 'r1'", "attributes.run_name LIKE 'r%'", "run_name ILIKE 'R_'", "attributes.`Run name` = 'r2'",
    "start_time > 1700000000000", "attributes.start_time <= 1700000000001", "end_time > 0", "attributes.end_time < 5",
    "start_time BETWEEN 0 AND 5", "attributes.artifact_uri LIKE 'mlflow-artifacts%'", "user_id = 'ada'",
    "metrics.acc > 0.1 and params.model = 'forest' AND tags.t = 'u'", "params.model = 'forest' and params.model = 'tree'",
    "datasets.name = 'flights'", "dataset.digest = 'd1'", "datasets.context = 'train'", "datasets.name LIKE 'fl%'",
    "params.model IS NULL", "params.model IS NOT NULL", "tags.t is null", "metrics.acc IS NOT NULL", "run_name IS NOT NULL",
    "params.model = 'it''s'", "params.model = \"forest\"", "metrics.acc > 1e-1", "metrics.acc > -.5",
    "tags.t IN ('u')", "params.model IN ('forest', 'tree')",
    # What cannot be read
    "metrics.acc", "metrics.acc > 'x'", "metrics.acc LIKE '1'", "params.model > 'a'", "params.model = 3", "tags.t = 5",
    "acc > 0.5", "foo.acc > 0.5", "metrics.acc > 0.5 OR metrics.acc < 0.1", "metrics.acc > 0.5,", "params.model = forest",
    "(metrics.acc > 0.5)", "status > 'A'", "start_time = 'x'", "start_time LIKE '1'", "attributes.nothing = 'x'",
    "metrics.acc >> 1", "= 1", "'a' = params.model", "metrics.acc = NaN", "datasets.nothing = 'x'", "run_id LIKE 'x%'",
    "metrics. > 1", "params.'model' = 'x'", "params.model = 'x' and", "and", "metrics.acc > 0.5 metrics.acc < 1", "1 = 1",
    "status IN ()", "status IN 'RUNNING'", "metrics.acc IN (1)", "metrics.acc BETWEEN 0 AND 1",
)  # fmt: skip
ORDERS = (
    ["metrics.acc"], ["metrics.acc DESC"], ["metric.acc asc", "attributes.run_name DESC"], ["params.model"], ["params.model DESC"],
    ["tags.t DESC"], ["start_time"], ["start_time DESC"], ["attributes.start_time ASC"], ["end_time"], ["end_time DESC"],
    ["run_name"], ["status"], ["attribute.status DESC", "start_time ASC"], ["metrics.`val acc` DESC"],
    ["attributes.`Created` DESC"], ["user_id"],
)  # fmt: skip
BAD_ORDERS = (
    ["acc"], ["metrics.acc sideways"], ["foo.acc"], ["metrics.acc ASC DESC"], ["attributes.nothing"], ["metrics."], [","],
    ["datasets.name"], "metrics.acc", [1],
)  # fmt: skip


def searches(api: Api, other: str) -> None:
    where = begin(api, "searched")
    for i, (acc, model, t) in enumerate(
        ((0.3, "forest", "u"), (0.9, "tree", "v"), ("NaN", "forest", "w"), (None, "it's", "u"), ("Infinity", "net", "x"))
    ):
        run = start(api, where, f"r{i}", T0 + i, tags=tags(t=t, mlflow__user="ada"))
        found = [] if acc is None else [metric("acc", acc, 1), metric("val acc", i, 1)]
        sent = {"run_id": run, "metrics": found, "params": tags(model=model, **({"lr": "0.1"} if i else {}))}
        api.http.post("/api/2.0/mlflow/runs/log-batch", json=sent).raise_for_status()
        if i % 2:
            end = {"run_id": run, "status": "FINISHED", "end_time": T0 + 10 - i}
            api.http.post("/api/2.0/mlflow/runs/update", json=end).raise_for_status()
        if i == 2:
            sent = {"run_id": run, "datasets": [dataset("flights", "d1", "train")]}
            api.http.post("/api/2.0/mlflow/runs/log-inputs", json=sent).raise_for_status()
    for filter in FILTERS:
        api.post(f"runs where {filter}", "runs/search", experiment_ids=[where], filter=filter, order_by=["start_time ASC"])
    for order in (*ORDERS, *BAD_ORDERS):
        api.post(f"runs by {order}", "runs/search", experiment_ids=[where], order_by=order)
    api.post("runs as they come", "runs/search", experiment_ids=[where])
    token, pages = "", 0
    while token or not pages:
        pages += 1
        page = api.post(f"runs page {pages}", "runs/search", experiment_ids=[where], max_results=2, page_token=token,
                        order_by=["metrics.acc DESC"])  # fmt: skip
        token = page.get("next_page_token", "")
    for count in (0, -1, 50_001, "x", 1.5):
        api.post(f"runs {count}", "runs/search", experiment_ids=[where], max_results=count)
    api.post("runs bad token", "runs/search", experiment_ids=[where], page_token="???")
    api.post("runs of two", "runs/search", experiment_ids=[where, other], order_by=["start_time ASC", "run_name"])
    api.post("runs of no experiment", "runs/search", experiment_ids=["987654"])
    api.post("runs of none", "runs/search", experiment_ids=[])
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL", 1, "NONE"):
        api.post(f"runs {view}", "runs/search", experiment_ids=[where], run_view_type=view, filter="run_name = 'r1'")


def dataset(name: str, digest: str, context: str = "") -> dict[str, Any]:
    found = {"name": name, "digest": digest, "source_type": "local", "source": "s", "schema": "{}", "profile": "{}"}
    return {"dataset": found, "tags": tags(mlflow__data__context=context) if context else []}


def inputs(api: Api, experiment: str) -> None:
    run = start(api, experiment, "reads")
    api.post("inputs", "runs/log-inputs", run_id=run, datasets=[dataset("a", "1", "train"), dataset("b", "2")])
    api.post("inputs again", "runs/log-inputs", run_id=run, datasets=[dataset("a", "1", "train")])
    api.get("run with inputs", "runs/get", run_id=run)
    api.post("datasets of experiments", "/ajax-api/2.0/mlflow/experiments/search-datasets", experiment_ids=[experiment])
    api.post("datasets of none", "/ajax-api/2.0/mlflow/experiments/search-datasets", experiment_ids=[])
    api.post("datasets of 21", "/ajax-api/2.0/mlflow/experiments/search-datasets", experiment_ids=[experiment] * 21)
    api.post("input without dataset", "runs/log-inputs", run_id=run, datasets=[{"tags": []}])
    api.post("input without digest", "runs/log-inputs", run_id=run, datasets=[{"dataset": {"name": "x"}}])
    api.post("input without name", "runs/log-inputs", run_id=run, datasets=[{"dataset": {"digest": "x"}}])
    api.post("input name too long", "runs/log-inputs", run_id=run, datasets=[dataset("n" * 501, "1")])
    api.post("input digest too long", "runs/log-inputs", run_id=run, datasets=[dataset("n", "1" * 37)])
    api.post("input tag too long", "runs/log-inputs", run_id=run, datasets=[dataset("n", "1", "c" * 501)])
    api.post("inputs of no run", "runs/log-inputs", run_id="f" * 32, datasets=[dataset("a", "1")])
    api.post("inputs of nothing", "runs/log-inputs", run_id=run)


def models(api: Api, experiment: str) -> None:
    run = start(api, experiment, "models")
    made = api.http.post("/api/2.0/mlflow/logged-models", json={
        "experiment_id": experiment, "name": "lm", "model_type": "net", "source_run_id": run, "params": tags(p="1"),
        "tags": tags(t="1")}).json()  # fmt: skip
    model = api.known_as(made["model"]["info"]["model_id"], "lm")
    api.get("model", f"logged-models/{model}")
    api.patch("model tags", f"logged-models/{model}/tags", tags=tags(t="2", u="3"))
    api.delete("model tag removed", f"logged-models/{model}/tags/u")
    api.delete("model tag removed twice", f"logged-models/{model}/tags/u")
    api.post("model params", f"logged-models/{model}/params", model_id=model, params=tags(q="2"))
    api.post("model params again", f"logged-models/{model}/params", model_id=model, params=tags(q="2"))
    api.post("model param changed", f"logged-models/{model}/params", model_id=model, params=tags(q="3"))
    api.patch("model ready", f"logged-models/{model}", model_id=model, status="LOGGED_MODEL_READY")
    api.post("model metric", "runs/log-batch", run_id=run, metrics=[
        metric("acc", 0.5, 1, model_id=model, dataset_name="d", dataset_digest="1"), metric("acc", 0.7, 2, model_id=model)])  # fmt: skip
    api.get("model after all", f"logged-models/{model}")
    api.post("model outputs", "runs/outputs", run_id=run, models=[{"model_id": model, "step": 3}])
    api.post("model inputs", "runs/log-inputs", run_id=run, models=[{"model_id": model}])
    api.get("run with models", "runs/get", run_id=run)
    api.get("no model", "logged-models/m-" + "f" * 32)
    api.post("model of bad name", "logged-models", experiment_id=experiment, name="a/b")
    api.post("model of no experiment", "logged-models", experiment_id="987654", name="x")
    api.post("model without experiment", "logged-models", name="x")
    for filter in ("name = 'lm'", "name != 'lm'", "params.p = '1'", "tags.t = '2'", "metrics.acc > 0.6", "metrics.acc > 0.9",
                   "model_type = 'net'", "nothing = 'x'", "creation_timestamp > 0", "name LIKE 'l%'", "status = 'READY'"):  # fmt: skip
        api.post(f"models where {filter}", "logged-models/search", experiment_ids=[experiment], filter=filter)
    for order in ("name", "creation_timestamp", "metrics.acc"):
        api.post(f"models by {order}", "logged-models/search", experiment_ids=[experiment], order_by=[{"field_name": order}])
    api.post("models of none", "logged-models/search", experiment_ids=[])
    for count in (0, -1, 51, "x"):
        api.post(f"models {count}", "logged-models/search", experiment_ids=[experiment], max_results=count)
    api.patch("model of no status", f"logged-models/{model}", model_id=model, status="GREAT")
    api.delete("model removed", f"logged-models/{model}")
    api.get("model after its end", f"logged-models/{model}")
    api.delete("model removed twice", f"logged-models/{model}")


def endings(api: Api, experiment: str, run: str) -> None:
    api.post("run deleted", "runs/delete", run_id=run)
    api.post("run deleted twice", "runs/delete", run_id=run)
    api.get("run deleted, read", "runs/get", run_id=run)
    api.post("run deleted, metric", "runs/log-metric", run_id=run, key="a", value=1, timestamp=T0)
    api.post("run deleted, param", "runs/log-parameter", run_id=run, key="z", value="1")
    api.post("run deleted, tag", "runs/set-tag", run_id=run, key="z", value="1")
    api.post("run deleted, tag removed", "runs/delete-tag", run_id=run, key="k")
    api.post("run deleted, batch", "runs/log-batch", run_id=run, tags=tags(z="1"))
    api.post("run deleted, update", "runs/update", run_id=run, status="FAILED")
    api.post("run deleted, inputs", "runs/log-inputs", run_id=run, datasets=[dataset("a", "1")])
    api.post("run restored", "runs/restore", run_id=run)
    api.post("run restored twice", "runs/restore", run_id=run)
    api.post("experiment deleted", "experiments/delete", experiment_id=experiment)
    api.post("experiment deleted twice", "experiments/delete", experiment_id=experiment)
    api.get("experiment deleted, read", "experiments/get", experiment_id=experiment)
    api.get("experiment deleted, by name", "experiments/get-by-name", experiment_name="FIRST")
    api.post("experiment deleted, again", "experiments/create", name="FIRST")
    api.post("experiment deleted, run", "runs/create", experiment_id=experiment)
    api.post("experiment deleted, rename", "experiments/update", experiment_id=experiment, new_name="x")
    api.post("experiment deleted, tag", "experiments/set-experiment-tag", experiment_id=experiment, key="a", value="b")
    api.get("experiment deleted, its run", "runs/get", run_id=run)
    api.post("experiments deleted", "experiments/search", view_type="DELETED_ONLY", max_results=10)
    api.post("experiment restored", "experiments/restore", experiment_id=experiment)
    api.post("experiment restored twice", "experiments/restore", experiment_id=experiment)
    api.get("experiment restored, its run", "runs/get", run_id=run)
