"""Runs and their numbers.

Permission is asked on the experiment: a role on `experiment:<id>` covers its runs, files and logged models. A run that the
caller may not even read is answered like one that does not exist. Deleting puts away; purging (purge.py) removes for good.
"""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct, structs

from noria.kernel.blobs import BlobInfo, BlobStore
from noria.kernel.collector import condemn
from noria.kernel.db import Database, Read, Write, js
from noria.kernel.errors import AlreadyExists, Conflict, Invalid, NotFound, TooLarge
from noria.kernel.filters import parse_filter, parse_order
from noria.kernel.ids import ExperimentId, Ref, RunId, new_id
from noria.kernel.op import Op
from noria.kernel.paging import Page, decode_token, encode_token
from noria.kernel.ticks import Ticks
from noria.tracking import columns as table
from noria.tracking import search, store, trace_store
from noria.tracking.batch import Batch
from noria.tracking.logged_models import LoggedModels
from noria.tracking.model import (
    ARGV_TAG,
    COMMIT_TAG,
    DATASET_VERSION_TAG,
    DIFF_TAG,
    DIRTY_TAG,
    ENDED,
    ENTITIES_PER_BATCH,
    ENVIRONMENT_TAG,
    LOG_BYTES_MAX,
    LOG_CHUNK_BYTES_MAX,
    MODEL_HISTORY_TAG,
    NAME_LENGTH_MAX,
    PARAMS_PER_BATCH,
    POINTS_PER_BATCH,
    RUN_NAME_TAG,
    STATUSES,
    TAGS_PER_BATCH,
    USER_TAG,
    Artifact,
    DatasetInput,
    Experiment,
    LoggedModel,
    LogPage,
    ModelUse,
    Point,
    Run,
    RunColumns,
    check_count,
    check_key,
    check_new_run_id,
    check_path,
    check_run_id,
    check_value,
)
from noria.tracking.names import name_of
from noria.tracking.params import keep_params
from noria.tracking.preview import File, Preview, preview
from noria.tracking.purge import Purge
from noria.tracking.series import Curve, SeriesCache, between, thin
from noria.tracking.store import PointRow, RunHead

KNOWN_SERIES_MAX = 200_000  # ids of (run, key) remembered, so that a batch need not ask for them
INT64 = 1 << 63
_VERSION_ID = re.compile(r"[0-9a-f]{32}")


class HasId(Protocol):
    """Something with an id."""

    @property
    def id(self) -> str: ...


class DatasetVersions(Protocol):
    """What tracking needs of the datasets below it."""

    def version(self, op: Op, handle: str) -> HasId: ...


class Tracking:
    """The service of the slice. `models` are the logged models of runs."""

    def __init__(self, db: Database, blobs: BlobStore, ticks: Ticks, datasets: Any = None) -> None:
        self._db, self._blobs, self._ticks = db, blobs, ticks
        self._datasets: DatasetVersions | None = datasets
        self._cache = SeriesCache()
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._known_lock = threading.Lock()
        self.models = LoggedModels(db, self)
        self.purge: Purge | None = None  # set by app.py
        self.batch = Batch(db, self)
        self.mounts: dict[str, Mount] = {}  # first part of an artifact proxy path → whose files lie below it

    # --- experiments ----------------------------------------------------------------------------------------------------

    def create_experiment(self, op: Op, name: str, tags: dict[str, str] | None = None) -> Experiment:
        """Begin an experiment. Raises Invalid, AlreadyExists (also when the name belongs to a deleted one)."""
        op.require("experiment.create")
        check_experiment_name(name)
        tags = check_tags(tags or {})
        made = Experiment(
            id=ExperimentId(new_id(op.at_ms)), name=name, created_at_ms=op.at_ms, updated_at_ms=op.at_ms,
            actor=op.actor.label, tags=tags,
        )  # fmt: skip
        with self._db.write(op) as tx:
            self._check_free(tx, op, name)
            if not store.add_experiment(tx, made, op.workspace):
                self._check_free(tx, op, name)  # another writer was faster
            store.set_experiment_tags(tx, made.id, tags)
            tx.emit("experiment.created", Ref("experiment", made.id), name=name)
        return made

    def _check_free(self, tx: Read, op: Op, name: str) -> None:
        taken = store.experiment_named(tx, name, op.workspace)
        if taken:
            deleted = taken.stage == "deleted"
            raise AlreadyExists(
                f"An experiment named {name!r} exists already" + (" and is deleted." if deleted else "."),
                ref=Ref("experiment", taken.id),
                hint="Restore it, or pick another name." if deleted else "",
            )

    def experiment(self, op: Op, experiment_id: str) -> Experiment:
        """One experiment, deleted or not. Raises NotFound."""
        with self._db.read() as tx:
            found = store.experiment(tx, experiment_id, op.workspace)
        self._may(op, "experiment.read", found.id if found else None, f"There is no experiment {experiment_id[:80]!r}.")
        assert found is not None
        return found

    def experiment_by_name(self, op: Op, name: str, create: bool = False) -> Experiment:
        """The experiment called `name`; made when missing and `create`. Raises NotFound."""
        with self._db.read() as tx:
            found = store.experiment_named(tx, name, op.workspace)
        # A name that is hidden from the caller is answered like one that is free: they may begin it, or they may not.
        if create and (found is None or not op.can("experiment.read", Ref("experiment", found.id))):
            try:
                return self.create_experiment(op, name)
            except AlreadyExists:  # another writer was faster
                return self.experiment_by_name(op, name)
        self._may(op, "experiment.read", found.id if found else None, f"There is no experiment named {name[:80]!r}.")
        assert found is not None
        return found

    def experiments(
        self, op: Op, *, filter: str = "", order_by: list[str] | None = None, stages: Iterable[str] = ("active",),
        limit: int = 100, page: str | None = None,
    ) -> Page[Experiment]:  # fmt: skip
        """Experiments the caller may read, latest first unless told otherwise. Three queries. Raises Invalid."""
        ids = self._visible(op, "experiment.read")
        order = search.compile_order(parse_order(order_by or []), search.EXPERIMENTS)
        with self._db.read() as tx:
            where = search.compile_filter(parse_filter(filter), tx.dialect, search.EXPERIMENTS)
            wanted = set(stages)
            if len(wanted) == 1:
                where = search.Condition(f"{where.sql} and r.stage = :stage", {**where.params, "stage": wanted.pop()})
            rows = store.experiments(
                tx, op.workspace, where=where, order=order, after=order.after(page), limit=limit + 1, ids=ids
            )
            found = [msgspec.convert(row, Experiment) for row in rows[:limit]]
            found = store.with_experiment_tags(tx, found)
            counts = store.runs_counts(tx, [e.id for e in found])
        items = [structs.replace(e, runs_count=counts.get(e.id, 0)) for e in found]
        return Page(items, order.token(rows[limit - 1]) if len(rows) > limit else None)

    def rename_experiment(self, op: Op, experiment_id: str, name: str) -> None:
        """Give an experiment another name. Raises NotFound, Invalid, AlreadyExists, Forbidden."""
        check_experiment_name(name)
        with self._db.write(op) as tx:
            found = self._experiment_for(tx, op, "experiment.update", experiment_id)
            if found.stage != "active":
                raise Invalid(f"The experiment {found.name!r} is deleted.", where="experiment_id", hint="Restore it first.")
            if found.name == name:
                return
            self._check_free(tx, op, name)
            store.rename_experiment(tx, found.id, name, op.at_ms)
            tx.emit("experiment.renamed", Ref("experiment", found.id), name=name, was=found.name)

    def delete_experiment(self, op: Op, experiment_id: str) -> None:
        """Put an experiment and its runs away. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            found = self._experiment_for(tx, op, "experiment.delete", experiment_id)
            if found.stage == "deleted":
                raise NotFound(f"The experiment {found.name!r} is deleted already.", ref=Ref("experiment", found.id))
            store.stage_experiment(tx, found.id, "deleted", op.at_ms)
            store.stage_runs_of(tx, found.id, "deleted", op.at_ms)
            tx.emit("experiment.deleted", Ref("experiment", found.id), name=found.name)

    def restore_experiment(self, op: Op, experiment_id: str) -> None:
        """Bring an experiment back, with the runs that went with it. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            found = self._experiment_for(tx, op, "experiment.delete", experiment_id)
            if found.stage == "active":
                raise NotFound(f"The experiment {found.name!r} is not deleted.", ref=Ref("experiment", found.id))
            store.stage_runs_of(tx, found.id, "active", found.updated_at_ms)
            store.stage_experiment(tx, found.id, "active", op.at_ms)
            tx.emit("experiment.restored", Ref("experiment", found.id), name=found.name)

    def set_experiment_tags(self, op: Op, experiment_id: str, tags: dict[str, str]) -> None:
        """Set tags. Raises NotFound, Invalid, Forbidden."""
        check_tags(tags)
        with self._db.write(op) as tx:
            found = self._experiment_for(tx, op, "experiment.update", experiment_id)
            if found.stage != "active":
                raise Invalid(f"The experiment {found.name!r} is deleted.", where="experiment_id", hint="Restore it first.")
            store.set_experiment_tags(tx, found.id, tags)

    def delete_experiment_tag(self, op: Op, experiment_id: str, key: str) -> None:
        """Remove a tag. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            found = self._experiment_for(tx, op, "experiment.update", experiment_id)
            if not store.remove_experiment_tag(tx, found.id, key):
                raise NotFound(f"The experiment {found.name!r} has no tag {key[:80]!r}.")

    def _experiment_for(self, tx: Read, op: Op, action: str, experiment_id: str) -> Experiment:
        found = store.experiment(tx, experiment_id, op.workspace)
        self._may(op, action, found.id if found else None, f"There is no experiment {experiment_id[:80]!r}.")
        assert found is not None
        return found

    # --- runs -----------------------------------------------------------------------------------------------------------

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
            id=run_id, experiment_id=ExperimentId(experiment), name=name, status=_status(status), user=user,
            started_at_ms=op.at_ms if started_at_ms is None else _at_ms(started_at_ms), actor=op.actor.label, tags=tags,
        )  # fmt: skip
        version = self._version_in(op, tags)
        with self._db.write(op, shared=True) as tx:
            found = self._experiment_for(tx, op, "run.create", experiment)
            if found.stage != "active":
                raise Invalid(f"The experiment {found.name!r} is deleted.", where="experiment_id", hint="Restore it first.")
            if not store.add_run(tx, run, op.workspace):
                return self._begun_before(tx, op, run)
            store.set_tags(tx, run_id, tags)
            store.set_context(tx, run_id, _context(tags))
            self._link_version(tx, run_id, version)
            tx.emit("run.created", run.ref, experiment_id=found.id, name=name)
        return structs.replace(run, **_context(tags))

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
            self._may(op, "run.read", row["experiment_id"] if row else None, _no_run(run_id))
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
        visible = self._visible(op, "run.read")
        if visible is not None:
            experiments = visible if experiments is None else [e for e in experiments if e in set(visible)]
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
            head = self._writable(tx, op, run_id)
            becomes = head.status if status is None else _status(status)
            row = store.run_row(tx, run_id, op.workspace)
            assert row is not None
            ended = row["ended_at_ms"] if ended_at_ms is None else _at_ms(ended_at_ms)
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
            head = self._head(tx, op, "run.delete", run_id)
            if head.stage == "active":
                store.stage_run(tx, run_id, "deleted", op.at_ms)
                tx.emit("run.deleted", Ref("run", run_id), experiment_id=head.experiment_id)

    def restore_run(self, op: Op, run_id: str) -> None:
        """Bring a run back. Raises NotFound, Invalid (its experiment is deleted), Forbidden."""
        with self._db.write(op) as tx:
            head = self._head(tx, op, "run.delete", run_id)
            if head.stage == "active":
                return
            found = store.experiment(tx, head.experiment_id, op.workspace)
            if found is None or found.stage != "active":
                raise Invalid("The experiment of this run is deleted.", where="run_id", hint="Restore the experiment first.")
            store.stage_run(tx, run_id, "active", None)
            tx.emit("run.restored", Ref("run", run_id), experiment_id=head.experiment_id)

    # --- what a run says ------------------------------------------------------------------------------------------------

    def log_batch(
        self, op: Op, run_id: str, metrics: list[Point] | None = None, params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Add points, params and tags in one transaction, or nothing at all.

        A point that is there already changes nothing. Raises Invalid (limits, names, a param that would change, a deleted
        run), NotFound, Forbidden.
        """
        metrics, params, tags = metrics or [], params or {}, tags or {}
        _check_batch(len(metrics), len(params), len(tags))
        check_points(metrics)
        check_params(params)
        check_tags(tags)
        version = self._version_in(op, tags)
        with self._db.write(op, shared=True) as tx:
            head = self._writable(tx, op, run_id)
            if metrics:
                self._add_points(tx, op, head, metrics)
            if params:
                keep_params(store.add_params(tx, run_id, params), params, f"run {run_id}")
            self._put_tags(tx, head, tags, version)

    def _add_points(self, tx: Write, op: Op, head: RunHead, points: list[Point]) -> None:
        keys = sorted({p.key for p in points})
        with self._known_lock:
            ids = {key: self._known[head.id, key] for key in keys if (head.id, key) in self._known}
        new = [key for key in keys if key not in ids]
        if new:
            found = store.series_ids(tx, head.id, new)
            added = [key for key in new if key not in found]
            if added:
                found |= store.add_series(tx, head.id, added)
            ids |= found
            tx.after_commit(lambda: self._remember(head.id, found))
        # Sorted so that two writers of the same run take row locks in one order; unsorted batches deadlock on PostgreSQL.
        rows = sorted(
            (ids[p.key], p.step, p.at_ms, True, p.value) if p.value == p.value else (ids[p.key], p.step, p.at_ms, False, 0.0)
            for p in points
        )
        lasts, firsts = {row[0]: row for row in rows}, {row[0]: row for row in reversed(rows)}
        store.move_latest(tx, [(PointRow(*firsts[id_]), PointRow(*lasts[id_])) for id_ in lasts])
        store.add_points(tx, rows)
        measured = [p for p in points if p.model_id]
        if measured:
            self.models.measure(tx, op, head, measured)
        if not head.has_points and store.mark_points(tx, head.id):
            tx.emit("run.started", Ref("run", head.id), experiment_id=head.experiment_id)
        upto = max(row[1] for row in lasts.values())
        values = {key: wire_value(lasts[ids[key]][4]) if lasts[ids[key]][3] else "NaN" for key in keys}
        tx.after_commit(lambda: self._ticks.tick(Ref("run", head.id), {"step": upto, "metrics": values}))

    def forget(self, run_ids: Iterable[str]) -> None:
        """Runs were purged: what is remembered of their series is no longer true."""
        gone = set(run_ids)
        with self._known_lock:
            for known in [k for k in self._known if k[0] in gone]:
                del self._known[known]

    def forget_series(self, series_id: int) -> None:
        """A series is gone, and its id may be given out again."""
        self._cache.forget(series_id)

    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]:
        """Those of `digests` that a file of a run or a logged model has; for the collector of unused blobs."""
        return store.digests_in_use(tx, digests)

    def _remember(self, run_id: str, ids: dict[str, int]) -> None:
        with self._known_lock:
            for key, id_ in ids.items():
                self._known[run_id, key] = id_
            while len(self._known) > KNOWN_SERIES_MAX:
                self._known.popitem(last=False)

    def set_tag(self, op: Op, run_id: str, key: str, value: str) -> None:
        """Set one tag. Raises NotFound, Invalid, Forbidden."""
        self.log_batch(op, run_id, tags={key: value})

    def delete_tag(self, op: Op, run_id: str, key: str) -> None:
        """Remove a tag. Raises NotFound (also when the run has no such tag), Invalid, Forbidden."""
        with self._db.write(op) as tx:
            self._writable(tx, op, run_id)
            if not store.remove_tag(tx, run_id, key):
                raise NotFound(f"The run {run_id} has no tag {key[:80]!r}.", ref=Ref("run", run_id))

    def _put_tags(self, tx: Write, head: RunHead, tags: dict[str, str], version: str) -> None:
        if not tags:
            return
        context, name = _context(tags), tags.get(RUN_NAME_TAG)
        if name and name != head.name:
            context["name"] = name
        # The run before its tags, as in `update_run`: two writers in different orders would deadlock on PostgreSQL.
        store.set_context(tx, head.id, context)
        store.set_tags(tx, head.id, tags)
        self._link_version(tx, head.id, version)

    def log_inputs(
        self, op: Op, run_id: str, datasets: list[DatasetInput] | None = None, models: list[ModelUse] | None = None
    ) -> None:
        """Record data and models that a run read. An input that names a Noria dataset version is linked to it.

        Raises Invalid, NotFound (the run, or a `noria://` version that does not exist), Forbidden.
        """
        datasets, models = datasets or [], models or []
        if len(datasets) > ENTITIES_PER_BATCH or len(models) > ENTITIES_PER_BATCH:
            raise Invalid(f"At most {ENTITIES_PER_BATCH} inputs fit one request.", where="datasets")
        for item in datasets:
            _check_input(item)
        resolved = [structs.replace(d, dataset_version=self._version_of(op, d)) for d in datasets]
        with self._db.write(op) as tx:
            self._writable(tx, op, run_id)
            store.add_inputs(tx, run_id, resolved, op.at_ms)
            for item in resolved:
                self._link_version(tx, run_id, item.dataset_version)
            if models:
                self.models.check_exist(tx, op, [m.model_id for m in models])
                store.add_model_uses(tx, run_id, models)
                for use in models:
                    if use.direction == "input":
                        tx.link(Ref("run", run_id), "read", Ref("logged_model", use.model_id))
                    else:
                        tx.link(Ref("logged_model", use.model_id), "built_by", Ref("run", run_id))

    def dataset_summaries(self, op: Op, experiment_ids: list[str], limit: int = 1000) -> list[tuple[str, DatasetInput]]:
        """The different inputs of the runs of experiments, by experiment; experiments the caller may not read have none."""
        visible = self._visible(op, "run.read")
        wanted = experiment_ids if visible is None else [e for e in experiment_ids if e in set(visible)]
        with self._db.read() as tx:
            rows = store.dataset_summaries(tx, wanted, limit) if wanted else []
        return [
            (r["experiment_id"], DatasetInput(name=r["name"], digest=r["digest"], tags=msgspec.json.decode(r["tags"])))
            for r in rows
        ]

    def _version_of(self, op: Op, item: DatasetInput) -> str:
        """The id of the Noria dataset version that an input names, or ''. Raises NotFound when there is no such version."""
        if item.dataset_version:
            return item.dataset_version
        handle = item.tags.get(DATASET_VERSION_TAG) or noria_handle(item.source) or noria_handle(item.name)
        return self._resolve(op, handle) if handle else ""

    def _version_in(self, op: Op, tags: dict[str, str]) -> str:
        return self._resolve(op, tags[DATASET_VERSION_TAG]) if tags.get(DATASET_VERSION_TAG) else ""

    def _resolve(self, op: Op, handle: str) -> str:
        if self._datasets is None:
            raise NotFound(f"There is no dataset version {handle[:200]!r}.", hint="This server keeps no datasets.")
        named = handle.removeprefix("noria://")
        if _VERSION_ID.fullmatch(named):
            named = f"dataset_version:{named}"
        return str(self._datasets.version(op, named).id)

    def _link_version(self, tx: Write, run_id: str, version: str) -> None:
        if version:
            tx.link(Ref("run", run_id), "read", Ref("dataset_version", version))

    def add_model_history(self, op: Op, run_id: str, model_json: str) -> None:
        """Note in a tag that a run logged a model: what clients before MLflow 3 did. Raises Invalid, NotFound, Forbidden."""
        try:
            model = msgspec.json.decode(model_json, type=dict[str, Any])
        except msgspec.DecodeError as cause:
            raise Invalid("model_json is not a JSON object.", where="model_json") from cause
        known = self.run(op, run_id).tags.get(MODEL_HISTORY_TAG, "[]")
        self.set_tag(op, run_id, MODEL_HISTORY_TAG, js([*msgspec.json.decode(known, type=list[Any]), model]))

    # --- numbers --------------------------------------------------------------------------------------------------------

    def series(
        self, op: Op, run_id: str, keys: list[str] | None = None, *, buckets: int = 1000, start: int | None = None,
        end: int | None = None,
    ) -> dict[str, Curve]:  # fmt: skip
        """Curves of a run's metrics, thinned to `buckets`, over steps in [start, end]; all keys when None."""
        return self.compare(op, [run_id], keys, buckets=buckets, start=start, end=end)[run_id]

    def compare(
        self, op: Op, run_ids: list[str], keys: list[str] | None = None, *, buckets: int = 1000, start: int | None = None,
        end: int | None = None,
    ) -> dict[str, dict[str, Curve]]:  # fmt: skip
        """Curves of several runs, by run and key. Raises NotFound."""
        with self._db.read() as tx:
            self._readable(tx, op, run_ids)
            out: dict[str, dict[str, Curve]] = {run_id: {} for run_id in run_ids}
            for head in store.series_heads(tx, run_ids, keys):
                points = between(*self._cache.points(tx, head), start, end)
                out[head.run_id][head.key] = thin(*points, buckets)
        return out

    def history(self, op: Op, run_id: str, key: str, *, limit: int, page: str | None = None) -> Page[Point]:
        """Every point of one metric, in order. Raises NotFound."""
        with self._db.read() as tx:
            self._readable(tx, op, [run_id])
            heads = store.series_heads(tx, [run_id], [key])
            if not heads:
                return Page([])
            after = None if not page else _point_token(page)
            rows = store.points_page(tx, heads[0].id, after=after, limit=limit + 1)
        items = [_point(key, row) for row in rows[:limit]]
        return Page(items, _token_of(rows[limit - 1]) if len(rows) > limit else None)

    def histories(
        self, op: Op, run_ids: list[str], key: str, *, limit: int, start: int | None = None, end: int | None = None
    ) -> list[tuple[str, Point]]:
        """Up to `limit` points of one metric of each run, evenly spread when there are more, by run and step."""
        with self._db.read() as tx:
            self._readable(tx, op, run_ids)
            out: list[tuple[str, Point]] = []
            for head in store.series_heads(tx, run_ids, [key]):
                step, at_ms, value = between(*self._cache.points(tx, head), start, end)
                for i in _spread(len(step), limit):
                    point = Point(key=key, value=float(value[i]), at_ms=int(at_ms[i]), step=int(step[i]))
                    out.append((head.run_id, point))
        return out

    # --- files ----------------------------------------------------------------------------------------------------------

    def artifacts(self, op: Op, run_id: str, path: str = "", *, with_models: bool = True) -> list[Artifact]:
        """What lies in a folder of a run (or of a logged model, by its id), folders first.

        The files of the models that a run logged appear under the models' names. An unknown folder is empty.
        Raises NotFound (the run), Invalid (the path).
        """
        return one_level(self.files(op, run_id, path, with_models=with_models), path)

    def files(self, op: Op, run_id: str, path: str = "", *, with_models: bool = True) -> list[Artifact]:
        """Every file below a folder of a run or a logged model, by path. Raises NotFound, Invalid."""
        check_path(path)
        with self._db.read() as tx:
            self._owner(tx, op, run_id)
            return self._files(tx, run_id, path, with_models)

    def artifact(self, op: Op, run_id: str, path: str) -> Artifact:
        """One file of a run or a logged model. Raises NotFound, Invalid."""
        check_path(path)
        with self._db.read() as tx:
            self._owner(tx, op, run_id)
            found = store.artifact(tx, owner_of(run_id), path) if path else None
            for name, owner in self._model_roots(tx, run_id) if found is None else []:
                if path.startswith(name + "/") and found is None:
                    found = store.artifact(tx, owner, path[len(name) + 1 :])
        if found is None:
            raise NotFound(f"{owner_of(run_id)} has no artifact {path!r}.", ref=owner_of(run_id))
        return structs.replace(found, path=path)

    def open_artifact(self, op: Op, run_id: str, path: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of a file of a run or a logged model, in chunks. Raises NotFound, Invalid, Forbidden."""
        digest = self.artifact(op, run_id, path).digest
        with self._db.read() as tx:
            op.require("artifact.read", on=Ref("experiment", self._owner(tx, op, run_id)))
        return self._blobs.open(digest, start, end)

    def preview(self, op: Op, run_id: str, path: str) -> Preview:
        """A file of a run or a logged model as it can be shown. Raises NotFound, Invalid, Forbidden."""
        found = self.artifact(op, run_id, path)
        with self._db.read() as tx:
            op.require("artifact.read", on=Ref("experiment", self._owner(tx, op, run_id)))
        return preview(
            File(
                path=path, size_bytes=found.size_bytes, digest=found.digest,
                read=lambda start, end: self._blobs.open(found.digest, start, end) if end > start else iter(()),
            )
        )  # fmt: skip

    def _owner(self, tx: Read, op: Op, owner_id: str) -> str:
        """The experiment of a run or a logged model that the caller may read. Raises NotFound."""
        if owner_id.startswith("m-"):
            return self.models.head(tx, op, "run.read", owner_id).experiment_id
        return self._head(tx, op, "run.read", owner_id).experiment_id

    def put_artifact(self, op: Op, run_id: str, path: str, data: bytes | Iterable[bytes] | Path) -> Artifact:
        """Store a file of a run; one of the same path is replaced. Raises NotFound, Invalid, Forbidden."""
        check_file_path(path)
        with self._db.read() as tx:
            self._writable(tx, op, run_id, "artifact.write")
        return self._put(op, str(Ref("run", run_id)), path, self._blobs.put(data))

    def _put(self, op: Op, owner: str, path: str, stored: BlobInfo) -> Artifact:
        made = Artifact(path=path, digest=stored.digest, size_bytes=stored.size_bytes, at_ms=op.at_ms)
        with self._db.write(op, shared=True) as tx:
            if store.artifacts_below(tx, owner, path, limit=1):
                raise Invalid(f"{path!r} is a folder here.", where="path")
            for folder in _parents(path):
                if store.artifact(tx, owner, folder):
                    raise Invalid(f"{folder!r} is a file here, so {path!r} cannot lie below it.", where="path")
            was = store.artifact(tx, owner, path)
            store.put_artifact(tx, owner, made)
            if was and was.digest != made.digest:
                condemn(tx, [(was.digest, was.size_bytes)], op.at_ms)
        return made

    def delete_artifacts(self, op: Op, run_id: str, path: str = "") -> int:
        """Remove a file or a folder of a run; returns how many files went. Raises NotFound, Invalid, Forbidden."""
        check_path(path)
        with self._db.write(op) as tx:
            self._writable(tx, op, run_id, "artifact.write")
            removed = self._remove_files(tx, str(Ref("run", run_id)), path)
        if not removed and path:
            raise NotFound(f"The run {run_id} has no artifact {path!r}.", ref=Ref("run", run_id))
        return removed

    def files_at(self, op: Op, uri: str) -> list[Artifact]:
        """Every file below what a URI names, by path from there: `runs:/<id>/path`, `models:/m-<id>`, `mlflow-artifacts:/…`.

        This is how the registry reads the source of a version. Raises NotFound, Invalid.
        """
        place = self.place(op, uri)
        with self._db.read() as tx:
            found = self._files(tx, place.run_id or place.model_id, place.path, True)
        cut = len(place.path) + 1 if place.path else 0
        return [structs.replace(a, path=a.path[cut:]) for a in found]

    def place(self, op: Op, uri: str) -> Place:
        """Where a URI of MLflow's points to, checked to exist and to be readable. Raises NotFound, Invalid."""
        kind, ident, experiment_id, path = parse_uri(uri)
        found_in: str | None
        with self._db.read() as tx:
            if kind == "run":
                heads = store.run_heads(tx, [ident], op.workspace)
                found_in = heads[0].experiment_id if heads else None
            elif kind == "trace":
                found_in = trace_store.experiment_of(tx, ident, op.workspace)
            else:
                rows = store.model_rows(tx, [ident])
                found_in = rows[0]["experiment_id"] if rows else None
        self._may(
            op,
            "run.read",
            found_in if not experiment_id or found_in == experiment_id else None,
            f"There is nothing at {uri[:200]!r}.",
        )
        assert found_in is not None
        return Place(
            owner=str(Ref("logged_model" if kind == "model" else kind, ident)), experiment_id=found_in, path=path,
            run_id=ident if kind == "run" else "", model_id=ident if kind == "model" else "",
        )  # fmt: skip

    def put_at(self, op: Op, place: Place, data: bytes | Iterable[bytes] | Path) -> Artifact:
        """Store a file at a place. Raises Invalid, NotFound, Forbidden."""
        check_file_path(place.path)
        if place.run_id:
            return self.put_artifact(op, place.run_id, place.path, data)
        with self._db.read() as tx:
            self._may_write(tx, op, place)
        return self._put(op, place.owner, place.path, self._blobs.put(data))

    def list_at(self, op: Op, place: Place) -> list[Artifact]:
        """What lies in the folder at a place. In a file lies nothing: that is how MLflow's clients tell it from a folder."""
        op.require("run.read", on=Ref("experiment", place.experiment_id))
        with self._db.read() as tx:
            return one_level(store.artifacts_below(tx, place.owner, place.path), place.path)

    def open_at(self, op: Op, place: Place, start: int = 0, end: int | None = None) -> tuple[Artifact, Iterator[bytes]]:
        """The file at a place and its bytes. Raises NotFound, Forbidden."""
        op.require("artifact.read", on=Ref("experiment", place.experiment_id))
        with self._db.read() as tx:
            found = store.artifact(tx, place.owner, place.path)
        if found is None:
            raise NotFound(f"There is no file {place.path!r} in {place.owner}.")
        return found, self._blobs.open(found.digest, start, end)

    def delete_at(self, op: Op, place: Place) -> int:
        """Remove the file or folder at a place. Raises NotFound, Forbidden."""
        if place.run_id:
            return self.delete_artifacts(op, place.run_id, place.path)
        with self._db.write(op) as tx:
            self._may_write(tx, op, place)
            return self._remove_files(tx, place.owner, place.path)

    def _remove_files(self, tx: Write, owner: str, path: str) -> int:
        """Remove a file or everything below a folder; bytes that nobody needs then go after the collector's grace time."""
        found = store.artifacts_below(tx, owner, path)
        itself = store.artifact(tx, owner, path) if path else None
        condemn(tx, [(a.digest, a.size_bytes) for a in [*found, *([itself] if itself else [])]], tx.op.at_ms if tx.op else 0)
        return store.remove_artifacts(tx, owner, path)

    def _may_write(self, tx: Read, op: Op, place: Place) -> None:
        if place.model_id:
            self.models.head(tx, op, "artifact.write", place.model_id)
        else:
            op.require("artifact.write", on=Ref("experiment", place.experiment_id))

    def _files(self, tx: Read, owner_id: str, path: str, with_models: bool) -> list[Artifact]:
        """Files below a folder: the owner's, and those of the models a run logged under their names; the run's own win."""
        found = {a.path: a for a in store.artifacts_below(tx, owner_of(owner_id), path)}
        for name, owner in self._model_roots(tx, owner_id) if with_models else []:
            if path and path != name and not path.startswith(name + "/"):
                continue
            for file in store.artifacts_below(tx, owner, path[len(name) + 1 :]):
                full = f"{name}/{file.path}"
                found.setdefault(full, structs.replace(file, path=full))
        return [found[p] for p in sorted(found)]

    def _model_roots(self, tx: Read, run_id: str) -> list[tuple[str, str]]:
        """Name and owner of the logged models of a run, the newest first, so that it wins a shared name."""
        return [(row["name"], str(Ref("logged_model", row["id"]))) for row in reversed(store.models_of_run(tx, run_id))]

    # --- logs -----------------------------------------------------------------------------------------------------------

    def append_log(self, op: Op, run_id: str, text: str, offset: int | None = None) -> int:
        """Append to a run's log; returns its size in bytes. With `offset`, text that is there already is not added again.

        Raises Invalid, TooLarge, Conflict (`offset` lies beyond the end: something was lost), NotFound, Forbidden.
        """
        data = _utf8(text)
        if len(data) > LOG_CHUNK_BYTES_MAX:
            raise TooLarge(f"At most {LOG_CHUNK_BYTES_MAX >> 20} MiB of log fit one request.", hint="Send it in parts.")
        with self._db.write(op) as tx:
            self._writable(tx, op, run_id)
            store.lock_run(tx, run_id)
            size = self._writable(tx, op, run_id).log_bytes
            at = size if offset is None else offset
            if at > size or at < 0:
                raise Conflict(f"The log has {size} bytes, but the text says it starts at {at}.", hint=f"Go on from {size}.")
            data = data[size - at :]
            if not data:
                return size
            if size + len(data) > LOG_BYTES_MAX:
                raise TooLarge(
                    f"The log of run {run_id} would exceed {LOG_BYTES_MAX >> 20} MiB.",
                    hint="Keep it as an artifact instead.",
                )
            store.add_log(tx, run_id, size, _utf8_text(data), len(data), op.at_ms)
            tx.after_commit(lambda: self._ticks.tick(Ref("run", run_id), {"log_bytes": size + len(data)}))
            return size + len(data)

    def log_page(self, op: Op, run_id: str, offset: int = 0) -> LogPage:
        """A part of a run's log from `offset` bytes on; '' at the end. Raises NotFound, Invalid."""
        if offset < 0:
            raise Invalid("offset cannot be negative.", where="offset")
        with self._db.read() as tx:
            head = self._head(tx, op, "run.read", run_id)
            parts = store.log_from(tx, run_id, offset)
        data, at = bytearray(), offset
        for part in parts:
            chunk = part["content"].encode()
            data += chunk[max(0, at - part["start_byte"]) :]
            at = part["start_byte"] + part["size_bytes"]
        return LogPage(
            text=data.decode(errors="replace"), offset=offset, next_offset=at, size_bytes=head.log_bytes,
            is_ended=head.status in ENDED and at >= head.log_bytes,
        )  # fmt: skip

    def logged_model(self, op: Op, model_id: str) -> LoggedModel:
        """One logged model. Raises NotFound."""
        return self.models.get(op, model_id)

    # --- may they -------------------------------------------------------------------------------------------------------

    def _visible(self, op: Op, action: str) -> list[str] | None:
        """Ids of the experiments in which the actor may do `action`; None means all. Raises when there are none."""
        scopes = op.visible(action)
        if scopes is None:
            return None
        found = [scope.removeprefix("experiment:") for scope in scopes if scope.startswith("experiment:")]
        if not found:
            op.require(action)
        return found

    def _may(self, op: Op, action: str, experiment_id: str | None, absent: str) -> None:
        """Raises NotFound(absent) when it is not there or not the caller's to know, Forbidden when the act is not theirs."""
        if experiment_id is not None and op.can(action, Ref("experiment", experiment_id)):
            return
        visible = self._visible(op, "run.read" if action.startswith(("run.", "artifact.")) else "experiment.read")
        if experiment_id is not None and (visible is None or experiment_id in visible):
            op.require(action, Ref("experiment", experiment_id))
        op.asked.add(action)
        raise NotFound(absent)

    def _head(self, tx: Read, op: Op, action: str, run_id: str) -> RunHead:
        check_run_id(run_id)
        head = store.run_head(tx, run_id, op.workspace)
        self._may(op, action, head.experiment_id if head else None, _no_run(run_id))
        assert head is not None
        return head

    def _writable(self, tx: Read, op: Op, run_id: str, action: str = "run.log") -> RunHead:
        head = self._head(tx, op, action, run_id)
        if head.stage != "active":
            raise Invalid(
                f"The run {run_id} must be in the 'active' state. Current state is 'deleted'.", where="run_id",
                hint="Restore it first.",
            )  # fmt: skip
        return head

    def _readable(self, tx: Read, op: Op, run_ids: list[str]) -> list[RunHead]:
        """Heads of runs that must all be there and readable, in any order."""
        heads = {head.id: head for head in store.run_heads(tx, run_ids, op.workspace)}
        for run_id in run_ids:
            head = heads.get(RunId(run_id))
            self._may(op, "run.read", head.experiment_id if head else None, _no_run(run_id))
        return list(heads.values())


class Mount(Protocol):
    """Files of a higher slice that the artifact proxy shows, read only. The registry mounts the files of versions."""

    def list_files(self, op: Op, path: str) -> list[Artifact]: ...
    def open_path(self, op: Op, path: str) -> tuple[Artifact, Iterator[bytes]]: ...


class Place(Struct, frozen=True, kw_only=True):
    """A path below the files of a run, of a logged model or of a trace."""

    owner: str
    experiment_id: str
    path: str
    run_id: str = ""
    model_id: str = ""


def owner_of(owner_id: str) -> str:
    """Whose files they are: `run:…`, or `logged_model:m-…`, whose ids tell them apart."""
    return str(Ref("logged_model" if owner_id.startswith("m-") else "run", owner_id))


# --- rules --------------------------------------------------------------------------------------------------------------


def wire_value(value: Any) -> Any:
    """A number as JSON can hold it: NaN and the infinities become MLflow's words for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
    return value


def check_experiment_name(name: str) -> str:
    if not name.strip():
        raise Invalid("An experiment needs a name.", where="name")
    if len(name) > NAME_LENGTH_MAX:
        raise Invalid(f"The name has {len(name)} characters; at most {NAME_LENGTH_MAX} are allowed.", where="name")
    if any(c < " " or c == "\x7f" for c in name):
        raise Invalid("The name of an experiment cannot contain control characters.", where="name")
    return name


def check_tags(tags: dict[str, str]) -> dict[str, str]:
    check_count(tags, "tag")
    for key, value in tags.items():
        check_value(check_key(key, "tag"), value, "tag")
    return tags


def check_params(params: dict[str, str]) -> dict[str, str]:
    for key, value in params.items():
        check_value(check_key(key, "param"), value, "param")
    return params


def check_points(points: list[Point]) -> None:
    """Names, times and steps that both databases can hold exactly. Raises Invalid."""
    for key in {p.key for p in points}:
        check_key(key, "metric")
    steps, times = [p.step for p in points], [p.at_ms for p in points]
    if not points or (min(steps) >= -INT64 and max(steps) < INT64 and min(times) >= 0 and max(times) < INT64):
        return  # as nearly always, and quicker asked of all at once
    for point in points:
        if not (-INT64 <= point.step < INT64 and 0 <= point.at_ms < INT64):
            raise Invalid(
                f"The step of {point.key!r} must be an integer of 64 bits, its time milliseconds since 1970 within 64 bits.",
                where="step" if 0 <= point.at_ms < INT64 else "timestamp",
            )


def _check_batch(points: int, params: int, tags: int) -> None:
    for count, most, what in (
        (points, POINTS_PER_BATCH, "metrics"), (params, PARAMS_PER_BATCH, "params"), (tags, TAGS_PER_BATCH, "tags"),
        (points + params + tags, ENTITIES_PER_BATCH, "metrics, params, and tags"),
    ):  # fmt: skip
        if count > most:
            raise Invalid(
                f"A batch logging request can contain at most {most} {what}. Got {count}.", where=what.split(",")[0],
                hint="Send it in several requests.",
            )  # fmt: skip


def _check_input(item: DatasetInput) -> None:
    if not item.name or len(item.name) > NAME_LENGTH_MAX:
        raise Invalid(f"The name of a dataset has 1 to {NAME_LENGTH_MAX} characters.", where="datasets.name")
    if not item.digest or len(item.digest) > 128:
        raise Invalid("The digest of a dataset has 1 to 128 characters.", where="datasets.digest")
    for text, most, what in (
        (item.schema, 1 << 20, "schema"),
        (item.source, 1 << 16, "source"),
        (item.profile, 1 << 24, "profile"),
    ):
        if len(text) > most:
            raise Invalid(f"The {what} of a dataset has at most {most} characters.", where=f"datasets.{what}")
    for key, value in item.tags.items():
        if len(key) > 255 or len(value) > 500:
            raise Invalid("A tag of an input has at most 255 characters of key and 500 of value.", where="datasets.tags")


def _status(status: str) -> Any:
    if status not in STATUSES:
        raise Invalid(f"{status[:80]!r} is not the status of a run.", where="status", hint=f"Known: {', '.join(STATUSES)}.")
    return status


def _at_ms(at_ms: int) -> int:
    if not 0 <= at_ms < INT64:
        raise Invalid("A time is milliseconds since 1970 within 64 bits.", where="time")
    return at_ms


def _context(tags: dict[str, str]) -> dict[str, Any]:
    """What tags say of a run's source, as columns."""
    columns: dict[str, Any] = {
        "source_commit": tags.get(COMMIT_TAG), "source_diff_digest": tags.get(DIFF_TAG), "argv": tags.get(ARGV_TAG),
        "environment_digest": tags.get(ENVIRONMENT_TAG),
        "source_dirty": tags[DIRTY_TAG].lower() in ("true", "1", "yes") if DIRTY_TAG in tags else None,
    }  # fmt: skip
    return {name: value for name, value in columns.items() if value is not None}


def noria_handle(text: str) -> str:
    """The handle in `noria://flights@3`, also inside a source written as JSON (`{"url": "noria://…"}`); '' if none."""
    if text.startswith("noria://"):
        return text
    if "noria://" not in text or not text.startswith("{"):
        return ""
    try:
        fields = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return ""
    return next((v for v in fields.values() if isinstance(v, str) and v.startswith("noria://")), "")


def parse_uri(uri: str) -> tuple[str, str, str, str]:
    """(run | model | trace, its id, experiment id or '', path) of a URI of MLflow's. Raises Invalid."""
    scheme, _, rest = uri.partition(":")
    rest = rest.lstrip("/").rstrip("/")
    parts = rest.split("/") if rest else []
    if scheme in ("runs", "run") and parts:
        check_path(path := "/".join(parts[1:]))
        return "run", check_run_id(parts[0]), "", path
    if scheme == "models" and parts and parts[0].startswith("m-"):
        check_path(path := "/".join(parts[1:]))
        return "model", check_run_id(parts[0]), "", path
    if scheme == "mlflow-artifacts":
        return parse_place("/".join(parts))
    raise Invalid(
        f"{uri[:200]!r} does not name files that Noria keeps.", where="uri",
        hint="Use runs:/<run id>/<path>, models:/<logged model id> or mlflow-artifacts:/…",
    )  # fmt: skip


def parse_place(path: str) -> tuple[str, str, str, str]:
    """The same for MLflow's artifact proxy: `<experiment>/<run>/artifacts/…`, `<experiment>/models/<id>/artifacts/…`."""
    check_path(path)
    parts = path.split("/")
    if len(parts) >= 4 and parts[1] == "models" and parts[3] == "artifacts":
        return "model", check_run_id(parts[2]), parts[0], "/".join(parts[4:])
    if len(parts) >= 4 and parts[1] == "traces" and parts[3] == "artifacts":
        return "trace", check_run_id(parts[2]), parts[0], "/".join(parts[4:])
    if len(parts) >= 3 and parts[2] == "artifacts":
        return "run", check_run_id(parts[1]), parts[0], "/".join(parts[3:])
    raise NotFound(
        f"There are no artifacts at {path[:200]!r}.",
        hint="They lie at <experiment>/<run>/artifacts/… or <experiment>/models/<logged model>/artifacts/…",
    )


def check_file_path(path: str) -> str:
    """`path` if a file can have it: not the root. Raises Invalid."""
    if not check_path(path):
        raise Invalid("An artifact needs a path.", where="path")
    return path


def one_level(files: list[Artifact], folder: str) -> list[Artifact]:
    """The files directly in `folder` and its folders with the sum of their sizes, by path."""
    cut = len(folder) + 1 if folder else 0
    found: dict[str, Artifact] = {}
    for file in files:
        first, slash, _ = file.path[cut:].partition("/")
        path = file.path[:cut] + first
        if not slash:
            found[path] = file
        else:
            known = found.get(path) or Artifact(path=path, is_dir=True)
            found[path] = structs.replace(
                known, size_bytes=known.size_bytes + file.size_bytes, at_ms=max(known.at_ms, file.at_ms)
            )
    return sorted(found.values(), key=lambda a: (not a.is_dir, a.path))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]


def _no_run(run_id: str) -> str:
    return f"There is no run {run_id[:80]!r}."


def _point(key: str, row: dict[str, Any]) -> Point:
    value = float("nan") if row["is_nan"] else float(row["value"])
    return Point(key=key, value=value, at_ms=row["at_ms"], step=row["step"])


def _token_of(row: dict[str, Any]) -> str:
    return encode_token(row["step"], row["at_ms"], 0 if row["is_nan"] else 1, repr(float(row["value"])))


def _point_token(page: str) -> list[Any]:
    step, at_ms, real, value = decode_token(page, size=4)
    try:
        number = float(value)
    except (TypeError, ValueError) as cause:
        raise Invalid("The page token belongs to another list.", where="page", hint="Start again without it.") from cause
    if not all(isinstance(v, int) for v in (step, at_ms, real)):
        raise Invalid("The page token belongs to another list.", where="page", hint="Start again without it.")
    return [step, at_ms, real, number]


def _spread(count: int, limit: int) -> list[int]:
    """Indices of at most `limit` of `count` things, evenly spread, first and last among them."""
    if count <= limit:
        return list(range(count))
    if limit == 1:
        return [count - 1]
    return [i * (count - 1) // (limit - 1) for i in range(limit)]


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as cause:
        raise Invalid("The text is not valid Unicode.", where="text", hint="Remove the lone surrogate.") from cause


def _utf8_text(data: bytes) -> str:
    """What is left of a text after its known beginning; a cut inside a character cannot be."""
    try:
        return data.decode()
    except UnicodeDecodeError as cause:
        raise Invalid("offset lies inside a character.", where="offset") from cause
