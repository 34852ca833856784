"""The rows of purging."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from noria.kernel.db import Database, Read, Write, js
from noria.kernel.ids import Ref
from noria.tracking.model import DEFAULT_EXPERIMENT
from noria.tracking.store import among

NOBODYS = "!purged"  # in place of a run's id; no run can be called so
PAGES_PER_STEP = 2_000  # of the database file, given back at once


class Candidate(Struct, frozen=True):
    """Something that was put away."""

    kind: str
    id: str
    name: str
    experiment_id: str

    @property
    def ref(self) -> Ref:
        return Ref(self.kind, self.id)


def candidates(
    tx: Read,
    workspace: str,
    *,
    before_ms: int,
    experiments: list[str] | None,
    experiment_id: str,
    runs: list[str],
    limit: int,
) -> list[Candidate]:
    """Runs, then logged models, then experiments that were put away before `before_ms`; the oldest first."""
    params = {
        "workspace": workspace, "before": before_ms, "limit": limit, "visible": js(experiments or []),
        "experiment": experiment_id, "runs": js(runs), "default": DEFAULT_EXPERIMENT,
    }  # fmt: skip
    seen = "" if experiments is None else f"and {among(tx, 'r.experiment_id', 'visible')}"
    within = "and r.experiment_id = :experiment" if experiment_id else ""
    chosen = f"and {among(tx, 'r.id', 'runs')}" if runs else ""
    found = tx.all(
        Candidate,
        f"""select 'run' as kind, r.id, r.name, r.experiment_id from run r
             where r.workspace = :workspace and r.stage = 'deleted' and r.deleted_at_ms <= :before {seen} {within} {chosen}
             order by r.deleted_at_ms, r.id limit :limit""",
        **_used(params, seen, within, chosen, "workspace", "before", "limit"),
    )  # fmt: skip
    if len(found) < limit:
        found += tx.all(
            Candidate,
            f"""select 'logged_model' as kind, r.id, r.name, r.experiment_id from logged_model r
                  join experiment e on e.id = r.experiment_id
                 where e.workspace = :workspace and r.stage = 'deleted' and r.updated_at_ms <= :before {seen} {within} {chosen}
                 order by r.updated_at_ms, r.id limit :limit""",
            **_used(params | {"limit": limit - len(found)}, seen, within, chosen, "workspace", "before", "limit"),
        )  # fmt: skip
        runs_going = {c.id for c in found if c.kind == "run"}
        own = {ref.id for c in found if c.kind == "run" for ref in models_of(tx, c)} if runs_going else set()
        found = [c for c in found if not (c.kind == "logged_model" and c.id in own)]  # they go with their run
    if len(found) < limit and not runs:
        seen, within = seen.replace("r.experiment_id", "r.id"), within.replace("r.experiment_id", "r.id")
        found += tx.all(
            Candidate,
            f"""select 'experiment' as kind, r.id, r.name, r.id as experiment_id from experiment r
                 where r.workspace = :workspace and r.stage = 'deleted' and r.updated_at_ms <= :before and r.id <> :default
                       {seen} {within}
                 order by r.updated_at_ms, r.id limit :limit""",
            **_used(params | {"limit": limit - len(found)}, seen, within, "", "workspace", "before", "limit", "default"),
        )  # fmt: skip
    return found


def _used(params: dict[str, object], seen: str, within: str, chosen: str, *names: str) -> dict[str, object]:
    more = [name for name, clause in (("visible", seen), ("experiment", within), ("runs", chosen)) if clause]
    return {name: params[name] for name in (*names, *more)}


def models_of(tx: Read, thing: Candidate) -> list[Ref]:
    """The logged models that go with a run."""
    if thing.kind != "run":
        return []
    found = tx.column("select id from logged_model where source_run_id = :run order by id", run=thing.id)
    return [Ref("logged_model", model_id) for model_id in found]


def readers_of(tx: Read, model_ids: list[str]) -> list[str]:
    """Active runs that read one of these models."""
    if not model_ids:
        return []
    return tx.column(
        """select distinct m.run_id from run_model m join run r on r.id = m.run_id
            where m.model_id in :ids and m.direction = 'input' and r.stage = 'active' order by 1 limit 10""",
        ids=model_ids,
    )  # fmt: skip


def contents(tx: Read, experiment_id: str, *, limit: int) -> list[str]:
    """Refs of what an experiment still holds."""
    runs = tx.column(
        "select id from run where experiment_id = :id order by id limit :limit", id=experiment_id, limit=limit + 200
    )
    models = tx.column(
        "select id from logged_model where experiment_id = :id order by id limit :limit", id=experiment_id, limit=limit + 200
    )
    traces = tx.column(
        "select id from trace where experiment_id = :id order by id limit :limit", id=experiment_id, limit=limit
    )
    refs = [Ref("run", i) for i in runs] + [Ref("logged_model", i) for i in models] + [Ref("trace", i) for i in traces]
    return [str(ref) for ref in refs]


def files_of(tx: Read, owners: list[str]) -> list[tuple[str, int]]:
    """Digest and size of every file."""
    return [
        (row[0], int(row[1]))
        for row in tx.tuples(
            f"select digest, size_bytes from artifact where {among(tx, 'owner', 'owners')}", owners=js(owners)
        )
    ]


def blobs_of(tx: Read, owners: list[str]) -> dict[str, int]:
    return dict(files_of(tx, owners))


def owned_by_others(tx: Read, digests: list[str], owners: list[str]) -> set[str]:
    """Those of `digests` that files of anything but `owners` have."""
    if not digests:
        return set()
    found: set[str] = set()
    for at in range(0, len(digests), 500):
        rows = tx.tuples(
            "select distinct digest, owner from artifact where digest in :digests", digests=digests[at : at + 500]
        )
        found |= {row[0] for row in rows if row[1] not in set(owners)}
    return found


def points_count(tx: Read, run_id: str) -> int:
    return int(
        tx.scalar("select count(*) from point where series_id in (select id from series where run_id = :run)", run=run_id)
    )


def hold(tx: Write, thing: Candidate, before_ms: int) -> bool:
    """Is it still put away? Holds its row until the end of the transaction, so that nobody restores it meanwhile."""
    table, at = {"run": ("run", "deleted_at_ms"), "logged_model": ("logged_model", "updated_at_ms")}.get(
        thing.kind, ("experiment", "updated_at_ms")
    )
    held = tx.run(
        f"update {table} set stage = stage where id = :id and stage = 'deleted' and {at} <= :before",
        id=thing.id,
        before=before_ms,
    )
    return held == 1


def remove_run(tx: Write, run: Ref) -> None:
    """The rows of a run. Its series stay, as nobody's, until their points are gone: SQLite would give their ids out again."""
    tx.run("update series set run_id = :nobody, key = cast(id as text) where run_id = :run", run=run.id, nobody=NOBODYS)
    for table in ("param", "tag", "run_input", "run_log", "run_model", "logged_model_metric"):
        tx.run(f"delete from {table} where run_id = :run", run=run.id)
    _remove_owned(tx, run)
    tx.run("delete from run where id = :run", run=run.id)


def remove_model(tx: Write, model: Ref) -> None:
    for table in ("logged_model_tag", "logged_model_param", "logged_model_metric", "run_model"):
        tx.run(f"delete from {table} where model_id = :model", model=model.id)
    _remove_owned(tx, model)
    tx.run("delete from logged_model where id = :model", model=model.id)


def remove_experiment(tx: Write, experiment: Ref) -> None:
    tx.run("delete from experiment_tag where experiment_id = :id", id=experiment.id)
    tx.run("delete from experiment where id = :id", id=experiment.id)
    tx.run("delete from edge where src = :ref or dst = :ref", ref=str(experiment))


def _remove_owned(tx: Write, owner: Ref) -> None:
    tx.run("delete from artifact where owner = :owner", owner=str(owner))
    tx.run("delete from edge where src = :ref or dst = :ref", ref=str(owner))


def next_purged_series(tx: Read) -> int | None:
    found = tx.scalar("select id from series where run_id = :nobody order by id limit 1", nobody=NOBODYS)
    return None if found is None else int(found)


def remove_points(tx: Write, series_id: int, count: int) -> bool:
    """The first `count` points of a series; True when all are gone, and the series with them."""
    last = tx.rows(
        "select step, at_ms from point where series_id = :id order by step, at_ms limit 1 offset :count",
        id=series_id,
        count=count,
    )
    if last:
        tx.run(
            "delete from point where series_id = :id and (step, at_ms) <= (:step, :at_ms)",
            id=series_id, step=last[0]["step"], at_ms=last[0]["at_ms"],
        )  # fmt: skip
        return False
    tx.run("delete from point where series_id = :id", id=series_id)
    tx.run("delete from series where id = :id", id=series_id)
    return True


def file_bytes(db: Database) -> int:
    """The size of a SQLite database; 0 on PostgreSQL, whose autovacuum uses the space again."""
    if db.dialect != "sqlite":
        return 0
    path = Path(db.url.removeprefix("sqlite:///"))
    return sum(p.stat().st_size for p in (path, path.with_name(path.name + "-wal")) if p.exists())


def give_back_space(db: Database) -> None:
    """Make a SQLite file smaller by the pages that became free, a part at a time."""
    if db.dialect != "sqlite":
        return
    while True:
        with db.system_write() as tx:
            if int(tx.scalar("pragma auto_vacuum")) != 2 or int(tx.scalar("pragma freelist_count")) == 0:
                return
            before = int(tx.scalar("pragma freelist_count"))
            tx.raw.execute(f"pragma incremental_vacuum({PAGES_PER_STEP})").fetchall()
            if int(tx.scalar("pragma freelist_count")) >= before:
                return
