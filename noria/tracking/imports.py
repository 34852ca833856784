"""Runs and logged models that come from elsewhere, with the ids and times they had there.

    begin ──▶ points, params, tags and files, by the ordinary requests ──▶ seal

Sealing compares what is there with what the importer says it sent, and only then marks the thing as complete, in the same
transaction; so a run with that mark is whole, whatever was killed when. Every request may be repeated. No fact of a beginning
or an end is written, since neither happens now: nothing that waits for a run to finish is set off by history.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import structs

from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from noria.kernel.ids import ExperimentId, Ref, RunId, new_id
from noria.kernel.op import Op
from noria.tracking import imports_store, store
from noria.tracking.import_model import (
    IMPORT_TAGS,
    SEALED_TAG,
    SOURCE_TAG,
    Begun,
    Counts,
    ImportedExperiment,
    ImportedModel,
    ImportedNumbers,
    ImportedRun,
    SealModel,
    SealRun,
)
from noria.tracking.inputs import Inputs, named_by
from noria.tracking.logged_models import check_model_name
from noria.tracking.model import (
    DATASET_VERSION_TAG,
    ENDED,
    ENTITIES_PER_BATCH,
    POINTS_PER_BATCH,
    RUN_NAME_TAG,
    USER_TAG,
    DatasetInput,
    Experiment,
    LoggedModel,
    Point,
    Run,
    check_count,
    check_key,
    check_new_run_id,
    check_run_id,
    check_value,
)
from noria.tracking.names import name_of
from noria.tracking.params import keep_params
from noria.tracking.rules import (
    at_ms_of,
    check_experiment_name,
    check_input,
    check_params,
    check_points,
    check_tags,
    context_of,
    status_of,
)
from noria.tracking.sight import experiment_for, may, run_head

SOURCE_LENGTH_MAX = 2_000


class Imports:
    """Part of the tracking service."""

    def __init__(self, db: Database, inputs: Inputs) -> None:
        self._db, self._inputs = db, inputs

    # --- experiments ----------------------------------------------------------------------------------------------------

    def experiment(self, op: Op, wanted: ImportedExperiment) -> Experiment:
        """The experiment of this name, made with its old times when there is none; tags it lacks are added.

        One that is put away is given back as it is. Raises Invalid, Forbidden.
        """
        check_experiment_name(wanted.name)
        tags = {k: v for k, v in check_tags(wanted.tags).items() if k not in IMPORT_TAGS}
        created, updated = at_ms_of(wanted.created_at_ms), at_ms_of(wanted.updated_at_ms)
        with self._db.write(op) as tx:
            found = store.experiment_named(tx, wanted.name, op.workspace)
            # A name that is hidden from the caller is answered like one that is free.
            if found is None or not op.can("experiment.read", Ref("experiment", found.id)):
                op.require("experiment.create")
                if found is not None:
                    raise AlreadyExists(f"An experiment named {wanted.name!r} exists already.")
                found = Experiment(
                    id=ExperimentId(new_id(op.at_ms)), name=wanted.name, created_at_ms=created, updated_at_ms=updated,
                    actor=op.actor.label,
                )  # fmt: skip
                op.require("run.import", on=Ref("experiment", found.id))
                if not store.add_experiment(tx, found, op.workspace):
                    raise Conflict(f"Another import has just begun the experiment {wanted.name!r}.", hint="Import again.")
                imports_store.set_experiment_times(tx, found.id, created, updated)
                tx.emit("experiment.created", Ref("experiment", found.id), name=wanted.name)
            else:
                op.require("run.import", on=Ref("experiment", found.id))
            if found.stage == "active":
                store.set_experiment_tags(tx, found.id, {k: v for k, v in tags.items() if k not in found.tags})
            return structs.replace(found, tags={**tags, **found.tags})

    # --- runs -----------------------------------------------------------------------------------------------------------

    def begin_run(self, op: Op, wanted: ImportedRun) -> Begun:
        """Begin a run that has an id and a past, or go on with one that an import began.

        Raises Invalid, NotFound, Forbidden, AlreadyExists (the id belongs to a run that no import began).
        """
        run = self._checked_run(op, wanted)
        inputs, left_out = self._known_versions(op, wanted.inputs)
        version = self._known_version(op, run.tags.get(DATASET_VERSION_TAG, ""), left_out)
        with self._db.write(op, shared=True) as tx:
            experiment = _active(tx, op, wanted.experiment_id)
            is_new = store.add_run(tx, run, op.workspace)
            if not is_new:
                self._require_same(tx, op, run)
                tags = store.runs_from(tx, [_row(tx, op, run.id)])[0].tags
                head = run_head(tx, op, "run.import", run.id)
                if SEALED_TAG in tags or head.stage != "active":
                    return Begun(
                        id=run.id,
                        is_new=False,
                        is_sealed=SEALED_TAG in tags,
                        stage="active" if head.stage == "active" else "deleted",
                    )
            store.mark_points(tx, run.id)  # its first number is no news
            store.set_context(tx, run.id, context_of(run.tags))
            store.set_tags(tx, run.id, run.tags)
            if run.params:
                keep_params(store.add_params(tx, run.id, run.params), run.params, f"run {run.id}")
            store.add_inputs(tx, run.id, inputs, run.started_at_ms)
            for named in {version, *(i.dataset_version for i in inputs)} - {""}:
                tx.link(run.ref, "read", Ref("dataset_version", named))
            left_out += self._use_models(tx, run, wanted)
            if is_new:
                tx.emit("run.imported", run.ref, experiment_id=experiment.id, name=run.name, source=wanted.source)
        return Begun(id=run.id, is_new=is_new, is_sealed=False, stage="active", left_out=left_out)

    def _checked_run(self, op: Op, wanted: ImportedRun) -> Run:
        tags = {k: v for k, v in check_tags(dict(wanted.tags)).items() if k not in IMPORT_TAGS}
        check_count(wanted.params, "param")
        check_params(wanted.params)
        run_id = RunId(check_new_run_id(wanted.id))
        name = wanted.name or tags.get(RUN_NAME_TAG, "") or name_of(run_id)
        tags |= {RUN_NAME_TAG: check_value("name", name, "run name"), SOURCE_TAG: _source(wanted.source)}
        return Run(
            id=run_id, experiment_id=ExperimentId(wanted.experiment_id), name=name, status="RUNNING",
            user=wanted.user or tags.get(USER_TAG, ""), started_at_ms=at_ms_of(wanted.started_at_ms), actor=op.actor.label,
            tags=tags, params=wanted.params,
        )  # fmt: skip

    def _require_same(self, tx: Read, op: Op, run: Run) -> None:
        row = _row(tx, op, run.id)
        was_imported = SOURCE_TAG in store.runs_from(tx, [row])[0].tags
        if not was_imported or row["started_at_ms"] != run.started_at_ms or row["experiment_id"] != run.experiment_id:
            raise AlreadyExists(
                f"There is already a run {run.id}, and it is another one.", hint="It was not begun by this import."
            )

    def _use_models(self, tx: Write, run: Run, wanted: ImportedRun) -> list[str]:
        """Keep which models a run read and wrote; returns a sentence for each that is not here."""
        known = imports_store.models_among(tx, wanted.models)
        uses = [use for use in wanted.models if use.model_id in known]
        store.add_model_uses(tx, run.id, uses)
        for use in uses:
            if use.direction == "input":
                tx.link(run.ref, "read", Ref("logged_model", use.model_id))
            else:
                tx.link(Ref("logged_model", use.model_id), "built_by", run.ref)
        return [f"its logged model {m} is not here" for m in sorted({u.model_id for u in wanted.models} - known)]

    def _known_versions(self, op: Op, inputs: list[DatasetInput]) -> tuple[list[DatasetInput], list[str]]:
        """Inputs with the dataset versions of this server that they name, and a sentence for each that is not here."""
        if len(inputs) > ENTITIES_PER_BATCH:
            raise Invalid(f"At most {ENTITIES_PER_BATCH} inputs fit one request.", where="inputs")
        left_out, kept = list[str](), list[DatasetInput]()
        for item in inputs:
            check_input(item)
            handle = f"dataset_version:{item.dataset_version}" if item.dataset_version else named_by(item)
            kept.append(structs.replace(item, dataset_version=self._known_version(op, handle, left_out)))
        return kept, left_out

    def _known_version(self, op: Op, handle: str, left_out: list[str]) -> str:
        """The id of the dataset version that `handle` names here, or '': what was elsewhere need not be here."""
        if not handle:
            return ""
        try:
            return self._inputs.resolve(op, handle)
        except (NotFound, Forbidden, Invalid):
            left_out.append(f"the dataset version {handle[:200]} that it read is not here, so it is kept as a name only")
            return ""

    def seal_run(self, op: Op, run_id: str, wish: SealRun) -> Counts:
        """Say how a run ended, once it is found to be whole; returns what it consists of.

        Raises Conflict when something is missing, NotFound, Invalid, Forbidden.
        """
        status_of(wish.status)
        with self._db.read() as tx:  # counting a million points is no work for a transaction that others wait for
            run_head(tx, op, "run.import", run_id)
            counted = imports_store.run_counts(tx, run_id)
        _require_whole(counted, wish.expect, f"run {run_id}")
        with self._db.write(op, shared=True) as tx:
            head = run_head(tx, op, "run.import", run_id)
            _require_imported(store.runs_from(tx, [_row(tx, op, run_id)])[0].tags, f"run {run_id}")
            if head.stage == "deleted":
                return counted
            ended = wish.ended_at_ms
            if wish.status in ENDED and ended is None:
                ended = _row(tx, op, run_id)["started_at_ms"]
            imports_store.seal_run(
                tx, run_id, status=wish.status, ended_at_ms=None if ended is None else at_ms_of(ended), stage=wish.stage,
                deleted_at_ms=(wish.deleted_at_ms or op.at_ms) if wish.stage == "deleted" else None,
            )  # fmt: skip
            if wish.is_complete:
                store.set_tags(tx, run_id, {SEALED_TAG: _moment(op.at_ms)})
        return counted

    # --- logged models --------------------------------------------------------------------------------------------------

    def begin_model(self, op: Op, wanted: ImportedModel) -> Begun:
        """Begin a logged model that has an id and a past, or go on with it. Its run may come later.

        Raises Invalid, NotFound, Forbidden, AlreadyExists (the id belongs to a model that no import began).
        """
        check_run_id(wanted.id)
        if not wanted.id.startswith("m-"):
            raise Invalid(f"{wanted.id[:80]!r} cannot be the id of a logged model: it begins with m-.", where="id")
        if wanted.source_run_id:
            check_run_id(wanted.source_run_id)
        tags = {k: v for k, v in check_tags(dict(wanted.tags)).items() if k not in IMPORT_TAGS}
        check_count(wanted.params, "param")
        for key, value in wanted.params.items():
            check_value(check_key(key, "param"), value, "param")
        made = LoggedModel(
            id=wanted.id, experiment_id=ExperimentId(wanted.experiment_id), name=check_model_name(wanted.name or name_of(wanted.id)),
            model_type=wanted.model_type, source_run_id=wanted.source_run_id, created_at_ms=at_ms_of(wanted.created_at_ms),
            updated_at_ms=at_ms_of(wanted.updated_at_ms), actor=op.actor.label, tags=tags | {SOURCE_TAG: _source(wanted.source)},
            params=wanted.params,
        )  # fmt: skip
        with self._db.write(op) as tx:
            experiment = _active(tx, op, wanted.experiment_id)
            rows = store.model_rows(tx, [made.id])
            if rows:
                was = store.models_from(tx, rows)[0]
                if SOURCE_TAG not in was.tags or was.experiment_id != made.experiment_id:
                    raise AlreadyExists(f"There is already a logged model {made.id}, and it is another one.")
                if SEALED_TAG in was.tags:
                    return Begun(id=made.id, is_new=False, is_sealed=True, stage=was.stage)
            else:
                store.add_model(tx, made)
                tx.emit("logged_model.imported", made.ref, experiment_id=experiment.id, name=made.name, source=wanted.source)
            store.set_model_tags(tx, made.id, made.tags)
            if made.params:
                keep_params(store.add_model_params(tx, made.id, made.params), made.params, f"model {made.id}")
            if made.source_run_id:
                tx.link(made.ref, "built_by", Ref("run", made.source_run_id))
        return Begun(id=made.id, is_new=not rows, is_sealed=False, stage="active")

    def measure(self, op: Op, model_id: str, numbers: ImportedNumbers) -> None:
        """Keep numbers measured on an imported model; they are not added to their runs. Raises Invalid, NotFound, Forbidden."""
        if len(numbers.points) > POINTS_PER_BATCH:
            raise Invalid(f"At most {POINTS_PER_BATCH} points fit one request.", where="points")
        points = [
            Point(
                key=p.key, value=_number(p.value), at_ms=p.at_ms, step=p.step, model_id=model_id,
                dataset_name=p.dataset_name, dataset_digest=p.dataset_digest,
            )
            for p in numbers.points
        ]  # fmt: skip
        check_points(points)
        by_run: dict[str, list[Point]] = {}
        for sent, point in zip(numbers.points, points, strict=True):
            by_run.setdefault(check_run_id(sent.run_id), []).append(point)
        with self._db.write(op, shared=True) as tx:
            self._model(tx, op, model_id)
            for run_id, measured in sorted(by_run.items()):
                store.add_model_points(tx, run_id, measured)

    def seal_model(self, op: Op, model_id: str, wish: SealModel) -> Counts:
        """Say how a logged model stood, once it is found to be whole. Raises Conflict, NotFound, Invalid, Forbidden."""
        with self._db.write(op) as tx:
            self._model(tx, op, model_id)
            counted = imports_store.model_counts(tx, model_id)
            _require_whole(counted, wish.expect, f"logged model {model_id}")
            imports_store.seal_model(
                tx, model_id, status=wish.status, message=wish.status_message, stage=wish.stage,
                updated_at_ms=at_ms_of(wish.updated_at_ms),
            )  # fmt: skip
            store.set_model_tags(tx, model_id, {SEALED_TAG: _moment(op.at_ms)})
        return counted

    def _model(self, tx: Read, op: Op, model_id: str) -> LoggedModel:
        rows = store.model_rows(tx, [model_id])
        may(op, "run.import", rows[0]["experiment_id"] if rows else None, f"There is no logged model {model_id[:80]!r}.")
        found = store.models_from(tx, rows)[0]
        _require_imported(found.tags, f"logged model {model_id}")
        return found


def _active(tx: Read, op: Op, experiment_id: str) -> Experiment:
    found = experiment_for(tx, op, "run.import", experiment_id)
    if found.stage != "active":
        raise Invalid(f"The experiment {found.name!r} is deleted.", where="experiment_id", hint="Restore it first.")
    return found


def _row(tx: Read, op: Op, run_id: str) -> dict[str, Any]:
    row = store.run_row(tx, run_id, op.workspace)
    if row is None:
        raise AlreadyExists(f"The id {run_id} is taken.")
    return row


def _require_imported(tags: dict[str, str], what: str) -> None:
    if SOURCE_TAG not in tags:
        raise Invalid(f"The {what} was not begun by an import.", where="id")


def _require_whole(counted: Counts, expected: Counts, what: str) -> None:
    wrong = [
        f"{getattr(counted, name)} of {getattr(expected, name)} {name}"
        for name in Counts.__struct_fields__
        if getattr(counted, name) != getattr(expected, name)
    ]
    if wrong:
        raise Conflict(f"The {what} is not whole: here are {', '.join(wrong)}.", hint="Import it again.")


def _source(text: str) -> str:
    if not text or len(text) > SOURCE_LENGTH_MAX:
        raise Invalid(f"An import says where it comes from, in at most {SOURCE_LENGTH_MAX} characters.", where="source")
    return text


def _number(value: float | str) -> float:
    """A number, or what JSON has no number for, in words. Raises Invalid."""
    if isinstance(value, str):
        if value not in ("NaN", "Infinity", "-Infinity"):
            raise Invalid("A value is a number, or one of NaN, Infinity, -Infinity.", where="value")
        return float(value)
    return value


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
