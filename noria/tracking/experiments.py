"""Experiments: what runs belong to."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import structs

from noria.kernel.db import Database, Read
from noria.kernel.errors import AlreadyExists, Invalid, NotFound
from noria.kernel.filters import parse_filter, parse_order
from noria.kernel.ids import ExperimentId, Ref, new_id
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.tracking import search, store
from noria.tracking.model import Experiment
from noria.tracking.rules import check_experiment_name, check_tags
from noria.tracking.sight import experiment_for, may, visible


class Experiments:
    """Part of the tracking service."""

    _db: Database

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
        may(op, "experiment.read", found.id if found else None, f"There is no experiment {experiment_id[:80]!r}.")
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
        may(op, "experiment.read", found.id if found else None, f"There is no experiment named {name[:80]!r}.")
        assert found is not None
        return found

    def experiments(
        self, op: Op, *, filter: str = "", order_by: list[str] | None = None, stages: Iterable[str] = ("active",),
        limit: int = 100, page: str | None = None,
    ) -> Page[Experiment]:  # fmt: skip
        """Experiments the caller may read, latest first unless told otherwise. Three queries. Raises Invalid."""
        ids = visible(op, "experiment.read")
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
            found = experiment_for(tx, op, "experiment.update", experiment_id)
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
            found = experiment_for(tx, op, "experiment.delete", experiment_id)
            if found.stage == "deleted":
                raise NotFound(f"The experiment {found.name!r} is deleted already.", ref=Ref("experiment", found.id))
            store.stage_experiment(tx, found.id, "deleted", op.at_ms)
            store.stage_runs_of(tx, found.id, "deleted", op.at_ms)
            tx.emit("experiment.deleted", Ref("experiment", found.id), name=found.name)

    def restore_experiment(self, op: Op, experiment_id: str) -> None:
        """Bring an experiment back, with the runs that went with it. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            found = experiment_for(tx, op, "experiment.delete", experiment_id)
            if found.stage == "active":
                raise NotFound(f"The experiment {found.name!r} is not deleted.", ref=Ref("experiment", found.id))
            store.stage_runs_of(tx, found.id, "active", found.updated_at_ms)
            store.stage_experiment(tx, found.id, "active", op.at_ms)
            tx.emit("experiment.restored", Ref("experiment", found.id), name=found.name)

    def set_experiment_tags(self, op: Op, experiment_id: str, tags: dict[str, str]) -> None:
        """Set tags. Raises NotFound, Invalid, Forbidden."""
        check_tags(tags)
        with self._db.write(op) as tx:
            found = experiment_for(tx, op, "experiment.update", experiment_id)
            if found.stage != "active":
                raise Invalid(f"The experiment {found.name!r} is deleted.", where="experiment_id", hint="Restore it first.")
            store.set_experiment_tags(tx, found.id, tags)

    def delete_experiment_tag(self, op: Op, experiment_id: str, key: str) -> None:
        """Remove a tag. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            found = experiment_for(tx, op, "experiment.update", experiment_id)
            if not store.remove_experiment_tag(tx, found.id, key):
                raise NotFound(f"The experiment {found.name!r} has no tag {key[:80]!r}.")
