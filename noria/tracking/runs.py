"""Runs: begun, found, changed, ended, put away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import structs

from noria.kernel.db import Read, js
from noria.kernel.errors import AlreadyExists, Invalid
from noria.kernel.filters import parse_filter, parse_order
from noria.kernel.ids import ExperimentId, Ref, RunId, new_id
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.tracking import columns as table
from noria.tracking import search, store
from noria.tracking.entries import Entries
from noria.tracking.model import (
    ENDED,
    MODEL_HISTORY_TAG,
    RUN_NAME_TAG,
    USER_TAG,
    Run,
    RunColumns,
    check_new_run_id,
    check_value,
)
from noria.tracking.names import name_of
from noria.tracking.rules import at_ms_of, check_tags, context_of, status_of
from noria.tracking.sight import experiment_for, may, no_run, run_head, visible, writable


class Runs(Entries):
    """Part of the tracking service."""

    def create_run(
        self, op: Op, experiment: str, name: str = "", tags: dict[str, str] | None = None, *,
        started_at_ms: int | None = None, user: str = "", status: str = "RUNNING", run_id: str = "",
    ) -> Run:  # fmt: skip
        """Begin a run in the experiment with this id. Raises NotFound, Invalid, Forbidden.

        `run_id`: made by the client. The same request again, told by its id and start, gives the run back. Raises
        AlreadyExists when another run has that id.
        """
        tags = dict(check_tags(tags or {}))
        if name and tags.get(RUN_NAME_TAG, name) != name:
            raise Invalid(
                f"The run is named {name!r} but its tag {RUN_NAME_TAG} says {tags[RUN_NAME_TAG]!r}.", where="run_name"
            )
        run_id = RunId(check_new_run_id(run_id) if run_id else new_id(op.at_ms))
        name = name or tags.get(RUN_NAME_TAG, "") or name_of(run_id)
        tags[RUN_NAME_TAG] = check_value("name", name, "run name")
        user = user or tags.get(USER_TAG, "") or op.actor.name
        run = Run(
            id=run_id, experiment_id=ExperimentId(experiment), name=name, status=status_of(status), user=user,
            started_at_ms=op.at_ms if started_at_ms is None else at_ms_of(started_at_ms), actor=op.actor.label, tags=tags,
        )  # fmt: skip
        version = self._version_in(op, tags)
        with self._db.write(op, shared=True) as tx:
            found = experiment_for(tx, op, "run.create", experiment)
            if found.stage != "active":
                raise Invalid(f"The experiment {found.name!r} is deleted.", where="experiment_id", hint="Restore it first.")
            if not store.add_run(tx, run, op.workspace):
                return self._begun_before(tx, op, run)
            store.set_tags(tx, run_id, tags)
            store.set_context(tx, run_id, context_of(tags))
            self._link_version(tx, run_id, version)
            tx.emit("run.created", run.ref, experiment_id=found.id, name=name)
        return structs.replace(run, **context_of(tags))

    def _begun_before(self, tx: Read, op: Op, wanted: Run) -> Run:
        """The run that has the id already, if it was begun by the same request; else raises AlreadyExists."""
        row = store.run_row(tx, wanted.id, op.workspace)
        if row and row["started_at_ms"] == wanted.started_at_ms and row["actor"] == wanted.actor:
            return store.runs_from(tx, [row])[0]
        raise AlreadyExists(f"There is already a run {wanted.id}.", hint="Leave the id out, or join that run.")

    def run(self, op: Op, run_id: str) -> Run:
        """One run with everything but its history, deleted or not. Raises NotFound."""
        with self._db.read() as tx:
            row = store.run_row(tx, run_id, op.workspace)
            may(op, "run.read", row["experiment_id"] if row else None, no_run(run_id))
            assert row is not None
            return store.runs_from(tx, [row])[0]

    def search_runs(
        self, op: Op, *, experiments: list[str] | None = None, filter: str = "", order_by: list[str] | None = None,
        stages: Iterable[str] = ("active",), limit: int = 100, page: str | None = None,
    ) -> Page[Run]:  # fmt: skip
        """Runs with all their latest values, latest first unless told otherwise. Six queries, however many runs."""
        with self._db.read() as tx:
            rows, token = self._found(tx, op, experiments, filter, order_by, stages, limit, page)
            return Page(store.runs_from(tx, rows), token)

    def run_columns(
        self, op: Op, *, experiments: list[str] | None = None, filter: str = "", order_by: list[str] | None = None,
        columns: list[str] | None = None, stages: Iterable[str] = ("active",), limit: int = 100, page: str | None = None,
    ) -> RunColumns:  # fmt: skip
        """The same runs by column: only what is shown. `columns`: status, metrics.loss, params.lr, …; None: all."""
        wanted = None if columns is None else table.parse_columns(columns)
        with self._db.read() as tx:
            rows, token = self._found(tx, op, experiments, filter, order_by, stages, limit, page)
            filled = table.fill(tx, rows, wanted)
        return RunColumns(ids=[row["id"] for row in rows], columns=filled, next=token)

    def column_catalogue(
        self, op: Op, *, experiments: list[str] | None = None, filter: str = "", stages: Iterable[str] = ("active",),
        limit: int = 1000,
    ) -> table.ColumnCatalogue:  # fmt: skip
        """The params, metrics and tags that the latest `limit` of these runs have, most used first. Four queries."""
        with self._db.read() as tx:
            rows, _ = self._found(tx, op, experiments, filter, None, stages, limit, None)
            ids = [row["id"] for row in rows]
            found = [use for entity in ("metrics", "params", "tags") for use in table.uses(tx, entity, ids)]
        return table.ColumnCatalogue(runs=len(ids), items=found)

    def _found(
        self, tx: Read, op: Op, experiments: list[str] | None, filter: str, order_by: list[str] | None,
        stages: Iterable[str], limit: int, page: str | None,
    ) -> tuple[list[dict[str, Any]], str | None]:  # fmt: skip
        seen = visible(op, "run.read")
        if seen is not None:
            experiments = seen if experiments is None else [e for e in experiments if e in set(seen)]
        order = search.compile_order(parse_order(order_by or []))
        where = search.compile_filter(parse_filter(filter), tx.dialect)
        rows = store.runs(
            tx, op.workspace, where=where, order=order, after=order.after(page), limit=limit + 1, stages=sorted(set(stages)),
            experiments=experiments,
        )  # fmt: skip
        return rows[:limit], order.token(rows[limit - 1]) if len(rows) > limit else None

    def update_run(
        self, op: Op, run_id: str, *, name: str | None = None, status: str | None = None, ended_at_ms: int | None = None,
        tags: dict[str, str] | None = None,
    ) -> Run:  # fmt: skip
        """Change name, status, end or tags. Raises NotFound, Invalid (also for a deleted run), Forbidden."""
        tags = dict(check_tags(tags or {}))
        if name:
            tags[RUN_NAME_TAG] = check_value("name", name, "run name")
        version = self._version_in(op, tags)
        with self._db.write(op, shared=True) as tx:
            head = writable(tx, op, run_id)
            becomes = head.status if status is None else status_of(status)
            row = store.run_row(tx, run_id, op.workspace)
            assert row is not None
            ended = row["ended_at_ms"] if ended_at_ms is None else at_ms_of(ended_at_ms)
            if becomes in ENDED and ended is None:
                ended = op.at_ms
            if status is not None and becomes not in ENDED:
                ended = None if ended_at_ms is None else ended  # it goes on
            store.update_run(tx, run_id, name=tags.get(RUN_NAME_TAG, head.name), status=becomes, ended_at_ms=ended)
            self._put_tags(tx, head, tags, version)
            if becomes in ENDED and head.status != becomes:
                tx.emit("run.finished", Ref("run", run_id), experiment_id=head.experiment_id, status=becomes)
                tx.after_commit(lambda: self._ticks.tick(Ref("run", run_id), {"status": becomes}))
            found = store.run_row(tx, run_id, op.workspace)
            assert found is not None
            return store.runs_from(tx, [found])[0]

    def finish_run(self, op: Op, run_id: str, status: str = "FINISHED", ended_at_ms: int | None = None) -> Run:
        """End a run. Raises NotFound, Invalid, Forbidden."""
        return self.update_run(op, run_id, status=status, ended_at_ms=ended_at_ms)

    def delete_run(self, op: Op, run_id: str) -> None:
        """Put a run away; deleting it again changes nothing. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            head = run_head(tx, op, "run.delete", run_id)
            if head.stage == "active":
                store.stage_run(tx, run_id, "deleted", op.at_ms)
                tx.emit("run.deleted", Ref("run", run_id), experiment_id=head.experiment_id)

    def restore_run(self, op: Op, run_id: str) -> None:
        """Bring a run back. Raises NotFound, Invalid (its experiment is deleted), Forbidden."""
        with self._db.write(op) as tx:
            head = run_head(tx, op, "run.delete", run_id)
            if head.stage == "active":
                return
            found = store.experiment(tx, head.experiment_id, op.workspace)
            if found is None or found.stage != "active":
                raise Invalid("The experiment of this run is deleted.", where="run_id", hint="Restore the experiment first.")
            store.stage_run(tx, run_id, "active", None)
            tx.emit("run.restored", Ref("run", run_id), experiment_id=head.experiment_id)

    def add_model_history(self, op: Op, run_id: str, model_json: str) -> None:
        """Note in a tag that a run logged a model: what clients before MLflow 3 did. Raises Invalid, NotFound, Forbidden."""
        try:
            model = msgspec.json.decode(model_json, type=dict[str, Any])
        except msgspec.DecodeError as cause:
            raise Invalid("model_json is not a JSON object.", where="model_json") from cause
        known = self.run(op, run_id).tags.get(MODEL_HISTORY_TAG, "[]")
        self.set_tag(op, run_id, MODEL_HISTORY_TAG, js([*msgspec.json.decode(known, type=list[Any]), model]))
