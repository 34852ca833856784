"""MLflow's protocol of evaluation datasets: a translation with no rules of its own. Lists of records travel as text inside JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from noria.http.route import Routes, delete, get, patch, post
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.tracking.evaluation_model import RECORDS_PER_PAGE, EvaluationDataset, Record, RecordIn
from noria.tracking.evaluations import Evaluations
from noria.tracking.mlflow import Whole, Word, limit, needed, paged, rpc

V3 = ("/api/3.0/mlflow", "/ajax-api/3.0/mlflow")


class CreateDataset(Struct):
    name: str | None = None
    experiment_ids: list[str] | None = None
    tags: str | None = None
    source_type: Word = None


class OfDataset(Struct):
    dataset_id: str | None = None
    key: str | None = None
    tags: str | None = None
    records: str | None = None
    experiment_ids: list[str] | None = None
    dataset_record_ids: list[str] | None = None
    max_results: Whole = None
    page_token: str | None = None


class SearchDatasets(Struct):
    experiment_ids: list[str] | None = None
    filter_string: str | None = None
    max_results: Whole = None
    order_by: list[str] | None = None
    page_token: str | None = None


def routes(evaluations: Evaluations) -> Routes:
    def create(op: Op, body: CreateDataset) -> Any:
        made = evaluations.create(op, needed(body.name, "name"), tags_in(body.tags), body.experiment_ids or [])
        return {"dataset": dataset_out(made)}

    def read(op: Op, body: OfDataset) -> Any:
        return {"dataset": dataset_out(evaluations.get(op, needed(body.dataset_id, "dataset_id")))}

    def remove(op: Op, body: OfDataset) -> Any:
        evaluations.delete(op, needed(body.dataset_id, "dataset_id"))
        return {}

    def search(op: Op, body: SearchDatasets) -> Any:
        found = evaluations.search(
            op, experiment_ids=body.experiment_ids, filter=body.filter_string or "", order_by=body.order_by,
            limit=limit(body.max_results, RECORDS_PER_PAGE), page=body.page_token or None,
        )  # fmt: skip
        return paged("datasets", found, dataset_out)

    def set_tags(op: Op, body: OfDataset) -> Any:
        evaluations.set_tags(op, needed(body.dataset_id, "dataset_id"), tags_in(needed(body.tags, "tags")))
        return {}

    def delete_tag(op: Op, body: OfDataset) -> Any:
        evaluations.delete_tag(op, needed(body.dataset_id, "dataset_id"), needed(body.key, "key"))
        return {}

    def upsert(op: Op, body: OfDataset) -> Any:
        sent = msgspec.json.decode(needed(body.records, "records"), type=list[RecordIn])
        inserted, updated = evaluations.upsert(op, needed(body.dataset_id, "dataset_id"), sent)
        return {"inserted_count": inserted, "updated_count": updated}

    def records(op: Op, body: OfDataset) -> Any:
        found = evaluations.records(
            op,
            needed(body.dataset_id, "dataset_id"),
            limit=limit(body.max_results, RECORDS_PER_PAGE),
            page=body.page_token or None,
        )
        out = {"records": msgspec.json.encode([record_out(r) for r in found.items]).decode()}
        return {**out, "next_page_token": found.next} if found.next else out

    def delete_records(op: Op, body: OfDataset) -> Any:
        ids = needed(body.dataset_record_ids, "dataset_record_ids")
        return {"deleted_count": evaluations.delete_records(op, needed(body.dataset_id, "dataset_id"), ids)}

    def experiments(op: Op, body: OfDataset) -> Any:
        return {"experiment_ids": evaluations.get(op, needed(body.dataset_id, "dataset_id")).experiment_ids}

    def add(op: Op, body: OfDataset) -> Any:
        found = evaluations.link(op, needed(body.dataset_id, "dataset_id"), needed(body.experiment_ids, "experiment_ids"))
        return {"dataset": dataset_out(found)}

    def take(op: Op, body: OfDataset) -> Any:
        ids = needed(body.experiment_ids, "experiment_ids")
        return {"dataset": dataset_out(evaluations.link(op, needed(body.dataset_id, "dataset_id"), ids, remove=True))}

    one = "/datasets/{dataset_id:str}"
    return [
        rpc(post, "/datasets/create", "run.log", CreateDataset, create, prefixes=V3),
        rpc(post, "/datasets/search", "run.read", SearchDatasets, search, prefixes=V3),
        rpc(get, "/datasets/search", "run.read", SearchDatasets, search, prefixes=V3),
        rpc(get, one, "run.read", OfDataset, read, prefixes=V3),
        rpc(delete, one, "run.delete", OfDataset, remove, prefixes=V3),
        rpc(patch, f"{one}/tags", "run.log", OfDataset, set_tags, prefixes=V3),
        rpc(delete, f"{one}/tags/{{key:str}}", "run.log", OfDataset, delete_tag, prefixes=V3),
        rpc(post, f"{one}/records", "run.log", OfDataset, upsert, prefixes=V3),
        rpc(get, f"{one}/records", "artifact.read", OfDataset, records, prefixes=V3),
        rpc(delete, f"{one}/records", "run.log", OfDataset, delete_records, prefixes=V3),
        rpc(get, f"{one}/experiment-ids", "run.read", OfDataset, experiments, prefixes=V3),
        rpc(post, f"{one}/add-experiments", "run.log", OfDataset, add, prefixes=V3),
        rpc(post, f"{one}/remove-experiments", "run.log", OfDataset, take, prefixes=V3),
    ]


def tags_in(text: str | None) -> dict[str, str]:
    """Tags as MLflow sends them: JSON in text; what is null is left out. Raises Invalid."""
    found = msgspec.json.decode(text or "{}")
    if not isinstance(found, dict):
        raise Invalid("tags must be a JSON object.", where="tags")
    return {k: v if isinstance(v, str) else msgspec.json.encode(v).decode() for k, v in found.items() if v is not None}


def dataset_out(found: EvaluationDataset) -> dict[str, Any]:
    out = {
        "dataset_id": found.id, "name": found.name, "tags": msgspec.json.encode(found.tags).decode(), "digest": found.digest,
        "created_time": found.created_at_ms, "last_update_time": found.updated_at_ms, "created_by": found.created_by,
        "last_updated_by": found.updated_by, "experiment_ids": found.experiment_ids,
    }  # fmt: skip
    if found.schema is not None:
        out["schema"] = msgspec.json.encode(found.schema).decode()
        out["profile"] = msgspec.json.encode({"num_records": found.records_count}).decode()
    return out


def record_out(found: Record) -> dict[str, Any]:
    out = {
        "dataset_record_id": found.id, "dataset_id": found.dataset_id, "inputs": found.inputs, "outputs": found.outputs,
        "expectations": found.expectations, "tags": found.tags, "source": found.source, "source_id": found.source_id or None,
        "source_type": found.source_type or None, "created_time": found.created_at_ms, "last_update_time": found.updated_at_ms,
        "created_by": found.created_by, "last_updated_by": found.updated_by,
    }  # fmt: skip
    return {key: value for key, value in out.items() if value is not None}
