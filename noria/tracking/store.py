"""The rows of tracking: one named function per query, none of them in a loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from noria.kernel.db import Read, Write, js
from noria.kernel.errors import Unavailable
from noria.kernel.ids import ExperimentId, RunId
from noria.kernel.lineage import Station, station
from noria.kernel.naming import Noun, findable
from noria.kernel.things import things
from noria.tracking.model import (
    Artifact,
    DatasetInput,
    Experiment,
    LoggedModel,
    ModelPoint,
    ModelUse,
    Point,
    Run,
)
from noria.tracking.search import Condition, Order

_EXPERIMENT = "id, name, stage, created_at_ms, updated_at_ms, actor"
_RUN = """r.id, r.experiment_id, r.name, r.status, r.stage, r.started_at_ms, r.ended_at_ms, r.user_name, r.actor,
          r.source_commit, r.source_dirty, r.source_diff_digest, r.argv, r.environment_digest, r.log_bytes"""
_MODEL = """id, experiment_id, name, model_type, source_run_id, status, status_message, stage, created_at_ms, updated_at_ms,
            actor"""
things("experiment", "select id from experiment where workspace = :workspace")
station(
    Station(
        kind="run", action="run.read",
        query="""select 'run:' || id as ref, 'experiment:' || experiment_id as scope, name as label, lower(status) as state,
                        started_at_ms as at_ms
                   from run where id in :ids""",
    )
)  # fmt: skip
station(
    Station(
        kind="logged_model", action="run.read",
        query="""select 'logged_model:' || id as ref, 'experiment:' || experiment_id as scope, name as label, lower(status) as state,
                        created_at_ms as at_ms
                   from logged_model where id in :ids""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="experiment", action="experiment.read",
        query="""select 'experiment:' || id as scope, 'experiment:' || id as ref, name as label, '' as detail,
                        updated_at_ms as at_ms
                   from experiment where workspace = :workspace and stage = 'active'""",
    )
)  # fmt: skip
_NAN = float("nan")
APART_MAX = 20  # experiments whose runs are looked for one by one
Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]


class RunHead(Struct, frozen=True, kw_only=True):
    """What a writer must know of a run."""

    id: RunId
    experiment_id: ExperimentId
    name: str
    stage: str
    status: str
    has_points: bool
    log_bytes: int


class SeriesHead(Struct, frozen=True, kw_only=True):
    """One key of a run; `writes` counts batches, `disorder` those that did not simply go on where the last one ended."""

    id: int
    run_id: str
    key: str
    writes: int
    disorder: int


def among(tx: Read, column: str, name: str) -> str:
    """SQL for 'column is one of the ids in :name'; any number of them as one bound text, see `ids_text`."""
    if tx.dialect == "sqlite":
        return f"{column} in (select value from json_each(:{name}))"
    return (
        f"{column} = any(array(select json_array_elements_text(cast(:{name} as json))))"  # an array is planned as a list is
    )


def among_ids(tx: Read, column: str, name: str, ids: list[str]) -> tuple[str, dict[str, str]]:
    """The same for ids, which hold no control character: SQL and its parameter.

    PostgreSQL knows this array when it plans, and looks ids up in a hash; an array out of JSON it searches from end to end for
    each row, which took 5 ms instead of 0.4 for 150 experiments and 35 instead of 1.4 for two thousand.
    """
    if tx.dialect == "sqlite":
        return among(tx, column, name), {name: js(ids)}
    return f"{column} = any(string_to_array(:{name}, chr(31)))", {name: "\x1f".join(ids)}


@contextmanager
def driver(tx: Read) -> Iterator[Any]:
    """A cursor of the driver itself, for the hot paths; its connection errors are Unavailable as everywhere."""
    cursor = tx.raw.cursor()
    try:
        yield cursor
    except Exception as error:
        if type(error).__name__ in ("OperationalError", "InterfaceError"):
            raise Unavailable("The database does not answer.", retry_after_s=5, hint="Try again in a moment.") from error
        raise
    finally:
        cursor.close()


# --- experiments --------------------------------------------------------------------------------------------------------


def add_experiment(tx: Write, experiment: Experiment, workspace: str) -> bool:
    """False when another writer has just taken the name."""
    added = tx.run(
        """insert into experiment (id, name, stage, created_at_ms, updated_at_ms, actor, workspace)
           values (:id, :name, 'active', :at_ms, :at_ms, :actor, :workspace)
           on conflict (workspace, name) do nothing""",
        id=experiment.id, name=experiment.name, at_ms=experiment.created_at_ms, actor=experiment.actor, workspace=workspace,
    )  # fmt: skip
    return added == 1


def experiment(tx: Read, experiment_id: str, workspace: str) -> Experiment | None:
    found = tx.one(
        Experiment,
        f"select {_EXPERIMENT} from experiment where id = :id and workspace = :workspace",
        id=experiment_id, workspace=workspace,
    )  # fmt: skip
    return found and with_experiment_tags(tx, [found])[0]


def experiment_named(tx: Read, name: str, workspace: str) -> Experiment | None:
    found = tx.one(
        Experiment,
        f"select {_EXPERIMENT} from experiment where name = :name and workspace = :workspace",
        name=name, workspace=workspace,
    )  # fmt: skip
    return found and with_experiment_tags(tx, [found])[0]


def experiments(
    tx: Read, workspace: str, *, where: Condition, order: Order, after: Condition, limit: int, ids: list[str] | None
) -> list[dict[str, Any]]:
    """Experiments as rows with the sort keys k0, k1, …; `ids` None means all."""
    clauses = ["r.workspace = :workspace", where.sql, after.sql, among(tx, "r.id", "ids") if ids is not None else ""]
    return tx.rows(
        f"""select r.id, r.name, r.stage, r.created_at_ms, r.updated_at_ms, r.actor {order.columns}
              from experiment r {order.joins}
             where {" and ".join(c for c in clauses if c)}
             order by {order.clause} limit :limit""",
        workspace=workspace, limit=limit, **where.params, **order.params, **after.params,
        **({"ids": js(ids)} if ids is not None else {}),
    )  # fmt: skip


def with_experiment_tags(tx: Read, found: list[Experiment]) -> list[Experiment]:
    tags = _pairs(tx, "experiment_tag", "experiment_id", [e.id for e in found])
    return [msgspec.structs.replace(e, tags=tags.get(e.id, {})) for e in found]


def runs_counts(tx: Read, experiment_ids: list[str]) -> dict[str, int]:
    """How many active runs each experiment has."""
    rows = tx.rows(
        f"""select experiment_id, count(*) as n from run
             where {among(tx, "experiment_id", "ids")} and stage = 'active' group by experiment_id""",
        ids=js(experiment_ids),
    )  # fmt: skip
    return {row["experiment_id"]: int(row["n"]) for row in rows}


def rename_experiment(tx: Write, experiment_id: str, name: str, at_ms: int) -> None:
    tx.run(
        "update experiment set name = :name, updated_at_ms = :at_ms where id = :id", id=experiment_id, name=name, at_ms=at_ms
    )


def stage_experiment(tx: Write, experiment_id: str, stage: str, at_ms: int) -> None:
    tx.run(
        "update experiment set stage = :stage, updated_at_ms = :at_ms where id = :id",
        id=experiment_id,
        stage=stage,
        at_ms=at_ms,
    )


def stage_runs_of(tx: Write, experiment_id: str, stage: str, at_ms: int | None) -> None:
    """Put away or bring back the runs of an experiment with it; those put away on their own before stay so."""
    if stage == "deleted":
        tx.run(
            """update run set stage = 'deleted', deleted_at_ms = :at_ms
                where experiment_id = :id and stage = 'active'""",
            id=experiment_id, at_ms=at_ms,
        )  # fmt: skip
    else:
        tx.run(
            """update run set stage = 'active', deleted_at_ms = null
                where experiment_id = :id and stage = 'deleted' and deleted_at_ms = :at_ms""",
            id=experiment_id, at_ms=at_ms,
        )  # fmt: skip


def set_experiment_tags(tx: Write, experiment_id: str, tags: dict[str, str]) -> None:
    tx.many(
        """insert into experiment_tag (experiment_id, key, value) values (:id, :key, :value)
           on conflict (experiment_id, key) do update set value = excluded.value""",
        [{"id": experiment_id, "key": k, "value": v} for k, v in sorted(tags.items())],
    )  # fmt: skip


def remove_experiment_tag(tx: Write, experiment_id: str, key: str) -> int:
    return tx.run("delete from experiment_tag where experiment_id = :id and key = :key", id=experiment_id, key=key)


# --- runs ---------------------------------------------------------------------------------------------------------------


def add_run(tx: Write, run: Run, workspace: str) -> bool:
    """False when there is a run with this id."""
    added = tx.run(
        """insert into run (id, experiment_id, name, status, stage, started_at_ms, user_name, actor, workspace, has_points)
           values (:id, :experiment_id, :name, :status, 'active', :started, :user_name, :actor, :workspace, false)
           on conflict (id) do nothing""",
        id=run.id, experiment_id=run.experiment_id, name=run.name, status=run.status, started=run.started_at_ms,
        user_name=run.user, actor=run.actor, workspace=workspace,
    )  # fmt: skip
    return added == 1


def run_head(tx: Read, run_id: str, workspace: str) -> RunHead | None:
    return tx.one(
        RunHead,
        """select id, experiment_id, name, stage, status, has_points, log_bytes
             from run where id = :id and workspace = :workspace""",
        id=run_id, workspace=workspace,
    )  # fmt: skip


def run_heads(tx: Read, run_ids: list[str], workspace: str) -> list[RunHead]:
    return tx.all(
        RunHead,
        f"""select id, experiment_id, name, stage, status, has_points, log_bytes
              from run where {among(tx, "id", "ids")} and workspace = :workspace""",
        ids=js(run_ids), workspace=workspace,
    )  # fmt: skip


def runs(
    tx: Read, workspace: str, *, where: Condition, order: Order, after: Condition, limit: int, stages: list[str],
    experiments: list[str] | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Runs as rows with the sort keys k0, k1, …; `experiments` None means all."""
    stage = "r.stage = :stage" if len(stages) == 1 else "r.stage in ('active', 'deleted')"
    scopes, params = [""], dict[str, Any]()
    if experiments is not None and 1 <= len(experiments) <= (1 if order.joins else APART_MAX):
        scopes = [f"r.experiment_id = :experiment{i}" for i in range(len(experiments))]
        params = {f"experiment{i}": found for i, found in enumerate(experiments)}
    elif experiments is not None:
        scope, params = among_ids(tx, "r.experiment_id", "experiments", experiments)
        scopes = [scope]
    if len(stages) == 1:
        params["stage"] = stages[0]

    def rows_of(scope: str, columns: str) -> str:
        clauses = ["r.workspace = :workspace", stage, scope, where.sql, after.sql]
        return f"""select {columns} from run r {order.joins}
                    where {" and ".join(c for c in clauses if c)} order by {order.clause} limit :limit"""

    sql = rows_of(scopes[0], f"{_RUN} {order.columns}")
    if len(scopes) > 1:
        # The first of each experiment, by its index, and the first of those: read together, as many runs of other experiments
        # as came later would be looked at.
        apart = " union all ".join(f"select * from ({rows_of(scope, 'r.*')}) e{i}" for i, scope in enumerate(scopes))
        sql = f"select {_RUN} {order.columns} from ({apart}) r order by {order.clause} limit :limit"
    return tx.rows(
        sql, workspace=workspace, limit=limit, **params, **where.params, **order.params, **after.params
    )  # fmt: skip


def run_row(tx: Read, run_id: str, workspace: str) -> dict[str, Any] | None:
    found = tx.rows(
        f"select {_RUN} from run r where r.id = :id and r.workspace = :workspace", id=run_id, workspace=workspace
    )
    return found[0] if found else None


def runs_from(tx: Read, rows: list[dict[str, Any]], *, whole: bool = True) -> list[Run]:
    """Rows as runs with tags, params and latest points (and, when `whole`, inputs and models): one query for each kind."""
    ids = [row["id"] for row in rows]
    tags, params, points = _pairs(tx, "tag", "run_id", ids), _pairs(tx, "param", "run_id", ids), latest_points(tx, ids)
    inputs = dataset_inputs(tx, ids) if whole else {}
    models = model_uses(tx, ids) if whole else {}
    return [
        Run(
            id=row["id"], experiment_id=row["experiment_id"], name=row["name"], status=row["status"], stage=row["stage"],
            started_at_ms=row["started_at_ms"], ended_at_ms=row["ended_at_ms"], user=row["user_name"], actor=row["actor"],
            source_commit=row["source_commit"], source_dirty=bool(row["source_dirty"]),
            source_diff_digest=row["source_diff_digest"], argv=row["argv"], environment_digest=row["environment_digest"],
            log_bytes=row["log_bytes"], tags=tags.get(row["id"], {}), params=params.get(row["id"], {}),
            metrics={p.key: p.value for p in points.get(row["id"], [])}, points=points.get(row["id"], []),
            inputs=inputs.get(row["id"], []), models=models.get(row["id"], []),
        )
        for row in rows
    ]  # fmt: skip


def _pairs(tx: Read, table: str, owner: str, ids: list[str], keys: list[str] | None = None) -> dict[str, dict[str, str]]:
    """Key and value by owner; of `keys` only, if given."""
    if not ids:
        return {}
    only, params = ("and key in :keys", {"keys": keys}) if keys is not None else ("", {})
    found: dict[str, dict[str, str]] = {}
    for owner_id, key, value in tx.tuples(
        f"select {owner}, key, value from {table} where {among(tx, owner, 'ids')} {only} order by 1, 2",
        ids=js(ids),
        **params,
    ):
        found.setdefault(owner_id, {})[key] = value
    return found


def latest_points(tx: Read, run_ids: list[str], keys: list[str] | None = None) -> dict[str, list[Point]]:
    """The latest point of each key, by run; of `keys` only, if given."""
    if not run_ids or keys == []:
        return {}
    only, params = ("and key in :keys", {"keys": keys}) if keys is not None else ("", {})
    found: dict[str, list[Point]] = {}
    for run_id, key, step, at_ms, value, is_nan in tx.tuples(
        f"""select run_id, key, step, at_ms, value, is_nan from series
             where {among(tx, "run_id", "ids")} {only} order by run_id, key""",
        ids=js(run_ids), **params,
    ):  # fmt: skip
        found.setdefault(run_id, []).append(Point(key=key, value=_NAN if is_nan else value, at_ms=at_ms, step=step))
    return found


def update_run(tx: Write, run_id: str, *, name: str, status: str, ended_at_ms: int | None) -> None:
    tx.run(
        "update run set name = :name, status = :status, ended_at_ms = :ended where id = :id",
        id=run_id, name=name, status=status, ended=ended_at_ms,
    )  # fmt: skip


def set_context(tx: Write, run_id: str, context: dict[str, Any]) -> None:
    """Keep what tags say of a run's source as columns; `context` names columns, which come from code."""
    if context:
        tx.run(f"update run set {', '.join(f'{name} = :{name}' for name in context)} where id = :id", id=run_id, **context)


def stage_run(tx: Write, run_id: str, stage: str, at_ms: int | None) -> None:
    tx.run("update run set stage = :stage, deleted_at_ms = :at_ms where id = :id", id=run_id, stage=stage, at_ms=at_ms)


def mark_points(tx: Write, run_id: str) -> bool:
    """Note that a run has points; True for the one writer who was first."""
    return tx.run("update run set has_points = true where id = :id and not has_points", id=run_id) == 1


def set_tags(tx: Write, run_id: str, tags: dict[str, str]) -> None:
    tx.many(
        """insert into tag (run_id, key, value) values (:run_id, :key, :value)
           on conflict (run_id, key) do update set value = excluded.value""",
        [{"run_id": run_id, "key": k, "value": v} for k, v in sorted(tags.items())],
    )  # fmt: skip


def remove_tag(tx: Write, run_id: str, key: str) -> int:
    return tx.run("delete from tag where run_id = :run_id and key = :key", run_id=run_id, key=key)


def add_params(tx: Write, run_id: str, params: dict[str, str]) -> dict[str, str]:
    """Add params that are not there yet; returns what those keys hold now."""
    tx.many(
        "insert into param (run_id, key, value) values (:run_id, :key, :value) on conflict (run_id, key) do nothing",
        [{"run_id": run_id, "key": k, "value": v} for k, v in sorted(params.items())],
    )
    rows = tx.rows(
        "select key, value from param where run_id = :run_id and key in :keys", run_id=run_id, keys=sorted(params)
    )
    return {row["key"]: row["value"] for row in rows}


# --- points -------------------------------------------------------------------------------------------------------------


def series_ids(tx: Read, run_id: str, keys: list[str]) -> dict[str, int]:
    rows = tx.rows(
        f"select id, key from series where run_id = :run_id and {among(tx, 'key', 'keys')}", run_id=run_id, keys=js(keys)
    )
    return {row["key"]: int(row["id"]) for row in rows}


def add_series(tx: Write, run_id: str, keys: list[str]) -> dict[str, int]:
    """New keys of a run, before any point; returns the ids, also of keys that another writer just added."""
    tx.many(
        """insert into series (run_id, key, step, at_ms, value, is_nan, writes)
           values (:run_id, :key, :step, -1, 0, true, 0)
           on conflict (run_id, key) do nothing""",
        [{"run_id": run_id, "key": key, "step": -(2**63)} for key in keys],
    )
    return series_ids(tx, run_id, keys)


_MOVE_LATEST = """
    update series
       set writes = writes + 1,
           disorder = disorder + case when ({first_step}, {first_at}) <= (step, at_ms) then 1 else 0 end,
           step = case when {later} then {step} else step end,
           at_ms = case when {later} then {at} else at_ms end,
           value = case when {later} then {value} else value end,
           is_nan = case when {later} then {nan} else is_nan end
     where id = {id}"""


def _move_latest(dialect: str) -> str:
    names = ("first_step", "first_at", "step", "at", "real", "value", "nan", "id")
    marks = {name: f":{name}" if dialect == "sqlite" else f"%({name})s" for name in names}
    # NaN ranks lowest among the values of one step and time.
    now = "(step, at_ms, case when is_nan then 0 else 1 end, value)"
    marks["later"] = "({step}, {at}, {real}, {value}) >= ".format(**marks) + now
    return _MOVE_LATEST.format(**marks)


_MOVES = {dialect: _move_latest(dialect) for dialect in ("sqlite", "postgresql")}


class PointRow(NamedTuple):
    """A point as it is sorted: by series, step, time, numbers after NaN, value (0 for NaN)."""

    series: int
    step: int
    at_ms: int
    is_real: bool
    value: float


def move_latest(tx: Write, moves: list[tuple[PointRow, PointRow]]) -> None:
    """For each (first, last) point of a series in a batch: move the latest value on, if the batch's is later."""
    rows = [
        {
            "id": last.series, "first_step": first.step, "first_at": first.at_ms, "step": last.step, "at": last.at_ms,
            "value": last.value, "nan": not last.is_real, "real": int(last.is_real),
        }
        for first, last in moves
    ]  # fmt: skip
    with driver(tx) as cursor:
        cursor.executemany(_MOVES[tx.dialect], rows)


ROWS_PER_INSERT = 100
_ROW = "(?, ?, ?, not ?, ?)"
_INSERT_ONE = f"insert or ignore into point (series_id, step, at_ms, is_nan, value) values {_ROW}"
_INSERT_MANY = _INSERT_ONE + f", {_ROW}" * (ROWS_PER_INSERT - 1)


def add_points(tx: Write, rows: Sequence[tuple[int, int, int, bool, float]]) -> None:
    """Append sorted points; a repeated point is the same row. Straight to the driver: the hot path."""
    with driver(tx) as cursor:
        if tx.dialect == "sqlite":
            # A statement for many rows, since the driver gives up the interpreter's lock around every statement.
            whole = len(rows) - len(rows) % ROWS_PER_INSERT
            for at in range(0, whole, ROWS_PER_INSERT):
                cursor.execute(_INSERT_MANY, [*chain.from_iterable(rows[at : at + ROWS_PER_INSERT])])
            if whole < len(rows):
                cursor.executemany(_INSERT_ONE, rows[whole:])
        else:
            cursor.execute(
                """insert into point (series_id, step, at_ms, is_nan, value)
                   select series, step, at_ms, not is_real, value
                     from unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::boolean[], %s::double precision[])
                       as sent (series, step, at_ms, is_real, value)
                       on conflict do nothing""",
                [list(column) for column in zip(*rows, strict=True)],
            )


def _plain(point: Point) -> float:
    return 0.0 if point.value != point.value else point.value


def series_heads(tx: Read, run_ids: list[str], keys: list[str] | None) -> list[SeriesHead]:
    only, params = (f"and {among(tx, 'key', 'keys')}", {"keys": js(keys)}) if keys is not None else ("", {})
    return tx.all(
        SeriesHead,
        f"""select id, run_id, key, writes, disorder from series
             where {among(tx, "run_id", "ids")} {only} order by run_id, key""",
        ids=js(run_ids), **params,
    )  # fmt: skip


_POINT = np.dtype([("step", np.int64), ("at_ms", np.int64), ("value", np.float64), ("is_nan", np.bool_)])


def points_of(tx: Read, series_id: int, after: tuple[int, int] | None = None) -> tuple[Ints, Ints, Floats]:
    """Step, time and value (NaN restored) of a series in the order of its key; only what comes after (step, at_ms), if given."""
    mark = "?" if tx.dialect == "sqlite" else "%s"
    more = f"and (step, at_ms) > ({mark}, {mark})" if after else ""
    with driver(tx) as cursor:  # past a million rows, lists of them would take longer than the query
        cursor.execute(
            f"""select step, at_ms, value, is_nan from point
                 where series_id = {mark} {more} order by step, at_ms, value, is_nan""",
            (series_id, *(after or ())),
        )
        found = np.fromiter(cursor, _POINT)
    values = np.where(found["is_nan"], np.nan, found["value"])
    return np.ascontiguousarray(found["step"]), np.ascontiguousarray(found["at_ms"]), values


def points_page(
    tx: Read, series_id: int, *, after: list[Any] | None, limit: int, start: int | None = None, end: int | None = None
) -> list[tuple[int, int, float, bool]]:
    """Step, time, value and whether it is NaN, in the order of the key, from after such a tuple."""
    clauses, params = ["series_id = :id"], dict[str, Any]()
    if after:
        clauses.append("(step, at_ms, value, is_nan) > (:after_step, :after_at, :after_value, :after_nan)")
        params |= dict(zip(("after_step", "after_at", "after_value", "after_nan"), after, strict=True))
    if start is not None:
        clauses.append("step >= :start")
        params["start"] = start
    if end is not None:
        clauses.append("step <= :end")
        params["end"] = end
    return tx.tuples(
        f"""select step, at_ms, value, is_nan from point where {" and ".join(clauses)}
             order by step, at_ms, value, is_nan limit :limit""",
        id=series_id, limit=limit, **params,
    )  # fmt: skip


# --- inputs and models --------------------------------------------------------------------------------------------------


def add_inputs(tx: Write, run_id: str, inputs: list[DatasetInput], at_ms: int) -> None:
    tx.many(
        """insert into run_input (run_id, name, digest, source_type, source, schema, profile, tags, dataset_version, at_ms)
           values (:run_id, :name, :digest, :source_type, :source, :schema, :profile, :tags, :dataset_version, :at_ms)
           on conflict (run_id, name, digest) do update
              set tags = excluded.tags, dataset_version = excluded.dataset_version""",
        [
            {
                "run_id": run_id, "name": i.name, "digest": i.digest, "source_type": i.source_type, "source": i.source,
                "schema": i.schema, "profile": i.profile, "tags": js(i.tags),
                "dataset_version": i.dataset_version, "at_ms": at_ms,
            }
            for i in inputs
        ],
    )  # fmt: skip


def dataset_inputs(tx: Read, run_ids: list[str]) -> dict[str, list[DatasetInput]]:
    if not run_ids:
        return {}
    found: dict[str, list[DatasetInput]] = {}
    for row in tx.rows(
        f"""select run_id, name, digest, source_type, source, schema, profile, tags, dataset_version from run_input
             where {among(tx, "run_id", "ids")} order by run_id, at_ms, name, digest""",
        ids=js(run_ids),
    ):
        row["tags"] = msgspec.json.decode(row["tags"])
        found.setdefault(row.pop("run_id"), []).append(DatasetInput(**row))
    return found


def dataset_summaries(tx: Read, experiment_ids: list[str], limit: int) -> list[dict[str, Any]]:
    """The different inputs of the active runs of experiments: experiment, name, digest and the tags of one of them."""
    return tx.rows(
        f"""select r.experiment_id, d.name, d.digest, d.tags
              from run_input d join run r on r.id = d.run_id
             where {among(tx, "r.experiment_id", "ids")} and r.stage = 'active'
             group by r.experiment_id, d.name, d.digest, d.tags
             order by r.experiment_id, d.name, d.digest, d.tags
             limit :limit""",
        ids=js(experiment_ids), limit=limit,
    )  # fmt: skip


def add_model_uses(tx: Write, run_id: str, uses: list[ModelUse]) -> None:
    tx.many(
        """insert into run_model (run_id, model_id, direction, step) values (:run_id, :model_id, :direction, :step)
           on conflict (run_id, model_id, direction) do update set step = excluded.step""",
        [{"run_id": run_id, "model_id": u.model_id, "direction": u.direction, "step": u.step} for u in uses],
    )  # fmt: skip


def model_uses(tx: Read, run_ids: list[str]) -> dict[str, list[ModelUse]]:
    if not run_ids:
        return {}
    found: dict[str, list[ModelUse]] = {}
    for row in tx.rows(
        f"""select run_id, model_id, direction, step from run_model
             where {among(tx, "run_id", "ids")} order by run_id, direction, step, model_id""",
        ids=js(run_ids),
    ):
        found.setdefault(row["run_id"], []).append(
            ModelUse(model_id=row["model_id"], direction=row["direction"], step=row["step"])
        )
    return found


# --- files --------------------------------------------------------------------------------------------------------------


def put_artifact(tx: Write, owner: str, artifact: Artifact) -> None:
    tx.run(
        """insert into artifact (owner, path, digest, size_bytes, at_ms) values (:owner, :path, :digest, :size_bytes, :at_ms)
           on conflict (owner, path) do update
              set digest = excluded.digest, size_bytes = excluded.size_bytes, at_ms = excluded.at_ms""",
        owner=owner, path=artifact.path, digest=artifact.digest, size_bytes=artifact.size_bytes, at_ms=artifact.at_ms,
    )  # fmt: skip


def artifact(tx: Read, owner: str, path: str) -> Artifact | None:
    return tx.one(
        Artifact,
        "select path, digest, size_bytes, at_ms from artifact where owner = :owner and path = :path",
        owner=owner, path=path,
    )  # fmt: skip


def artifacts_below(tx: Read, owner: str, folder: str, *, limit: int = 100_000) -> list[Artifact]:
    """The files below `folder` ('' for all), by path. A range over the key: names may hold any character."""
    low, high = (folder + "/", folder + "0") if folder else ("", "\U0010ffff")  # '0' follows '/'
    collate = ' collate "C"' if tx.dialect == "postgresql" else ""
    return tx.all(
        Artifact,
        f"""select path, digest, size_bytes, at_ms from artifact
             where owner = :owner and path{collate} >= :low and path{collate} < :high
             order by path{collate} limit :limit""",
        owner=owner, low=low, high=high, limit=limit,
    )  # fmt: skip


def digests_in_use(tx: Read, digests: list[str]) -> set[str]:
    """Those of `digests` that some file has."""
    return (
        set(tx.column("select distinct digest from artifact where digest in :digests", digests=digests))
        if digests
        else set()
    )


def remove_artifacts(tx: Write, owner: str, path: str) -> int:
    """Remove the file `path`, or every file below it ('' for all)."""
    collate = ' collate "C"' if tx.dialect == "postgresql" else ""
    if not path:
        return tx.run("delete from artifact where owner = :owner", owner=owner)
    return tx.run(
        f"""delete from artifact
             where owner = :owner and (path = :path or (path{collate} >= :low and path{collate} < :high))""",
        owner=owner, path=path, low=path + "/", high=path + "0",
    )  # fmt: skip


# --- logs ---------------------------------------------------------------------------------------------------------------


def add_log(tx: Write, run_id: str, start_byte: int, content: str, size_bytes: int, at_ms: int) -> None:
    tx.run(
        """insert into run_log (run_id, start_byte, content, size_bytes, at_ms)
           values (:run_id, :start_byte, :content, :size_bytes, :at_ms)""",
        run_id=run_id, start_byte=start_byte, content=content, size_bytes=size_bytes, at_ms=at_ms,
    )  # fmt: skip
    tx.run("update run set log_bytes = :upto where id = :run_id", run_id=run_id, upto=start_byte + size_bytes)


def lock_run(tx: Write, run_id: str) -> None:
    """Hold the run's row until the end of the transaction, so that log texts queue. SQLite has one writer anyway."""
    tx.run("update run set log_bytes = log_bytes where id = :run_id", run_id=run_id)


def log_from(tx: Read, run_id: str, offset: int, *, limit: int = 32) -> list[dict[str, Any]]:
    """Log texts that reach beyond `offset`, in order."""
    return tx.rows(
        """select start_byte, content, size_bytes from run_log
            where run_id = :run_id and start_byte + size_bytes > :offset and start_byte >= :floor
            order by start_byte limit :limit""",
        run_id=run_id, offset=offset, floor=max(0, offset - (1 << 20)), limit=limit,
    )  # fmt: skip


# --- logged models ------------------------------------------------------------------------------------------------------


def add_model(tx: Write, model: LoggedModel) -> None:
    tx.run(
        f"""insert into logged_model ({_MODEL})
            values (:id, :experiment_id, :name, :model_type, :run_id, :status, '', 'active', :at_ms, :at_ms, :actor)""",
        id=model.id, experiment_id=model.experiment_id, name=model.name, model_type=model.model_type,
        run_id=model.source_run_id, status=model.status, at_ms=model.created_at_ms, actor=model.actor,
    )  # fmt: skip


def model_rows(tx: Read, model_ids: list[str]) -> list[dict[str, Any]]:
    return tx.rows(f"select {_MODEL} from logged_model where {among(tx, 'id', 'ids')} order by id", ids=js(model_ids))


def models_of_experiments(
    tx: Read, experiment_ids: list[str], *, where: Condition, order: Order, after: Condition, limit: int
) -> list[dict[str, Any]]:
    clauses = [among(tx, "r.experiment_id", "experiments"), "r.stage = 'active'", where.sql, after.sql]
    columns = ", ".join(f"r.{c.strip()}" for c in _MODEL.split(","))
    return tx.rows(
        f"""select {columns} {order.columns} from logged_model r {order.joins}
             where {" and ".join(c for c in clauses if c)} order by {order.clause} limit :limit""",
        experiments=js(experiment_ids), limit=limit, **where.params, **order.params, **after.params,
    )  # fmt: skip


def models_of_run(tx: Read, run_id: str) -> list[dict[str, Any]]:
    return tx.rows(
        f"select {_MODEL} from logged_model where source_run_id = :run_id and stage = 'active' order by created_at_ms, id",
        run_id=run_id,
    )


def models_from(tx: Read, rows: list[dict[str, Any]]) -> list[LoggedModel]:
    """Rows as logged models with tags, params and latest numbers: one query for each kind."""
    ids = [row["id"] for row in rows]
    tags, params = _pairs(tx, "logged_model_tag", "model_id", ids), _pairs(tx, "logged_model_param", "model_id", ids)
    points = model_points(tx, ids)
    fields = LoggedModel.__struct_fields__
    return [
        LoggedModel(
            **{k: v for k, v in row.items() if k in fields},
            tags=tags.get(row["id"], {}), params=params.get(row["id"], {}), points=points.get(row["id"], []),
        )
        for row in rows
    ]  # fmt: skip


def set_model_status(tx: Write, model_id: str, status: str, at_ms: int) -> None:
    tx.run(
        "update logged_model set status = :status, updated_at_ms = :at_ms where id = :id",
        id=model_id,
        status=status,
        at_ms=at_ms,
    )


def stage_model(tx: Write, model_id: str, stage: str, at_ms: int) -> None:
    tx.run(
        "update logged_model set stage = :stage, updated_at_ms = :at_ms where id = :id",
        id=model_id,
        stage=stage,
        at_ms=at_ms,
    )


def set_model_tags(tx: Write, model_id: str, tags: dict[str, str]) -> None:
    tx.many(
        """insert into logged_model_tag (model_id, key, value) values (:id, :key, :value)
           on conflict (model_id, key) do update set value = excluded.value""",
        [{"id": model_id, "key": k, "value": v} for k, v in sorted(tags.items())],
    )  # fmt: skip


def remove_model_tag(tx: Write, model_id: str, key: str) -> int:
    return tx.run("delete from logged_model_tag where model_id = :id and key = :key", id=model_id, key=key)


def add_model_params(tx: Write, model_id: str, params: dict[str, str]) -> dict[str, str]:
    """Add params that are not there yet; returns what those keys hold now."""
    tx.many(
        """insert into logged_model_param (model_id, key, value) values (:id, :key, :value)
           on conflict (model_id, key) do nothing""",
        [{"id": model_id, "key": k, "value": v} for k, v in sorted(params.items())],
    )
    rows = tx.rows(
        "select key, value from logged_model_param where model_id = :id and key in :keys", id=model_id, keys=sorted(params)
    )
    return {row["key"]: row["value"] for row in rows}


def add_model_points(tx: Write, run_id: str, points: list[Point]) -> None:
    tx.many(
        """insert into logged_model_metric (model_id, run_id, key, step, at_ms, value, is_nan, dataset_name, dataset_digest)
           values (:model_id, :run_id, :key, :step, :at_ms, :value, :is_nan, :dataset_name, :dataset_digest)
           on conflict do nothing""",
        [
            {
                "model_id": p.model_id, "run_id": run_id, "key": p.key, "step": p.step, "at_ms": p.at_ms, "value": _plain(p),
                "is_nan": p.value != p.value, "dataset_name": p.dataset_name, "dataset_digest": p.dataset_digest,
            }
            for p in points
        ],
    )  # fmt: skip


def model_points(tx: Read, model_ids: list[str]) -> dict[str, list[ModelPoint]]:
    """The latest number of each key, run and dataset, by model."""
    if not model_ids:
        return {}
    latest: dict[tuple[str, str, str, str, str], ModelPoint] = {}
    for row in tx.rows(
        f"""select model_id, run_id, key, value, at_ms, step, is_nan, dataset_name, dataset_digest from logged_model_metric
             where {among(tx, "model_id", "ids")} order by model_id, key, step, at_ms, value""",
        ids=js(model_ids),
    ):
        if row.pop("is_nan"):
            row["value"] = float("nan")
        point = ModelPoint(**row)
        latest[point.model_id, point.key, point.run_id, point.dataset_name, point.dataset_digest] = point
    found: dict[str, list[ModelPoint]] = {}
    for point in latest.values():
        found.setdefault(point.model_id, []).append(point)
    return found
