"""MLflow's tracking protocol, so that the unmodified MLflow client works: a translation with no rules of its own.

Each route reads MLflow's JSON into a struct, calls the service, and writes MLflow's JSON. Files are in mlflow_files.py, the
server itself in mlflow_server.py, what is refused in unserved.py. Source of the shapes: mlflow/protos/service.proto of MLflow 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

import anyio.to_thread
import msgspec
from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct, field, structs

from noria.http.route import Asked, Routes, delete, get, patch, post
from noria.kernel.errors import Invalid
from noria.kernel.filters import OrderBy, parse_order
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit
from noria.tracking.files import knock
from noria.tracking.model import (
    MODEL_STATUSES,
    STATUSES,
    Artifact,
    DatasetInput,
    Experiment,
    LoggedModel,
    ModelUse,
    Point,
    Run,
)
from noria.tracking.rules import wire_value
from noria.tracking.service import Tracking

BODIES = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")
RESULTS_MAX = 50_000  # MLflow's limit of one page
RUNS_PER_PAGE = 1_000  # MLflow's default
POINTS_PER_PAGE = 25_000
BULK_RUNS_MAX = 100
DATASET_EXPERIMENTS_MAX = 20  # MLflow's limit
CONTEXT_TAG = "mlflow.data.context"
WORKSPACE = "default"  # a Noria server is one workspace; the door refuses requests for another
BULK_POINTS_MAX = 25_000  # of all runs together, in the older address
INTERVAL_POINTS_MAX = 2_500  # of each run
LOGGED = ("artifact_path", "flavors", "utc_time_created", "run_id")  # what the JSON of a logged model must say
VIEWS = {"ACTIVE_ONLY": ["active"], "DELETED_ONLY": ["deleted"], "ALL": ["active", "deleted"]}

B = TypeVar("B", bound=Struct)
Number = float | str | None
Whole = int | str | None
Word = int | str | None


# --- what is asked ------------------------------------------------------------------------------------------------------


class Pair(Struct):
    key: str | None = None
    value: str | None = None


class MetricIn(Struct):
    key: str | None = None
    value: Number = None
    timestamp: Whole = None
    step: Whole = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogMetric(MetricIn):
    run_id: str | None = None
    run_uuid: str | None = None


class LogBatch(Struct):
    run_id: str | None = None
    metrics: list[MetricIn] | None = None
    params: list[Pair] | None = None
    tags: list[Pair] | None = None


class WirePoint(Point, frozen=True, kw_only=True):
    """A point as the Python client writes all of them but those with NaN or infinity."""

    at_ms: int = field(name="timestamp")


class PlainBatch(Struct):
    """A batch that needs no translation; tried first."""

    run_id: str
    metrics: list[WirePoint] = []
    params: list[Pair] | None = None
    tags: list[Pair] | None = None


class LogPair(Pair):
    run_id: str | None = None
    run_uuid: str | None = None


class OfRun(Struct):
    run_id: str | None = None
    run_uuid: str | None = None


class OfExperiment(Struct):
    experiment_id: str | None = None
    experiment_name: str | None = None


class CreateExperiment(Struct):
    name: str | None = None
    artifact_location: str | None = None
    tags: list[Pair] | None = None


class UpdateExperiment(Struct):
    experiment_id: str | None = None
    new_name: str | None = None


class ExperimentPair(Pair):
    experiment_id: str | None = None


class Search(Struct):
    filter: str | None = None
    max_results: Whole = None
    page_token: str | None = None
    order_by: list[str] | None = None
    view_type: Word = None
    run_view_type: Word = None
    experiment_ids: list[str] | None = None


class CreateRun(Struct):
    experiment_id: str | None = None
    user_id: str | None = None
    run_name: str | None = None
    start_time: Whole = None
    tags: list[Pair] | None = None


class UpdateRun(OfRun):
    status: Word = None
    end_time: Whole = None
    run_name: str | None = None


class History(OfRun):
    metric_key: str | None = None
    page_token: str | None = None
    max_results: Whole = None


class BulkHistory(Struct):
    run_id: list[str] | None = None
    run_ids: list[str] | None = None
    metric_key: str | None = None
    max_results: Whole = None
    start_step: Whole = None
    end_step: Whole = None


class DatasetIn(Struct):
    name: str | None = None
    digest: str | None = None
    source_type: str | None = None
    source: str | None = None
    schema: str | None = None
    profile: str | None = None


class InputIn(Struct):
    dataset: DatasetIn | None = None
    tags: list[Pair] | None = None


class ModelIn(Struct):
    model_id: str | None = None
    step: Whole = None


class LogInputs(Struct):
    run_id: str | None = None
    datasets: list[InputIn] | None = None
    models: list[ModelIn] | None = None


class LogModel(Struct):
    run_id: str | None = None
    model_json: str | None = None


class CreateModel(Struct):
    experiment_id: str | None = None
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: list[Pair] | None = None
    tags: list[Pair] | None = None


class OfModel(Struct):
    model_id: str | None = None
    status: Word = None
    tag_key: str | None = None
    allow_deleted: bool = False
    params: list[Pair] | None = None
    tags: list[Pair] | None = None
    artifact_directory_path: str | None = None


class ModelOrder(Struct):
    field_name: str
    ascending: bool = True


class SearchModels(Struct):
    experiment_ids: list[str] | None = None
    filter: str | None = None
    max_results: Whole = None
    order_by: list[ModelOrder] | None = None
    page_token: str | None = None


# --- the routes ---------------------------------------------------------------------------------------------------------


def routes(tracking: Tracking) -> Routes:
    return [*_experiments(tracking), *_runs(tracking), *_numbers(tracking), *_models(tracking)]


def _experiments(tracking: Tracking) -> list[HTTPRouteHandler]:
    def create(op: Op, body: CreateExperiment) -> Any:
        if (body.artifact_location or "").rstrip("/") not in ("", "mlflow-artifacts:"):
            raise Invalid(
                "Noria keeps artifacts in its own store.", where="artifact_location",
                hint="Leave artifact_location out; the server's blobs setting says where bytes live.",
            )  # fmt: skip
        return {"experiment_id": tracking.create_experiment(op, needed(body.name, "name"), pairs(body.tags)).id}

    def read(op: Op, body: OfExperiment) -> Any:
        return {"experiment": experiment_out(tracking.experiment(op, needed(body.experiment_id, "experiment_id")))}

    def read_by_name(op: Op, body: OfExperiment) -> Any:
        found = tracking.experiment_by_name(op, needed(body.experiment_name, "experiment_name"))
        return {"experiment": experiment_out(found)}

    def search(op: Op, body: Search) -> Any:
        found = tracking.experiments(
            op, filter=body.filter or "", order_by=body.order_by, stages=view(body.view_type),
            limit=limit(body.max_results, RUNS_PER_PAGE), page=body.page_token or None,
        )  # fmt: skip
        return paged("experiments", found, experiment_out)

    def update(op: Op, body: UpdateExperiment) -> Any:
        experiment_id = needed(body.experiment_id, "experiment_id")
        tracking.rename_experiment(op, experiment_id, needed(body.new_name, "new_name"))
        return {}

    def remove(op: Op, body: OfExperiment) -> Any:
        tracking.delete_experiment(op, needed(body.experiment_id, "experiment_id"))
        return {}

    def restore(op: Op, body: OfExperiment) -> Any:
        tracking.restore_experiment(op, needed(body.experiment_id, "experiment_id"))
        return {}

    def set_tag(op: Op, body: ExperimentPair) -> Any:
        tags = {needed(body.key, "key"): body.value or ""}
        tracking.set_experiment_tags(op, needed(body.experiment_id, "experiment_id"), tags)
        return {}

    def delete_tag(op: Op, body: ExperimentPair) -> Any:
        tracking.delete_experiment_tag(op, needed(body.experiment_id, "experiment_id"), needed(body.key, "key"))
        return {}

    def datasets(op: Op, body: Search) -> Any:
        ids = body.experiment_ids or []
        if not ids or len(ids) > DATASET_EXPERIMENTS_MAX:
            raise Invalid(f"Name 1 to {DATASET_EXPERIMENTS_MAX} experiments.", where="experiment_ids")
        found = [
            {"experiment_id": owner, "name": d.name, "digest": d.digest}
            | ({"context": d.tags[CONTEXT_TAG]} if d.tags.get(CONTEXT_TAG) else {})
            for owner, d in tracking.dataset_summaries(op, ids)
        ]
        return {"dataset_summaries": found}

    return [
        rpc(post, "/experiments/search-datasets", "run.read", Search, datasets, prefixes=BODIES[1:]),
        rpc(post, "/experiments/create", "experiment.create", CreateExperiment, create),
        rpc(get, "/experiments/get", "experiment.read", OfExperiment, read),
        rpc(get, "/experiments/get-by-name", "experiment.read", OfExperiment, read_by_name),
        rpc(post, "/experiments/search", "experiment.read", Search, search),
        rpc(get, "/experiments/search", "experiment.read", Search, search),
        rpc(post, "/experiments/update", "experiment.update", UpdateExperiment, update),
        rpc(post, "/experiments/delete", "experiment.delete", OfExperiment, remove),
        rpc(post, "/experiments/restore", "experiment.delete", OfExperiment, restore),
        rpc(post, "/experiments/set-experiment-tag", "experiment.update", ExperimentPair, set_tag),
        rpc(post, "/experiments/delete-experiment-tag", "experiment.update", ExperimentPair, delete_tag),
    ]


def _runs(tracking: Tracking) -> list[HTTPRouteHandler]:
    def create(op: Op, body: CreateRun) -> Any:
        run = tracking.create_run(
            op, body.experiment_id or "0", body.run_name or "", pairs(body.tags), user=body.user_id or "",
            started_at_ms=None if body.start_time is None else whole(body.start_time, "start_time"),
        )  # fmt: skip
        return {"run": run_out(run)}

    def read(op: Op, body: OfRun) -> Any:
        return {"run": run_out(tracking.run(op, run_id(body)))}

    def update(op: Op, body: UpdateRun) -> Any:
        run = tracking.update_run(
            op, run_id(body), name=body.run_name or None,
            status=None if body.status is None else word(body.status, ("", *STATUSES), "status"),
            ended_at_ms=None if body.end_time is None else whole(body.end_time, "end_time"),
        )  # fmt: skip
        return {"run_info": info_out(run)}

    def remove(op: Op, body: OfRun) -> Any:
        tracking.delete_run(op, run_id(body))
        return {}

    def restore(op: Op, body: OfRun) -> Any:
        tracking.restore_run(op, run_id(body))
        return {}

    def search(op: Op, body: Search) -> Any:
        found = tracking.search_runs(
            op, experiments=body.experiment_ids or [], filter=body.filter or "", order_by=body.order_by,
            stages=view(body.run_view_type), limit=limit(body.max_results, RUNS_PER_PAGE), page=body.page_token or None,
        )  # fmt: skip
        return paged("runs", found, run_out)

    def log_param(op: Op, body: LogPair) -> Any:
        tracking.log_batch(op, run_id(body), params={needed(body.key, "key"): body.value or ""})
        return {}

    def set_tag(op: Op, body: LogPair) -> Any:
        tracking.set_tag(op, run_id(body), needed(body.key, "key"), body.value or "")
        return {}

    def delete_tag(op: Op, body: LogPair) -> Any:
        tracking.delete_tag(op, run_id(body), needed(body.key, "key"))
        return {}

    def log_inputs(op: Op, body: LogInputs) -> Any:
        models = [ModelUse(model_id=needed(m.model_id, "model_id"), direction="input") for m in body.models or []]
        tracking.log_inputs(op, needed(body.run_id, "run_id"), [input_in(d) for d in body.datasets or []], models)
        return {}

    def log_outputs(op: Op, body: LogInputs) -> Any:
        models = [
            ModelUse(model_id=needed(m.model_id, "model_id"), direction="output", step=whole(m.step or 0, "step"))
            for m in body.models or []
        ]
        tracking.log_inputs(op, needed(body.run_id, "run_id"), [], models)
        return {}

    def log_model(op: Op, body: LogModel) -> Any:
        run, model = needed(body.run_id, "run_id"), needed(body.model_json, "model_json")
        check_logged(model)
        tracking.add_model_history(op, run, model)
        return {}

    return [
        rpc(post, "/runs/create", "run.create", CreateRun, create),
        rpc(get, "/runs/get", "run.read", OfRun, read),
        rpc(post, "/runs/update", "run.log", UpdateRun, update),
        rpc(post, "/runs/delete", "run.delete", OfRun, remove),
        rpc(post, "/runs/restore", "run.delete", OfRun, restore),
        rpc(post, "/runs/search", "run.read", Search, search),
        rpc(post, "/runs/log-parameter", "run.log", LogPair, log_param),
        rpc(post, "/runs/set-tag", "run.log", LogPair, set_tag),
        rpc(post, "/runs/delete-tag", "run.log", LogPair, delete_tag),
        rpc(post, "/runs/log-inputs", "run.log", LogInputs, log_inputs),
        rpc(post, "/runs/outputs", "run.log", LogInputs, log_outputs),
        rpc(post, "/runs/log-model", "run.log", LogModel, log_model),
    ]


def _numbers(tracking: Tracking) -> list[HTTPRouteHandler]:
    def log_metric(op: Op, body: LogMetric) -> Any:
        tracking.log_batch(op, run_id(body), [point_in(body, "")])
        return {}

    def log_batch(op: Op, body: LogBatch | PlainBatch) -> Any:
        if isinstance(body, PlainBatch):
            points: list[Any] = body.metrics
        else:
            points = [point_in(m, f"metrics[{i}].") for i, m in enumerate(body.metrics or ())]
        tracking.log_batch(op, needed(body.run_id, "run_id"), points, params_in(body.params), pairs(body.tags))
        return {}

    def history(op: Op, body: History) -> Any:
        key, size = needed(body.metric_key, "metric_key"), body.max_results
        if size is None and not body.page_token:  # without a page size MLflow gives all there is
            pages, token = list[Page[Point]](), None
            while not pages or token:
                page = tracking.history(op, run_id(body), key, limit=POINTS_PER_PAGE, page=token)
                pages.append(page)
                token = page.next
            return {"metrics": [metric_out(p) for page in pages for p in page.items]}
        found = tracking.history(op, run_id(body), key, limit=limit(size, POINTS_PER_PAGE), page=body.page_token or None)
        return paged("metrics", found, metric_out)

    def bulk(op: Op, body: BulkHistory) -> Any:
        most = min(limit(body.max_results, BULK_POINTS_MAX), BULK_POINTS_MAX)
        return histories(op, body, None, None, BULK_POINTS_MAX, most)

    def interval(op: Op, body: BulkHistory) -> Any:
        if (body.start_step is None) != (body.end_step is None):
            raise Invalid("If either start step or end step are specified, both must be specified.", where="start_step")
        start = None if body.start_step is None else whole(body.start_step, "start_step")
        end = None if body.end_step is None else whole(body.end_step, "end_step")
        if start is not None and end is not None and start > end:
            raise Invalid(f"end_step must be greater than start_step, not {end} after {start}.", where="end_step")
        most = limit(body.max_results, INTERVAL_POINTS_MAX, most=INTERVAL_POINTS_MAX)
        return histories(op, body, start, end, most, None)

    def histories(op: Op, body: BulkHistory, start: int | None, end: int | None, each: int, most: int | None) -> Any:
        ids = body.run_ids or body.run_id or []
        if not ids or len(ids) > BULK_RUNS_MAX:
            raise Invalid(f"Name 1 to {BULK_RUNS_MAX} runs.", where="run_ids")
        found = tracking.histories(op, ids, needed(body.metric_key, "metric_key"), start=start, end=end, limit=each)
        return {"metrics": [metric_out(point, owner) for owner, point in found[:most]]}

    return [
        rpc(post, "/runs/log-metric", "run.log", LogMetric, log_metric),
        rpc(post, "/runs/log-batch", "run.log", LogBatch, log_batch, plain=PlainBatch),
        rpc(get, "/metrics/get-history", "run.read", History, history),
        rpc(get, "/metrics/get-history-bulk", "run.read", BulkHistory, bulk),
        rpc(get, "/metrics/get-history-bulk-interval", "run.read", BulkHistory, interval),
    ]


def _models(tracking: Tracking) -> list[HTTPRouteHandler]:
    def create(op: Op, body: CreateModel) -> Any:
        made = tracking.models.create(
            op, needed(body.experiment_id, "experiment_id"), name=body.name or "", run_id=body.source_run_id or "",
            model_type=body.model_type or "", tags=pairs(body.tags), params=pairs(body.params),
        )  # fmt: skip
        return {"model": model_out(made)}

    def read(op: Op, body: OfModel) -> Any:
        return {
            "model": model_out(tracking.models.get(op, needed(body.model_id, "model_id"), allow_deleted=body.allow_deleted))
        }

    def finalize(op: Op, body: OfModel) -> Any:
        status = word(needed(body.status, "status"), ("", *MODEL_STATUSES), "status")
        return {"model": model_out(tracking.models.finalize(op, needed(body.model_id, "model_id"), status))}

    def remove(op: Op, body: OfModel) -> Any:
        tracking.models.delete(op, needed(body.model_id, "model_id"))
        return {}

    def search(op: Op, body: SearchModels) -> Any:
        orders = [structs.replace(_order(o.field_name), ascending=o.ascending) for o in body.order_by or []]
        found = tracking.models.search(
            op, body.experiment_ids or [], filter=body.filter or "", order_by=orders, limit=limit(body.max_results, 100),
            page=body.page_token or None,
        )  # fmt: skip
        return paged("models", found, model_out)

    def set_tags(op: Op, body: OfModel) -> Any:
        tracking.models.set_tags(op, needed(body.model_id, "model_id"), pairs(body.tags))
        return {}

    def delete_tag(op: Op, body: OfModel) -> Any:
        tracking.models.delete_tag(op, needed(body.model_id, "model_id"), needed(body.tag_key, "tag_key"))
        return {}

    def log_params(op: Op, body: OfModel) -> Any:
        tracking.models.log_params(op, needed(body.model_id, "model_id"), pairs(body.params))
        return {}

    def list_files(op: Op, body: OfModel) -> Any:
        found = tracking.models.get(op, needed(body.model_id, "model_id"))
        files = tracking.artifacts(op, found.id, body.artifact_directory_path or "")
        return {"root_uri": found.artifact_uri, "files": files_out(files)}

    one = "/logged-models/{model_id:str}"
    return [
        rpc(post, "/logged-models", "run.log", CreateModel, create),
        rpc(post, "/logged-models/search", "run.read", SearchModels, search),
        rpc(get, one, "run.read", OfModel, read),
        rpc(patch, one, "run.log", OfModel, finalize),
        rpc(delete, one, "run.delete", OfModel, remove),
        rpc(patch, one + "/tags", "run.log", OfModel, set_tags),
        rpc(delete, one + "/tags/{tag_key:str}", "run.log", OfModel, delete_tag),
        rpc(post, one + "/params", "run.log", OfModel, log_params),
        rpc(get, one + "/artifacts/directories", "run.read", OfModel, list_files),
    ]


def rpc(
    verb: Callable[..., Any], path: str, action: str, body: type[B], do: Callable[[Op, Any], Any],
    prefixes: tuple[str, ...] = BODIES, plain: type[Struct] | None = None,
) -> HTTPRouteHandler:  # fmt: skip
    """One route: the query (GET) or body, with the parts of the path, as `body`; then `do`; then its answer as JSON."""
    decoder = msgspec.json.Decoder(body, strict=False)
    quick = None if plain is None else msgspec.json.Decoder(plain)

    def read(raw: bytes) -> Any:
        if quick is not None:
            try:
                return quick.decode(raw)
            except (msgspec.DecodeError, RecursionError):
                pass  # numbers as words, or something to be refused with its reason
        return decoder.decode(raw or b"{}")

    has_flag = "allow_deleted" in body.__struct_fields__
    lists = frozenset(f.name for f in structs.fields(body) if "list[" in str(f.type))

    def answer(op: Op, sent: Asked) -> bytes:
        knock(op, action)
        asked: Any = _query(sent, body, lists) if verb is get else read(sent.body)
        for name, value in sent.parts.items():
            setattr(asked, name, value)
        for name, value in sent.query if has_flag else ():
            if name == "allow_deleted":
                asked.allow_deleted = value.lower() == "true"
        return msgspec.json.encode(do(op, asked))

    async def handle(op: Op, request: Request[Any, Any, Any]) -> Response[bytes]:
        query = list(request.query_params.multi_items())
        sent = Asked(b"" if verb is get else await request.body(), query, dict(request.path_params))
        content = await anyio.to_thread.run_sync(answer, op, sent)
        return Response(content, media_type="application/json", status_code=200)

    name = re.sub(r"\W+", "_", f"mlflow{path}_{verb.__name__}").strip("_")
    handle.__name__ = name
    declared: HTTPRouteHandler = verb(
        [prefix + path for prefix in prefixes], action=action, include_in_schema=False, operation_id=name, status_code=200,
        opt={"quick": answer, "body": body},
    )(handle)  # fmt: skip
    return declared


def _query(sent: Asked, body: type[B], lists: frozenset[str]) -> B:
    found: dict[str, Any] = {}
    for name, value in sent.query:
        if name in lists:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    return msgspec.convert(found, body, strict=False)


# --- what is read -------------------------------------------------------------------------------------------------------

_NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def needed(value: Any, name: str) -> Any:
    """`value`, unless it is missing. Raises Invalid."""
    if value is None or (value == "" and name not in ("value", "model_json")):
        raise Invalid(f"Missing value for required parameter '{name}'.", where=name)
    return value


def run_id(body: Any) -> str:
    return str(needed(body.run_id or body.run_uuid, "run_id"))


def pairs(found: list[Pair] | None) -> dict[str, str]:
    """Keys and values as a dict; the last value of a key given twice counts. Raises Invalid."""
    return {needed(pair.key, "key"): pair.value or "" for pair in found or ()}


def params_in(found: list[Pair] | None) -> dict[str, str]:
    """The same for params. Raises Invalid for a key given twice, even with one value, as MLflow does."""
    out = pairs(found)
    if len(out) != len(found or ()):
        keys = [str(pair.key) for pair in found or ()]
        twice = sorted({key[:80] for key in keys if keys.count(key) > 1})
        raise Invalid(f"Duplicate parameter keys have been submitted: {twice}.", where="params")
    return out


def check_logged(model_json: str) -> None:
    """Raises Invalid for a JSON of a logged model that does not say what it must."""
    try:
        said = msgspec.json.decode(model_json, type=dict[str, Any])
    except msgspec.DecodeError as cause:
        raise Invalid("model_json is not a JSON object.", where="model_json") from cause
    if missing := [name for name in LOGGED if name not in said]:
        raise Invalid(f"Model json is missing mandatory fields: {', '.join(missing)}.", where="model_json")


def number(value: Number, name: str) -> float:
    """A 64-bit float: a number, or text as MLflow writes NaN and the infinities. Raises Invalid beyond its range."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        found = float(value)
    elif value in _SPECIAL:
        return _SPECIAL[str(value)]
    elif isinstance(value, str) and len(value) < 400 and _NUMERAL.fullmatch(value):
        found = float(value)
    else:
        raise Invalid(f"{name} must be a 64-bit number, 'NaN', 'Infinity' or '-Infinity'.", where=name)
    if math.isinf(found):
        raise Invalid(f"{name} is beyond the range of 64-bit numbers.", where=name)
    return found


def whole(value: Whole, name: str) -> int:
    """A 64-bit integer: a number, or its digits as text. Raises Invalid."""
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?\d{1,20}", value, re.ASCII):
            raise Invalid(f"{name} must be an integer.", where=name)
        value = int(value)
    if value is None or not -(2**63) <= value < 2**63:
        raise Invalid(f"{name} must be an integer of 64 bits.", where=name)
    return value


def word(value: Word, known: tuple[str, ...], name: str) -> str:
    """A value of an enum by its name or its number in MLflow's protocol. Raises Invalid."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 4:
        value = int(value)
    if isinstance(value, int) and 0 < value < len(known):
        return known[value]
    if isinstance(value, str) and value and value in known:
        return value
    raise Invalid(f"{str(value)[:80]!r} is not a {name}.", where=name, hint=f"Known: {', '.join(k for k in known if k)}.")


def view(value: Word) -> list[str]:
    return VIEWS["ACTIVE_ONLY"] if value is None else VIEWS[word(value, ("", *VIEWS), "view type")]


def limit(value: Whole, default: int, *, most: int = RESULTS_MAX) -> int:
    return check_limit(None if value is None else whole(value, "max_results"), default=default, most=most)


def point_in(metric: MetricIn, at: str) -> Point:
    value, timestamp = metric.value, metric.timestamp
    if value is None:
        raise Invalid(f"Missing value for required parameter '{at}value'.", where=f"{at}value")
    if timestamp is None:
        raise Invalid(f"Missing value for required parameter '{at}timestamp'.", where=f"{at}timestamp")
    return Point(
        key=needed(metric.key, f"{at}key"), value=value if type(value) is float else number(value, f"{at}value"),
        at_ms=timestamp if type(timestamp) is int else whole(timestamp, f"{at}timestamp"),
        step=whole(metric.step or 0, f"{at}step"), model_id=metric.model_id or "", dataset_name=metric.dataset_name or "",
        dataset_digest=metric.dataset_digest or "",
    )  # fmt: skip


def input_in(item: InputIn) -> DatasetInput:
    found = needed(item.dataset, "dataset")
    return DatasetInput(
        name=needed(found.name, "dataset.name"), digest=needed(found.digest, "dataset.digest"),
        source_type=found.source_type or "", source=found.source or "", schema=found.schema or "",
        profile=found.profile or "", tags=pairs(item.tags),
    )  # fmt: skip


def _order(field: str) -> OrderBy:
    found = parse_order([field])
    if not found:
        raise Invalid("A sort key needs a field_name.", where="order_by")
    return found[0]


# --- what is answered ---------------------------------------------------------------------------------------------------


def paged(name: str, page: Page[Any], out: Callable[[Any], Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {name: [out(item) for item in page.items]}
    return {**answer, "next_page_token": page.next} if page.next else answer


class PairOut(Struct, gc=False):
    """A param or a tag. Answers hold very many of them: what the garbage collector need not know of costs half."""

    key: str
    value: str


class MetricOut(Struct, gc=False, omit_defaults=True):
    """A point of a metric."""

    key: str
    value: float | str
    timestamp: int
    step: int
    run_id: str = ""


def pairs_out(found: dict[str, str]) -> list[PairOut]:
    return [PairOut(key, value) for key, value in found.items()]


def experiment_out(found: Experiment) -> dict[str, Any]:
    return {
        "experiment_id": found.id, "name": found.name, "artifact_location": found.artifact_uri,
        "lifecycle_stage": found.stage, "creation_time": found.created_at_ms, "last_update_time": found.updated_at_ms,
        "tags": pairs_out(found.tags), "workspace": WORKSPACE,
    }  # fmt: skip


def info_out(run: Run) -> dict[str, Any]:
    info = {
        "run_id": run.id, "run_uuid": run.id, "run_name": run.name, "experiment_id": run.experiment_id, "user_id": run.user,
        "status": run.status, "start_time": run.started_at_ms, "artifact_uri": run.artifact_uri,
        "lifecycle_stage": run.stage,
    }  # fmt: skip
    return info if run.ended_at_ms is None else {**info, "end_time": run.ended_at_ms}


def metric_out(point: Point, run_id: str = "") -> MetricOut:
    value = point.value
    return MetricOut(point.key, value if isfinite(value) else wire_value(value), point.at_ms, point.step, run_id)


def run_out(run: Run) -> dict[str, Any]:
    inputs = [
        {
            "dataset": {
                "name": i.name, "digest": i.digest, "source_type": i.source_type, "source": i.source, "schema": i.schema,
                "profile": i.profile,
            },
            "tags": pairs_out(i.tags),
        }
        for i in run.inputs
    ]  # fmt: skip
    return {
        "info": info_out(run),
        "data": {
            "metrics": [metric_out(p) for p in run.points], "params": pairs_out(run.params), "tags": pairs_out(run.tags)
        },
        "inputs": {
            "dataset_inputs": inputs, "model_inputs": [{"model_id": m.model_id} for m in run.models if m.direction == "input"]
        },
        "outputs": {
            "model_outputs": [{"model_id": m.model_id, "step": m.step} for m in run.models if m.direction == "output"]
        },
    }  # fmt: skip


def model_out(model: LoggedModel) -> dict[str, Any]:
    metrics = [
        {
            "key": p.key, "value": wire_value(p.value), "timestamp": p.at_ms, "step": p.step, "run_id": p.run_id,
            "model_id": p.model_id,
        }
        | ({"dataset_name": p.dataset_name} if p.dataset_name else {})
        | ({"dataset_digest": p.dataset_digest} if p.dataset_digest else {})
        for p in model.points
    ]  # fmt: skip
    return {
        "info": {
            "model_id": model.id, "experiment_id": model.experiment_id, "name": model.name, "model_type": model.model_type,
            "source_run_id": model.source_run_id, "status": model.status,
            **({"status_message": model.status_message} if model.status_message else {}),
            "creation_timestamp_ms": model.created_at_ms, "last_updated_timestamp_ms": model.updated_at_ms,
            "artifact_uri": model.artifact_uri, "tags": pairs_out(model.tags),
        },
        "data": {"params": pairs_out(model.params), "metrics": metrics},
    }  # fmt: skip


def files_out(found: list[Artifact]) -> list[dict[str, Any]]:
    """Files and folders, by path."""
    return [
        {"path": file.path, "is_dir": file.is_dir} | ({} if file.is_dir else {"file_size": file.size_bytes})
        for file in sorted(found, key=lambda file: file.path)
    ]
