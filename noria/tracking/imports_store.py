"""The rows of imports: what only they write, because elsewhere it is the moment that says it."""

from __future__ import annotations

from noria.kernel.db import Read, Write, js
from noria.tracking.import_model import SEALED_TAG, SOURCE_TAG, Counts
from noria.tracking.model import ModelUse
from noria.tracking.store import among


def set_experiment_times(tx: Write, experiment_id: str, created_at_ms: int, updated_at_ms: int) -> None:
    tx.run(
        "update experiment set created_at_ms = :created, updated_at_ms = :updated where id = :id",
        id=experiment_id, created=created_at_ms, updated=updated_at_ms,
    )  # fmt: skip


def seal_run(
    tx: Write, run_id: str, *, status: str, ended_at_ms: int | None, stage: str, deleted_at_ms: int | None
) -> None:  # fmt: skip
    tx.run(
        """update run set status = :status, ended_at_ms = :ended, stage = :stage, deleted_at_ms = :deleted
            where id = :id""",
        id=run_id, status=status, ended=ended_at_ms, stage=stage, deleted=deleted_at_ms,
    )  # fmt: skip


def seal_model(tx: Write, model_id: str, *, status: str, message: str, stage: str, updated_at_ms: int) -> None:
    tx.run(
        """update logged_model set status = :status, status_message = :message, stage = :stage, updated_at_ms = :updated
            where id = :id""",
        id=model_id, status=status, message=message, stage=stage, updated=updated_at_ms,
    )  # fmt: skip


def models_among(tx: Read, uses: list[ModelUse]) -> set[str]:
    """Those of the used models that exist."""
    ids = js(sorted({use.model_id for use in uses}))
    return set(tx.column(f"select id from logged_model where {among(tx, 'id', 'ids')}", ids=ids)) if uses else set()


def run_counts(tx: Read, run_id: str) -> Counts:
    """What a run consists of."""
    points = tx.scalar("select count(*) from series s join point p on p.series_id = s.id where s.run_id = :id", id=run_id)
    inputs = tx.scalar("select count(*) from run_input where run_id = :id", id=run_id)
    return _counts(tx, f"run:{run_id}", ("param", "tag", "run_id"), run_id, int(points), int(inputs))


def model_counts(tx: Read, model_id: str) -> Counts:
    """What a logged model consists of."""
    points = tx.scalar("select count(*) from logged_model_metric where model_id = :id", id=model_id)
    tables = ("logged_model_param", "logged_model_tag", "model_id")
    return _counts(tx, f"logged_model:{model_id}", tables, model_id, int(points), 0)


def _counts(tx: Read, owner: str, tables: tuple[str, str, str], owner_id: str, points: int, inputs: int) -> Counts:
    params, tags, column = tables  # from code
    files = tx.rows(
        "select count(*) as n, coalesce(sum(size_bytes), 0) as size from artifact where owner = :owner", owner=owner
    )[0]
    return Counts(
        points=points, inputs=inputs, files=int(files["n"]), file_bytes=int(files["size"]),
        params=int(tx.scalar(f"select count(*) from {params} where {column} = :id", id=owner_id)),
        tags=int(tx.scalar(
            f"select count(*) from {tags} where {column} = :id and key <> :source and key <> :sealed",
            id=owner_id, source=SOURCE_TAG, sealed=SEALED_TAG,
        )),
    )  # fmt: skip
