"""The logged models of runs: what MLflow 3's `log_model` makes. Files lie under the model, not under the run.

Invariant: a model that is ready keeps its files; its params never change.
"""

from __future__ import annotations

from msgspec import structs

from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.filters import OrderBy, parse_filter
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.tracking import search, store
from noria.tracking.model import (
    MODEL_STATUSES,
    LoggedModel,
    ModelUse,
    Point,
    check_count,
    check_key,
    check_value,
)
from noria.tracking.names import name_of
from noria.tracking.params import keep_params
from noria.tracking.sight import experiment_for, may, readable, visible, writable
from noria.tracking.store import RunHead

_BAD_IN_NAME = frozenset("/:.%\"'\\")  # MLflow's rule, and the backslash


class LoggedModels:
    """Part of the tracking service."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(
        self, op: Op, experiment_id: str, *, name: str = "", run_id: str = "", model_type: str = "",
        tags: dict[str, str] | None = None, params: dict[str, str] | None = None,
    ) -> LoggedModel:  # fmt: skip
        """Begin a model; it is pending until finalized. Raises NotFound, Invalid, Forbidden."""
        made_id = new_id(op.at_ms)
        name = check_model_name(name or name_of(made_id))
        tags, params = _checked(tags or {}, "tag"), _checked(params or {}, "param")
        with self._db.write(op) as tx:
            if run_id:
                head = writable(tx, op, run_id)
                if head.experiment_id != experiment_id:
                    raise Invalid(f"The run {run_id} is in experiment {head.experiment_id}.", where="experiment_id")
            experiment = experiment_for(tx, op, "run.log", experiment_id)
            model = LoggedModel(
                id=f"m-{made_id}", experiment_id=experiment.id, name=name, model_type=model_type, source_run_id=run_id,
                created_at_ms=op.at_ms, updated_at_ms=op.at_ms, actor=op.actor.label, tags=tags, params=params,
            )  # fmt: skip
            store.add_model(tx, model)
            store.set_model_tags(tx, model.id, tags)
            if params:
                store.add_model_params(tx, model.id, params)
            if run_id:
                store.add_model_uses(tx, run_id, [ModelUse(model_id=model.id, direction="output")])
                tx.link(model.ref, "built_by", Ref("run", run_id))
            tx.emit("logged_model.created", model.ref, experiment_id=experiment.id, name=name, run_id=run_id)
        return model

    def get(self, op: Op, model_id: str, *, allow_deleted: bool = False) -> LoggedModel:
        """One logged model. Raises NotFound."""
        with self._db.read() as tx:
            found = self.head(tx, op, "run.read", model_id, allow_deleted=allow_deleted)
            rows = store.model_rows(tx, [found.id])
            return store.models_from(tx, rows)[0]

    def of_run(self, op: Op, run_id: str) -> list[LoggedModel]:
        """The logged models of a run, oldest first. Raises NotFound."""
        with self._db.read() as tx:
            readable(tx, op, [run_id])
            return store.models_from(tx, store.models_of_run(tx, run_id))

    def search(
        self, op: Op, experiment_ids: list[str], *, filter: str = "", order_by: list[OrderBy] | None = None,
        limit: int = 100, page: str | None = None,
    ) -> Page[LoggedModel]:  # fmt: skip
        """Logged models of experiments, latest first unless told otherwise. Raises Invalid."""
        seen = visible(op, "run.read")
        wanted = experiment_ids if seen is None else [e for e in experiment_ids if e in set(seen)]
        order = search.compile_order(order_by or [], search.MODELS)
        with self._db.read() as tx:
            where = search.compile_filter(parse_filter(filter), tx.dialect, search.MODELS)
            rows = store.models_of_experiments(
                tx, wanted, where=where, order=order, after=order.after(page), limit=limit + 1
            )
            return Page(store.models_from(tx, rows[:limit]), order.token(rows[limit - 1]) if len(rows) > limit else None)

    def finalize(self, op: Op, model_id: str, status: str) -> LoggedModel:
        """Say that a model is ready, or that its upload failed. Raises NotFound, Invalid, Forbidden."""
        if status not in MODEL_STATUSES:
            raise Invalid(f"{status[:80]!r} is not the status of a logged model.", where="status")
        with self._db.write(op) as tx:
            found = self.head(tx, op, "run.log", model_id)
            store.set_model_status(tx, found.id, status, op.at_ms)
            return store.models_from(tx, store.model_rows(tx, [found.id]))[0]

    def delete(self, op: Op, model_id: str) -> None:
        """Put a logged model away; again changes nothing. Raises NotFound, Conflict (something needs it), Forbidden."""
        from noria.kernel.edges import require_unprotected

        with self._db.write(op) as tx:
            found = self.head(tx, op, "run.delete", model_id, allow_deleted=True)
            if found.stage == "deleted":
                return
            require_unprotected(tx, found.ref)
            store.stage_model(tx, found.id, "deleted", op.at_ms)
            tx.emit("logged_model.deleted", found.ref, experiment_id=found.experiment_id)

    def restore(self, op: Op, model_id: str) -> None:
        """Bring a logged model back; one that is there stays as it is. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            found = self.head(tx, op, "run.delete", model_id, allow_deleted=True)
            if found.stage == "deleted":
                store.stage_model(tx, found.id, "active", op.at_ms)
                tx.emit("logged_model.restored", found.ref, experiment_id=found.experiment_id)

    def set_tags(self, op: Op, model_id: str, tags: dict[str, str]) -> LoggedModel:
        """Set tags. Raises NotFound, Invalid, Forbidden."""
        _checked(tags, "tag")
        with self._db.write(op) as tx:
            found = self.head(tx, op, "run.log", model_id)
            store.set_model_tags(tx, found.id, tags)
            return store.models_from(tx, store.model_rows(tx, [found.id]))[0]

    def delete_tag(self, op: Op, model_id: str, key: str) -> None:
        """Remove a tag. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            found = self.head(tx, op, "run.log", model_id)
            if not store.remove_model_tag(tx, found.id, key):
                raise NotFound(f"The logged model {found.id} has no tag {key[:80]!r}.")

    def log_params(self, op: Op, model_id: str, params: dict[str, str]) -> None:
        """Add params; one that is there cannot change. Raises NotFound, Invalid, Forbidden."""
        _checked(params, "param")
        with self._db.write(op) as tx:
            found = self.head(tx, op, "run.log", model_id)
            keep_params(store.add_model_params(tx, found.id, params), params, f"model {found.id}")

    def measure(self, tx: Write, op: Op, head: RunHead, points: list[Point]) -> None:
        """Keep numbers that a run measured on logged models, in the caller's transaction. Raises NotFound."""
        self.check_exist(tx, op, sorted({p.model_id for p in points}))
        store.add_model_points(tx, head.id, points)

    def check_exist(self, tx: Read, op: Op, model_ids: list[str]) -> None:
        """Raises NotFound naming the first model that is not there."""
        known = {row["id"]: row for row in store.model_rows(tx, model_ids)}
        for model_id in model_ids:
            row = known.get(model_id)
            may(op, "run.read", row["experiment_id"] if row else None, _absent(model_id))

    def head(self, tx: Read, op: Op, action: str, model_id: str, *, allow_deleted: bool = False) -> LoggedModel:
        """The row of a model on which the caller may do `action`. Raises NotFound, Forbidden."""
        rows = store.model_rows(tx, [model_id])
        found = rows[0] if rows and (allow_deleted or rows[0]["stage"] == "active") else None
        may(op, action, found["experiment_id"] if found else None, _absent(model_id))
        assert found is not None
        return structs.replace(LoggedModel(**found))


def _absent(model_id: str) -> str:
    return f"There is no logged model {model_id[:80]!r}."


def check_model_name(name: str) -> str:
    """`name` if a logged model can have it. Raises Invalid."""
    if len(name) > 250 or any(c in _BAD_IN_NAME or c < " " for c in name):
        raise Invalid(
            f"{name[:80]!r} cannot be the name of a logged model.", where="name",
            hint="It has at most 250 characters, without / : . % \\ and quotes.",
        )  # fmt: skip
    return name


def _checked(pairs: dict[str, str], what: str) -> dict[str, str]:
    check_count(pairs, what)
    for key, value in pairs.items():
        check_value(check_key(key, what), value, what)
    return pairs
