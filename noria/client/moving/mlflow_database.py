"""An MLflow database as a source: SQLite or PostgreSQL, read only, and its files beside it. No MLflow needs to run.

The schema is MLflow's, known by its Alembic revision; one that is not known is refused, since its columns may mean something else.
Numbers: NaN has a flag, an infinity is kept as the largest float (`mlflow_words.number`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from noria.client.moving import mlflow_words as words
from noria.client.moving.mlflow_files import MlflowFiles
from noria.client.moving.model import (
    Experiment,
    File,
    Input,
    Model,
    ModelNumber,
    Number,
    Registered,
    Run,
    Trace,
    Use,
    Version,
)
from noria.kernel.errors import Invalid, NotFound, Unavailable

RUNS_PER_PAGE, MODELS_PER_PAGE, ROWS_PER_FETCH = 200, 200, 5_000
WORKSPACE = "default"
MODEL_STATUSES = ("LOGGED_MODEL_PENDING", "LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")
# Alembic revisions of MLflow's schema that are read, from 1.28 to 3.17.
_REVISIONS = """
    bd07f7e963c5 0c779009ac13 cc1f77228345 97727af70f4d 3500859a5d39 7f2a7d5fae7d 2d6e25af4d3e acf3f17fdcc7
    867495a8f9d4 5b0e9adcef9c 4465047574b1 f5a4f2784254 0584bdc529eb 400f98739977 6953534de441 bda7b8c39065
    cbc13b556ace 770bee3ae1dd a1b2c3d4e5f6 de4033877273 1a0cddfcaa16 534353b11cbc 71994744cf8e 3da73c924c2f
    bf29a5ff90ea 1bd49d398cd23 b7c8d9e0f1a2 5d2d30f0abce c9d4e5f6a7b8 2c33131f4dae d3e4f5a6b7c8 d0e1f2a3b4c5
    c8d9e0f1a2b3 1b5f0d9ad7c1 e1f2a3b4c5d6 76601a5f987d c3d6457b6d8a a5b4c3d2e1f0 ae8bbe7743c9 7d34483879f0
    da6fb0208061 89d3d66ed43f b7e4c1a90f23 a8b9c0d1e2f3 c1d2e3f4a5b6 c3d9e7f1a2b4 6f8d9c3b2a1e 1971f2d9a75b
    17e22815139b b7e2c1a4d9f3 75868b020152 dc11669786a5
"""
REVISIONS = frozenset(_REVISIONS.split())


class MlflowDatabase:
    """See `Source`. `artifacts`: the folder or bucket where MLflow keeps its files."""

    def __init__(self, url: str, artifacts: str = "") -> None:
        parsed = _parsed(url)
        self.label = parsed.render_as_string(hide_password=True)
        self._engine = _engine(parsed)
        self._place = MlflowFiles(artifacts)
        try:
            inspector = sa.inspect(self._engine)
            self._columns = {name: {c["name"] for c in inspector.get_columns(name)} for name in inspector.get_table_names()}
            self._check_revision()
        except sa.exc.SQLAlchemyError as cause:
            self._engine.dispose()
            raise Unavailable(f"The database {self.label} cannot be read: {_first_line(cause)}", hint=_HINT) from cause

    def _check_revision(self) -> None:
        if not {"alembic_version", "experiments", "runs"} <= self._columns.keys():
            raise Invalid(f"{self.label} is no database of MLflow.", where="source", hint=_HINT)
        revision = self._rows("select version_num from alembic_version")[0]["version_num"]
        if revision not in REVISIONS:
            raise Invalid(
                f"The schema of {self.label} is MLflow's revision {revision}, which this Noria does not know.", where="source",
                hint="Start an MLflow server on it and import from its URL, or update Noria. Before MLflow 1.28: mlflow db upgrade.",
            )  # fmt: skip

    # --- what there is ------------------------------------------------------------------------------------------------

    def experiments(self) -> Iterator[Experiment]:
        has_times = "creation_time" in self._columns["experiments"]
        times = "creation_time, last_update_time" if has_times else "null as creation_time, null as last_update_time"
        tags = self._pairs("experiment_tags", "experiment_id") if "experiment_tags" in self._columns else {}
        for row in self._rows(
            f"select experiment_id, name, lifecycle_stage, {times} from experiments {self._here('experiments')} order by 1"
        ):
            created = row["creation_time"] or 0
            yield Experiment(
                id=str(row["experiment_id"]), name=row["name"], stage=row["lifecycle_stage"] or "active",
                created_at_ms=created, updated_at_ms=row["last_update_time"] or created,
                tags=tags.get(row["experiment_id"], {}),
            )  # fmt: skip

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        deleted = "deleted_time" if "deleted_time" in self._columns["runs"] else "null"
        after = ""
        while True:
            page = self._rows(
                f"""select run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri,
                           {deleted} as deleted_time
                      from runs where experiment_id = :experiment and run_uuid > :after order by run_uuid limit :limit""",
                experiment=int(experiment.id), after=after, limit=RUNS_PER_PAGE,
            )  # fmt: skip
            if not page:
                return
            yield from self._whole(page, experiment.id)
            after = page[-1]["run_uuid"]

    def _whole(self, page: list[dict[str, Any]], experiment_id: str) -> Iterator[Run]:
        """Rows of runs with what belongs to them: one query for each kind."""
        ids = [row["run_uuid"] for row in page]
        tags, params = self._pairs("tags", "run_uuid", ids), self._pairs("params", "run_uuid", ids)
        keys = self._by("run_uuid", "select run_uuid, key from latest_metrics where run_uuid in :ids order by key", ids)
        inputs, uses = self._inputs(ids), self._uses(ids)
        for row in page:
            run_id = row["run_uuid"]
            own = tags.get(run_id, {})
            yield Run(
                id=run_id, experiment_id=experiment_id, name=row["name"] or own.get("mlflow.runName", ""),
                user=row["user_id"] or "", status=row["status"] or "RUNNING", started_at_ms=row["start_time"] or 0,
                ended_at_ms=row["end_time"], stage=row["lifecycle_stage"] or "active", deleted_at_ms=row["deleted_time"],
                tags=own, params=params.get(run_id, {}), keys=[found["key"] for found in keys.get(run_id, [])],
                inputs=inputs.get(run_id, []), models=uses.get(run_id, []), place=row["artifact_uri"] or "",
            )  # fmt: skip

    def numbers(self, run: Run) -> Iterator[Number]:
        with self._engine.connect() as connection:
            found = connection.execution_options(stream_results=True, yield_per=ROWS_PER_FETCH).execute(
                sa.text(
                    "select key, value, timestamp, step, is_nan from metrics where run_uuid = :id order by key, step, timestamp"
                ),
                {"id": run.id},
            )
            for key, value, at_ms, step, is_nan in found:
                yield Number(key, float("nan") if is_nan else words.number(value), at_ms, step)

    def logged_models(self, experiment: Experiment) -> Iterator[Model]:
        if "logged_models" not in self._columns:
            return
        after = ""
        while True:
            page = self._rows(
                """select model_id, name, artifact_location, creation_timestamp_ms, last_updated_timestamp_ms, status,
                          lifecycle_stage, model_type, source_run_id, status_message
                     from logged_models where experiment_id = :experiment and model_id > :after
                    order by model_id limit :limit""",
                experiment=int(experiment.id), after=after, limit=MODELS_PER_PAGE,
            )  # fmt: skip
            if not page:
                return
            ids = [row["model_id"] for row in page]
            tags = self._pairs("logged_model_tags", "model_id", ids, key="tag_key", value="tag_value")
            params = self._pairs("logged_model_params", "model_id", ids, key="param_key", value="param_value")
            points = self._by("model_id", "select * from logged_model_metrics where model_id in :ids", ids)
            for row in page:
                model_id = row["model_id"]
                yield Model(
                    id=model_id, experiment_id=experiment.id, name=row["name"], status=MODEL_STATUSES[row["status"]],
                    created_at_ms=row["creation_timestamp_ms"], updated_at_ms=row["last_updated_timestamp_ms"],
                    model_type=row["model_type"] or "", source_run_id=row["source_run_id"] or "",
                    status_message=row["status_message"] or "", stage=row["lifecycle_stage"] or "active",
                    tags=tags.get(model_id, {}), params=params.get(model_id, {}),
                    points=[_model_number(found) for found in points.get(model_id, [])], place=row["artifact_location"],
                )  # fmt: skip
            after = ids[-1]

    def registered(self) -> Iterator[Registered]:
        tags = self._tags_of("registered_model_tags", ("name",))
        aliases: dict[str, dict[str, int]] = {}
        if "registered_model_aliases" in self._columns:
            for row in self._rows(
                f"select name, alias, version from registered_model_aliases {self._here('registered_model_aliases')}"
            ):
                aliases.setdefault(row["name"], {})[row["alias"]] = int(row["version"])
        for row in self._rows(
            f"""select name, creation_time, last_updated_time, description from registered_models
                 {self._here("registered_models")} order by name"""
        ):
            created = row["creation_time"] or 0
            yield Registered(
                name=row["name"], created_at_ms=created, updated_at_ms=row["last_updated_time"] or created,
                description=row["description"] or "", tags=tags.get((row["name"],), {}), aliases=aliases.get(row["name"], {}),
            )  # fmt: skip

    def versions(self) -> Iterator[Version]:
        tags = self._tags_of("model_version_tags", ("name", "version"))
        for row in self._rows(
            f"""select name, version, creation_time, last_updated_time, description, current_stage, source, run_id, run_link,
                       status
                  from model_versions {self._here("model_versions")} order by creation_time, version"""
        ):
            stage = row["current_stage"] or "None"
            if stage == "Deleted_Internal":
                continue
            created = row["creation_time"] or 0
            yield Version(
                model=row["name"], number=int(row["version"]), source=row["source"] or "", created_at_ms=created,
                updated_at_ms=row["last_updated_time"] or created, run_id=row["run_id"] or "", run_link=row["run_link"] or "",
                description=row["description"] or "", status=row["status"] or "READY",
                tags=tags.get((row["name"], row["version"]), {}) | ({"mlflow.stage": stage} if stage != "None" else {}),
            )  # fmt: skip

    def files(self, owner: Run | Model) -> Iterator[File]:
        return self._place.files(owner.place)

    def read(self, owner: Run | Model, path: str) -> Iterator[bytes]:
        return self._place.read(owner.place, path)

    def log(self, run: Run) -> Iterator[str]:
        return iter(())

    def traces(self, experiment: Experiment) -> Iterator[Trace]:
        """None: what a trace says is spread over columns that move with every version of MLflow. Its server knows."""
        return iter(())

    def traces_count(self, experiment: Experiment) -> int:
        if "trace_info" not in self._columns:
            return 0
        found = self._rows("select count(*) as n from trace_info where experiment_id = :id", id=int(experiment.id))
        return int(found[0]["n"])

    def close(self) -> None:
        self._engine.dispose()

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _here(self, table: str) -> str:
        """The clause for rows of MLflow's default workspace, where there are workspaces."""
        return f"where workspace = '{WORKSPACE}'" if "workspace" in self._columns[table] else ""

    def _inputs(self, run_ids: list[str]) -> dict[str, list[Input]]:
        if "inputs" not in self._columns:
            return {}
        rows = self._by(
            "run_id",
            """select i.destination_id as run_id, i.input_uuid, d.name, d.digest, d.dataset_source_type, d.dataset_source,
                      d.dataset_schema, d.dataset_profile
                 from inputs i join datasets d on d.dataset_uuid = i.source_id
                where i.source_type = 'DATASET' and i.destination_type = 'RUN' and i.destination_id in :ids
                order by d.name, d.digest""",
            run_ids,
        )
        uuids = [row["input_uuid"] for found in rows.values() for row in found]
        tags = self._pairs("input_tags", "input_uuid", uuids, key="name")
        return {
            run_id: [
                Input(
                    name=row["name"], digest=row["digest"], source_type=row["dataset_source_type"],
                    source=row["dataset_source"], schema=row["dataset_schema"] or "", profile=row["dataset_profile"] or "",
                    tags=tags.get(row["input_uuid"], {}),
                )
                for row in found
            ]
            for run_id, found in rows.items()
        }  # fmt: skip

    def _uses(self, run_ids: list[str]) -> dict[str, list[Use]]:
        if "logged_models" not in self._columns:
            return {}
        step = "step" if "step" in self._columns["inputs"] else "0"
        rows = self._by(
            "run_id",
            f"""select source_id as run_id, source_type, destination_id as model_id, {step} as step from inputs
                 where source_type in ('RUN_INPUT', 'RUN_OUTPUT') and source_id in :ids order by step, destination_id""",
            run_ids,
        )
        direction = {"RUN_INPUT": "input", "RUN_OUTPUT": "output"}
        return {
            run_id: [
                Use(model_id=row["model_id"], direction=direction[row["source_type"]], step=int(row["step"] or 0))
                for row in found
            ]
            for run_id, found in rows.items()
        }

    def _pairs(
        self, table: str, owner: str, ids: Sequence[Any] | None = None, *, key: str = "key", value: str = "value"
    ) -> dict[Any, dict[str, str]]:
        """Key and value by owner; of these owners only, if given."""
        found: dict[Any, dict[str, str]] = {}
        only = f"where {owner} in :ids" if ids is not None else ""
        if ids is not None and not ids:
            return {}
        for row in self._rows(
            f"select {owner}, {key} as k, {value} as v from {table} {only}", **({"ids": list(ids)} if ids else {})
        ):
            found.setdefault(row[owner], {})[row["k"]] = row["v"] or ""
        return found

    def _tags_of(self, table: str, owner: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, str]]:
        found: dict[tuple[Any, ...], dict[str, str]] = {}
        if table in self._columns:
            for row in self._rows(f"select {', '.join(owner)}, key, value from {table} {self._here(table)}"):
                found.setdefault(tuple(row[name] for name in owner), {})[row["key"]] = row["value"] or ""
        return found

    def _by(self, owner: str, sql: str, ids: list[str]) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self._rows(sql, ids=ids):
            found.setdefault(row[owner], []).append(row)
        return found

    def _rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        statement = sa.text(sql)
        if "ids" in params:
            statement = statement.bindparams(sa.bindparam("ids", expanding=True))
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(statement, params).mappings()]


_HINT = "Give the database that `mlflow server --backend-store-uri` has: sqlite:///path/mlflow.db or postgresql://…"


def _model_number(row: dict[str, Any]) -> ModelNumber:
    value = row["metric_value"]
    return ModelNumber(
        run_id=row["run_id"], key=row["metric_name"], value=float("nan") if value is None else words.number(value),
        at_ms=row["metric_timestamp_ms"], step=row["metric_step"], dataset_name=row["dataset_name"] or "",
        dataset_digest=row["dataset_digest"] or "",
    )  # fmt: skip


def _parsed(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as cause:
        raise Invalid(f"{url!r} is no address of a database.", where="source", hint=_HINT) from cause
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise Invalid(
            f"{parsed.get_backend_name()!r} is not a database that is read directly.", where="source",
            hint="Start an MLflow server on it, and import from its URL.",
        )  # fmt: skip
    return parsed


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "postgresql":
        try:
            return sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_size=5, pool_pre_ping=True)
        except ModuleNotFoundError as missing:
            raise Invalid("PostgreSQL needs its driver.", hint="pip install 'noria[postgres]'") from missing
    path = Path(url.database or "").absolute()
    if not path.is_file():
        raise NotFound(f"There is no file {path}.", hint="sqlite:///relative/path, or sqlite:////absolute/path.")

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30, check_same_thread=False)

    return sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.QueuePool, pool_size=5)


def _first_line(error: Exception) -> str:
    return (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]
