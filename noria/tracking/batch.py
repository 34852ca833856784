"""The same act on many runs: one transaction, one permission question per experiment, one fact per run that changed."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.kernel.db import Database, Read, Write, js
from noria.kernel.errors import Invalid
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.tracking import store
from noria.tracking.model import RUN_NAME_TAG, check_key, check_value
from noria.tracking.sight import readable
from noria.tracking.store import RunHead, among

RUNS_PER_BATCH = 1_000  # a fact for each must fit one transaction that others wait for
RESERVED = ("mlflow.", "noria.")  # tags with a meaning; they are changed on the run itself


class RunsAct(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Do this to these runs. `tags` is for `tag`: a value sets, null removes."""

    ids: list[str]
    act: Literal["delete", "restore", "tag"]
    tags: dict[str, str | None] = {}


class RunsDone(Struct, frozen=True, kw_only=True):
    """How many runs were named, and how many of them changed."""

    runs: int
    changed: int


class Batch:
    """Part of the tracking service."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def act(self, op: Op, wish: RunsAct) -> RunsDone:
        """Delete, restore or tag runs: all of them or none. Raises Invalid, NotFound, Forbidden."""
        ids = list(dict.fromkeys(wish.ids))
        if not ids or len(ids) > RUNS_PER_BATCH:
            raise Invalid(f"Name 1 to {RUNS_PER_BATCH} runs, not {len(ids)}.", where="ids", hint="Send several requests.")
        if wish.act == "tag":
            _check(wish.tags)
        action = "run.log" if wish.act == "tag" else "run.delete"
        with self._db.write(op) as tx:
            heads = readable(tx, op, ids)
            for experiment in sorted({head.experiment_id for head in heads}):
                op.require(action, on=Ref("experiment", experiment))
            if wish.act == "tag":
                _require_active(heads)
                store_tags(tx, [head.id for head in heads], wish.tags)
                for head in heads:
                    tx.emit("run.tagged", Ref("run", head.id), experiment_id=head.experiment_id, tags=wish.tags)
                return RunsDone(runs=len(heads), changed=len(heads))
            stage = "deleted" if wish.act == "delete" else "active"
            changing = [head for head in heads if head.stage != stage]
            if stage == "active":
                _require_experiments(tx, op, changing)
            stage_runs(tx, [head.id for head in changing], stage, op.at_ms if stage == "deleted" else None)
            for head in changing:
                kind = "run.deleted" if stage == "deleted" else "run.restored"
                tx.emit(kind, Ref("run", head.id), experiment_id=head.experiment_id)
        return RunsDone(runs=len(heads), changed=len(changing))


def _check(tags: dict[str, str | None]) -> None:
    if not 1 <= len(tags) <= 100:
        raise Invalid("Name 1 to 100 tags.", where="tags")
    for key, value in tags.items():
        check_key(key, "tag")
        if key.startswith(RESERVED):
            raise Invalid(
                f"The tag {key!r} has a meaning of its own and is not set on many runs at once.", where="tags",
                hint=f"Change it on the run; {RUN_NAME_TAG} is the run's name." if key == RUN_NAME_TAG else "",
            )  # fmt: skip
        if value is not None:
            check_value(key, value, "tag")


def _require_active(heads: list[RunHead]) -> None:
    gone = [head.id for head in heads if head.stage != "active"]
    if gone:
        raise Invalid(f"{len(gone)} of the runs are deleted, {gone[0]} among them.", where="ids", hint="Restore them first.")


def _require_experiments(tx: Read, op: Op, heads: list[RunHead]) -> None:
    for experiment_id in sorted({head.experiment_id for head in heads}):
        found = store.experiment(tx, experiment_id, op.workspace)
        if found is None or found.stage != "active":
            raise Invalid("The experiment of a run here is deleted.", where="ids", hint="Restore the experiment first.")


def stage_runs(tx: Write, run_ids: list[str], stage: str, at_ms: int | None) -> None:
    tx.run(
        f"update run set stage = :stage, deleted_at_ms = :at_ms where {among(tx, 'id', 'ids')}",
        stage=stage, at_ms=at_ms, ids=js(run_ids),
    )  # fmt: skip


def store_tags(tx: Write, run_ids: list[str], tags: dict[str, str | None]) -> None:
    """Set and remove tags of many runs; rows in one order, so that two writers do not wait for each other in a circle."""
    tx.many(
        """insert into tag (run_id, key, value) values (:run_id, :key, :value)
           on conflict (run_id, key) do update set value = excluded.value""",
        [{"run_id": r, "key": k, "value": v} for r in sorted(run_ids) for k, v in sorted(tags.items()) if v is not None],
    )  # fmt: skip
    removed = sorted(key for key, value in tags.items() if value is None)
    if removed:
        tx.run(
            f"delete from tag where {among(tx, 'run_id', 'ids')} and {among(tx, 'key', 'keys')}",
            ids=js(run_ids), keys=js(removed),
        )  # fmt: skip
