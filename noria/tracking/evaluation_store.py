"""The rows of evaluation datasets: one named function per query."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.kernel.db import Read, Write, js
from noria.tracking.evaluation_model import EvaluationDataset, Record
from noria.tracking.search import Condition, Order
from noria.tracking.store import among

_DATASET = "r.id, r.name, r.digest, r.schema, r.records_count, r.created_at_ms, r.updated_at_ms, r.created_by, r.updated_by"
_RECORD = """id, dataset_id, inputs, outputs, expectations, tags, source, source_type, source_id, created_at_ms, updated_at_ms,
             created_by, updated_by"""


def add(tx: Write, made: EvaluationDataset, workspace: str) -> None:
    tx.run(
        """insert into evaluation_dataset (id, name, digest, records_count, created_at_ms, updated_at_ms, created_by,
                                           updated_by, workspace)
           values (:id, :name, :digest, 0, :at_ms, :at_ms, :by, :by, :workspace)""",
        id=made.id, name=made.name, digest=made.digest, at_ms=made.created_at_ms, by=made.created_by, workspace=workspace,
    )  # fmt: skip


def rows(tx: Read, ids: list[str], workspace: str, *, lock: bool = False) -> list[dict[str, Any]]:
    """Datasets as rows; `lock` holds them until the end of a write transaction. SQLite has one writer anyway."""
    return tx.rows(
        f"""select {_DATASET} from evaluation_dataset r where {among(tx, "r.id", "ids")} and r.workspace = :workspace
             order by r.id {"for update" if lock and tx.dialect != "sqlite" else ""}""",
        ids=js(ids), workspace=workspace,
    )  # fmt: skip


def search(
    tx: Read, workspace: str, *, experiments: list[str] | None, where: Condition, order: Order, after: Condition, limit: int
) -> list[dict[str, Any]]:
    """Datasets of experiments (None: all) as rows with the sort keys k0, k1, …"""
    scope = (
        ""
        if experiments is None
        else f"""r.id in (select x.dataset_id from evaluation_dataset_experiment x
                           where {among(tx, "x.experiment_id", "experiments")})"""
    )
    clauses = ["r.workspace = :workspace", scope, where.sql, after.sql]
    return tx.rows(
        f"""select {_DATASET} {order.columns} from evaluation_dataset r {order.joins}
             where {" and ".join(c for c in clauses if c)} order by {order.clause} limit :limit""",
        workspace=workspace, limit=limit, **where.params, **order.params, **after.params,
        **({} if experiments is None else {"experiments": js(experiments)}),
    )  # fmt: skip


def datasets_from(tx: Read, found: list[dict[str, Any]]) -> list[EvaluationDataset]:
    """Rows as datasets with tags and experiments: one query for each kind."""
    ids = js([row["id"] for row in found])
    tags: dict[str, dict[str, str]] = {}
    for dataset_id, key, value in tx.tuples(
        f"select dataset_id, key, value from evaluation_dataset_tag where {among(tx, 'dataset_id', 'ids')} order by 1, 2",
        ids=ids,
    ):
        tags.setdefault(dataset_id, {})[key] = value
    experiments: dict[str, list[str]] = {}
    for dataset_id, experiment_id in tx.tuples(
        f"""select dataset_id, experiment_id from evaluation_dataset_experiment
             where {among(tx, "dataset_id", "ids")} order by dataset_id, at_ms, experiment_id""",
        ids=ids,
    ):
        experiments.setdefault(dataset_id, []).append(experiment_id)
    fields = EvaluationDataset.__struct_fields__
    plain: list[dict[str, Any]] = [{k: v for k, v in row.items() if k in fields} for row in found]
    return [
        EvaluationDataset(
            **{**row, "schema": None if row["schema"] is None else msgspec.json.decode(row["schema"])},
            tags=tags.get(row["id"], {}), experiment_ids=experiments.get(row["id"], []),
        )
        for row in plain
    ]  # fmt: skip


def link(tx: Write, dataset_id: str, experiment_ids: list[str], at_ms: int) -> None:
    tx.many(
        """insert into evaluation_dataset_experiment (dataset_id, experiment_id, at_ms) values (:id, :experiment, :at_ms)
           on conflict do nothing""",
        [{"id": dataset_id, "experiment": e, "at_ms": at_ms} for e in experiment_ids],
    )  # fmt: skip


def unlink(tx: Write, dataset_id: str, experiment_ids: list[str]) -> None:
    tx.run(
        f"""delete from evaluation_dataset_experiment
             where dataset_id = :id and {among(tx, "experiment_id", "experiments")}""",
        id=dataset_id, experiments=js(experiment_ids),
    )  # fmt: skip


def set_tags(tx: Write, dataset_id: str, tags: dict[str, str]) -> None:
    tx.many(
        """insert into evaluation_dataset_tag (dataset_id, key, value) values (:id, :key, :value)
           on conflict (dataset_id, key) do update set value = excluded.value""",
        [{"id": dataset_id, "key": k, "value": v} for k, v in sorted(tags.items())],
    )  # fmt: skip


def remove_tag(tx: Write, dataset_id: str, key: str) -> int:
    return tx.run("delete from evaluation_dataset_tag where dataset_id = :id and key = :key", id=dataset_id, key=key)


def remove(tx: Write, dataset_id: str) -> None:
    for table in ("evaluation_record", "evaluation_dataset_tag", "evaluation_dataset_experiment"):
        tx.run(f"delete from {table} where dataset_id = :id", id=dataset_id)
    tx.run("delete from evaluation_dataset where id = :id", id=dataset_id)


def records_with(tx: Read, dataset_id: str, digests: list[str]) -> dict[str, Record]:
    """Records by the digest of their inputs."""
    found = tx.rows(
        f"""select {_RECORD}, input_digest from evaluation_record
             where dataset_id = :id and {among(tx, "input_digest", "digests")}""",
        id=dataset_id, digests=js(digests),
    )  # fmt: skip
    return {row.pop("input_digest"): _record(row) for row in found}


def put_records(tx: Write, records: dict[str, Record]) -> None:
    """Keep records, given by the digest of their inputs."""
    tx.many(
        f"""insert into evaluation_record ({_RECORD}, input_digest)
            values (:id, :dataset_id, :inputs, :outputs, :expectations, :tags, :source, :source_type, :source_id,
                    :created_at_ms, :updated_at_ms, :created_by, :updated_by, :digest)
            on conflict (dataset_id, input_digest) do update
               set outputs = excluded.outputs, expectations = excluded.expectations, tags = excluded.tags,
                   source = excluded.source, source_type = excluded.source_type, source_id = excluded.source_id,
                   updated_at_ms = excluded.updated_at_ms, updated_by = excluded.updated_by""",
        [
            {
                **{name: getattr(r, name) for name in Record.__struct_fields__}, "inputs": js(r.inputs), "tags": js(r.tags),
                **{n: None if getattr(r, n) is None else js(getattr(r, n)) for n in ("outputs", "expectations", "source")},
                "digest": digest,
            }
            for digest, r in records.items()
        ],
    )  # fmt: skip


def records(tx: Read, dataset_id: str, *, after: list[Any] | None, limit: int) -> list[Record]:
    """Records in the order they came, from after the key (created_at_ms, id)."""
    more, params = ("and (created_at_ms, id) > (:at, :last)", {"at": after[0], "last": after[1]}) if after else ("", {})
    return [
        _record(row)
        for row in tx.rows(
            f"""select {_RECORD} from evaluation_record where dataset_id = :id {more}
                 order by created_at_ms, id limit :limit""",
            id=dataset_id, limit=limit, **params,
        )
    ]  # fmt: skip


def _record(row: dict[str, Any]) -> Record:
    for name in ("inputs", "outputs", "expectations", "tags", "source"):
        row[name] = None if row[name] is None else msgspec.json.decode(row[name])
    return Record(**row)


def remove_records(tx: Write, dataset_id: str, record_ids: list[str]) -> int:
    return tx.run(
        f"delete from evaluation_record where dataset_id = :id and {among(tx, 'id', 'ids')}",
        id=dataset_id,
        ids=js(record_ids),
    )


def touch(tx: Write, dataset: EvaluationDataset) -> None:
    """Bring the row of a dataset in line with its records."""
    tx.run(
        """update evaluation_dataset
              set digest = :digest, schema = :schema, updated_at_ms = :at_ms, updated_by = :by,
                  records_count = (select count(*) from evaluation_record where dataset_id = :id)
            where id = :id""",
        id=dataset.id, digest=dataset.digest, schema=None if dataset.schema is None else js(dataset.schema),
        at_ms=dataset.updated_at_ms, by=dataset.updated_by,
    )  # fmt: skip
