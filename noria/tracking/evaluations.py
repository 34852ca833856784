"""Evaluation datasets: records that programs are judged by.

Permission is asked on the experiments a dataset is linked to: reading takes one of them, writing all. One that is linked to none
takes the right on the whole workspace.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import structs

from noria.kernel.db import Database, Read, js
from noria.kernel.errors import Invalid, NotFound, TooLarge
from noria.kernel.filters import parse_filter, parse_order
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op
from noria.kernel.paging import Page, decode_token, encode_token
from noria.tracking import evaluation_store as store
from noria.tracking import search
from noria.tracking.evaluation_model import (
    EXPERIMENTS_MAX,
    RECORD_LENGTH_MAX,
    RECORDS_PER_REQUEST,
    EvaluationDataset,
    Record,
    RecordIn,
)
from noria.tracking.model import NAME_LENGTH_MAX, USER_TAG
from noria.tracking.rules import check_tags
from noria.tracking.sight import experiment_for, visible
from noria.tracking.trace_model import PAIRS_PER_TRACE

SHAPE = search.Shape(
    what="evaluation datasets",
    texts={
        "name": "r.name", "dataset_id": "r.id", "created_by": "r.created_by", "last_updated_by": "r.updated_by",
    },
    numbers={"created_time": "r.created_at_ms", "last_update_time": "r.updated_at_ms"},
    tables={"tag": ("evaluation_dataset_tag", "dataset_id")},
    at="r.created_at_ms",
)  # fmt: skip
_TYPES = {type(None): "null", bool: "boolean", int: "integer", float: "float", str: "string", list: "array", dict: "object"}


class Evaluations:
    """The service."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(self, op: Op, name: str, tags: dict[str, str], experiment_ids: list[str]) -> EvaluationDataset:
        """Begin a dataset. Raises Invalid, NotFound, Forbidden."""
        if not name.strip() or len(name) > NAME_LENGTH_MAX or any(c < " " for c in name):
            raise Invalid(f"The name of a dataset has 1 to {NAME_LENGTH_MAX} printable characters.", where="name")
        made = EvaluationDataset(
            id="d-" + new_id(op.at_ms), name=name, digest=_digest(name, op.at_ms), created_at_ms=op.at_ms,
            updated_at_ms=op.at_ms, created_by=tags.get(USER_TAG, "") or op.actor.name,
        )  # fmt: skip
        with self._db.write(op) as tx:
            self._link(tx, op, [], experiment_ids)
            store.add(tx, made, op.workspace)
            store.set_tags(tx, made.id, _few(tags))
            store.link(tx, made.id, experiment_ids, op.at_ms)
            tx.emit("evaluation_dataset.created", made.ref, name=name)
            return self._one(tx, op, "run.read", made.id)

    def get(self, op: Op, dataset_id: str) -> EvaluationDataset:
        """One dataset without its records. Raises NotFound."""
        with self._db.read() as tx:
            return self._one(tx, op, "run.read", dataset_id)

    def delete(self, op: Op, dataset_id: str) -> None:
        """Remove a dataset with its records. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            found = self._one(tx, op, "run.delete", dataset_id)
            store.remove(tx, found.id)
            tx.emit("evaluation_dataset.deleted", found.ref, name=found.name)

    def search(
        self, op: Op, *, experiment_ids: list[str] | None = None, filter: str = "", order_by: list[str] | None = None,
        limit: int = 1000, page: str | None = None,
    ) -> Page[EvaluationDataset]:  # fmt: skip
        """Datasets the caller may read, latest first unless told otherwise. Raises Invalid."""
        seen = visible(op, "run.read")
        wanted = seen if not experiment_ids else [e for e in experiment_ids if seen is None or e in seen]
        order = search.compile_order(parse_order(order_by or []), SHAPE)
        with self._db.read() as tx:
            where = search.compile_filter(parse_filter(filter), tx.dialect, SHAPE)
            rows = store.search(
                tx, op.workspace, experiments=wanted, where=where, order=order, after=order.after(page), limit=limit + 1
            )
            return Page(store.datasets_from(tx, rows[:limit]), order.token(rows[limit - 1]) if len(rows) > limit else None)

    def set_tags(self, op: Op, dataset_id: str, tags: dict[str, str]) -> None:
        """Set tags. Raises NotFound, Invalid, Forbidden."""
        with self._db.write(op) as tx:
            found = self._one(tx, op, "run.log", dataset_id)
            _few({**found.tags, **tags})
            store.set_tags(tx, found.id, tags)

    def delete_tag(self, op: Op, dataset_id: str, key: str) -> None:
        """Remove a tag; one that is not there is no error, as in MLflow. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            store.remove_tag(tx, self._one(tx, op, "run.log", dataset_id).id, key)

    def link(self, op: Op, dataset_id: str, experiment_ids: list[str], *, remove: bool = False) -> EvaluationDataset:
        """Link a dataset to experiments, or unlink it. Raises NotFound, Invalid, Forbidden."""
        with self._db.write(op) as tx:
            found = self._one(tx, op, "run.log", dataset_id)
            if remove:
                left = [e for e in found.experiment_ids if e not in experiment_ids]
                if not left:
                    op.require("run.log")  # what is linked to nothing is everybody's
                store.unlink(tx, found.id, experiment_ids)
            else:
                self._link(tx, op, found.experiment_ids, experiment_ids)
                store.link(tx, found.id, experiment_ids, op.at_ms)
            return store.datasets_from(tx, store.rows(tx, [found.id], op.workspace))[0]

    # --- records --------------------------------------------------------------------------------------------------------

    def upsert(self, op: Op, dataset_id: str, sent: list[RecordIn]) -> tuple[int, int]:
        """Add records; those whose inputs are there already are changed. Returns how many of each.

        Outputs and source replace what was there, expectations and tags are merged. Raises NotFound, Invalid, Forbidden.
        """
        if len(sent) > RECORDS_PER_REQUEST:
            raise TooLarge(
                f"At most {RECORDS_PER_REQUEST} records fit one request; these are {len(sent)}.", hint="Send fewer."
            )
        by_digest: dict[str, Record] = {}
        with self._db.write(op) as tx:
            found = self._one(tx, op, "run.log", dataset_id, lock=True)
            digests = [_digest_of(record.inputs) for record in sent]
            before = store.records_with(tx, found.id, digests)
            for digest, record in zip(digests, sent, strict=True):
                by_digest[digest] = _merged(op, found.id, by_digest.get(digest) or before.get(digest), record)
            store.put_records(tx, by_digest)
            inserted, updated = len(by_digest.keys() - before.keys()), len(sent) - len(by_digest.keys() - before.keys())
            schema = found.schema or {"inputs": {}, "outputs": {}, "expectations": {}, "version": "1.0"}
            for record in sent:
                _learn(schema, record)
            self._touch(tx, op, found, schema)
            tx.emit("evaluation_dataset.changed", found.ref, inserted=inserted, updated=updated, deleted=0)
        return inserted, updated

    def records(self, op: Op, dataset_id: str, *, limit: int, page: str | None = None) -> Page[Record]:
        """Records in the order they came. Raises NotFound, Invalid, Forbidden."""
        after = decode_token(page, size=2) if page else None
        if after and not (isinstance(after[0], int) and isinstance(after[1], str)):
            raise Invalid("The page token belongs to another list.", where="page", hint="Start again without it.")
        with self._db.read() as tx:
            found = store.records(tx, self._one(tx, op, "artifact.read", dataset_id).id, after=after, limit=limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        return Page(found[:limit], encode_token(last.created_at_ms, last.id) if last else None)

    def delete_records(self, op: Op, dataset_id: str, record_ids: list[str]) -> int:
        """Remove records; returns how many went. Raises NotFound, Invalid, Forbidden."""
        if len(record_ids) > RECORDS_PER_REQUEST:
            raise Invalid(f"At most {RECORDS_PER_REQUEST} records are named in one request.", where="dataset_record_ids")
        with self._db.write(op) as tx:
            found = self._one(tx, op, "run.log", dataset_id, lock=True)
            removed = store.remove_records(tx, found.id, record_ids)
            if removed:
                self._touch(tx, op, found, found.schema)
                tx.emit("evaluation_dataset.changed", found.ref, inserted=0, updated=0, deleted=removed)
        return removed

    def _touch(self, tx: Any, op: Op, found: EvaluationDataset, schema: dict[str, Any] | None) -> None:
        store.touch(tx, structs.replace(
            found, digest=_digest(found.name, op.at_ms), schema=schema, updated_at_ms=op.at_ms, updated_by=op.actor.name
        ))  # fmt: skip

    # --- may they -------------------------------------------------------------------------------------------------------

    def _one(self, tx: Read, op: Op, action: str, dataset_id: str, *, lock: bool = False) -> EvaluationDataset:
        found = store.datasets_from(tx, store.rows(tx, [dataset_id], op.workspace, lock=lock))
        absent = NotFound(f"Evaluation dataset with id {dataset_id[:80]!r} not found")
        seen = op.visible("run.read")
        if not found or not (seen is None or any(f"experiment:{e}" in seen for e in found[0].experiment_ids)):
            op.asked.add(action)
            raise absent
        if action == "run.read":
            return found[0]
        refs: list[Ref | None] = [Ref("experiment", e) for e in found[0].experiment_ids]
        if action == "artifact.read" and any(op.can(action, ref) for ref in refs):
            return found[0]
        for ref in refs or [None]:
            op.require(action, on=ref)
        return found[0]

    def _link(self, tx: Read, op: Op, before: list[str], experiment_ids: list[str]) -> None:
        if len({*before, *experiment_ids}) > EXPERIMENTS_MAX:
            raise Invalid(f"A dataset is linked to at most {EXPERIMENTS_MAX} experiments.", where="experiment_ids")
        if not before and not experiment_ids:
            op.require("run.log")
        for experiment_id in experiment_ids:
            experiment_for(tx, op, "run.log", experiment_id)


def _few(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > PAIRS_PER_TRACE:
        raise Invalid(f"A dataset has at most {PAIRS_PER_TRACE} tags.", where="tags")
    return check_tags(tags)


def _digest(name: str, at_ms: int) -> str:
    return hashlib.sha256(f"{name}:{at_ms}".encode()).hexdigest()[:8]


def _digest_of(inputs: dict[str, Any]) -> str:
    """Equal for equal inputs, in whatever order their keys come."""
    return hashlib.sha256(msgspec.json.encode(inputs, order="sorted")).hexdigest()


def _merged(op: Op, dataset_id: str, was: Record | None, sent: RecordIn) -> Record:
    """The record that comes of what was there and what is sent. Raises Invalid."""
    for name in ("inputs", "outputs", "expectations", "source"):
        if len(js(getattr(sent, name))) > RECORD_LENGTH_MAX:
            raise Invalid(f"The {name} of a record take at most {RECORD_LENGTH_MAX >> 20} MiB of JSON.", where=name)
    tags, source = _few(sent.tags or {}), sent.source
    who = tags.get(USER_TAG, "") or op.actor.name
    if was is None:
        was = Record(
            id="dr-" + new_id(op.at_ms), dataset_id=dataset_id, inputs=sent.inputs, created_at_ms=op.at_ms,
            updated_at_ms=op.at_ms, created_by=who,
        )  # fmt: skip
    made = structs.replace(
        was, outputs=was.outputs if sent.outputs is None else sent.outputs,
        expectations={**(was.expectations or {}), **sent.expectations} if sent.expectations else was.expectations,
        tags=_few({**was.tags, **tags}), updated_at_ms=op.at_ms, updated_by=who,
    )  # fmt: skip
    if source is None:
        return made
    said = source.get("source_data")
    data: dict[str, Any] = said if isinstance(said, dict) else {}
    kind, ident = str(source.get("source_type", "")), str(data.get("trace_id") or data.get("source_id") or "")
    if len(kind) > 64 or len(ident) > 250:
        raise Invalid("The source of a record has a type of at most 64 characters and an id of at most 250.", where="source")
    return structs.replace(made, source=source, source_type=kind, source_id=ident)


def _learn(schema: dict[str, Any], record: RecordIn) -> None:
    """Note which fields there are and of what type, as MLflow does: the first value decides."""
    for name in ("inputs", "outputs", "expectations"):
        value = getattr(record, name)
        if isinstance(value, dict) and isinstance(schema[name], dict):
            for key, item in value.items():
                schema[name].setdefault(key, _TYPES[type(item)])
        elif value is not None and not schema[name]:
            schema[name] = _TYPES[type(value)]
