"""tracking: experiments, runs, their numbers, files, inputs and logged models."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, real, text

revision, down_revision = "0004", "0003"

DEFAULT_EXPERIMENT = "0"  # MLflow's client logs here when nobody chose an experiment.


def upgrade() -> None:
    _experiments()
    _runs()
    _numbers()
    _files()
    _logged_models()


def _experiments() -> None:
    experiment = op.create_table(
        "experiment",
        ident("id", primary_key=True), text("name"), text("stage"), at_ms("created_at_ms"), at_ms("updated_at_ms"),
        text("actor"), ident("workspace"),
        sa.UniqueConstraint("workspace", "name"),
    )  # fmt: skip
    op.create_table("experiment_tag", ident("experiment_id", primary_key=True), text("key", primary_key=True), text("value"))
    op.bulk_insert(
        experiment,
        [{
            "id": DEFAULT_EXPERIMENT, "name": "Default", "stage": "active", "created_at_ms": 0, "updated_at_ms": 0,
            "actor": "system:setup", "workspace": "0" * 32,
        }],
    )  # fmt: skip


def _runs() -> None:
    op.create_table(
        "run",
        ident("id", primary_key=True), ident("experiment_id"), text("name"), text("status"), text("stage"),
        at_ms("started_at_ms"), at_ms("ended_at_ms", nullable=True), at_ms("deleted_at_ms", nullable=True),
        text("user_name"), text("actor"), ident("workspace"), boolean("has_points"),
        text("source_commit", ""), boolean("source_dirty"), text("source_diff_digest", ""), text("argv", ""),
        text("environment_digest", ""), integer("log_bytes", 0),
    )  # fmt: skip
    op.create_index("run_latest", "run", ["experiment_id", "stage", "started_at_ms", "id"])
    op.create_index("run_latest_of_all", "run", ["stage", "started_at_ms", "id"])
    for table in ("param", "tag"):
        op.create_table(table, ident("run_id", primary_key=True), text("key", primary_key=True), text("value"),
                        sqlite_with_rowid=False)  # fmt: skip
        # PostgreSQL cannot index values of thousands of characters; their beginning finds them.
        op.create_index(f"{table}_value", table, ["key", sa.text("substr(value, 1, 200)"), "run_id"])
    op.create_table(
        "run_input",
        ident("run_id", primary_key=True), text("name", primary_key=True), text("digest", primary_key=True),
        text("source_type"), text("source"), text("schema"), text("profile"), json("tags"),
        text("dataset_version", ""), at_ms("at_ms"),
    )  # fmt: skip
    op.create_index("run_input_name", "run_input", ["name", "digest"])
    op.create_table(
        "run_log",
        ident("run_id", primary_key=True), integer("start_byte", primary_key=True, autoincrement=False), text("content"),
        integer("size_bytes"), at_ms("at_ms"),
    )  # fmt: skip


def _numbers() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    # One row per key of a run; it holds the latest point, by (step, at_ms, value), which is what lists show and search.
    op.create_table(
        "series",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        ident("run_id"), text("key"), integer("step"), at_ms("at_ms"), real("value"), boolean("is_nan"),
        integer("writes", 1), integer("disorder", 0),
        sa.UniqueConstraint("run_id", "key"),
    )  # fmt: skip
    op.create_index("series_value", "series", ["key", "is_nan", "value", "run_id"])
    # The whole row is the key: a repeated point is the same row. Without a rowid SQLite stores it once, in 25 bytes or so.
    op.create_table(
        "point",
        integer("series_id", primary_key=True, autoincrement=False),
        integer("step", primary_key=True, autoincrement=False),
        at_ms("at_ms", primary_key=True, autoincrement=False),
        real("value", primary_key=True), sa.Column("is_nan", sa.Boolean(), primary_key=True),
        sqlite_with_rowid=False,
    )  # fmt: skip


def _files() -> None:
    op.create_table(
        "artifact",
        ident("owner", primary_key=True), text("path", primary_key=True), text("digest"), integer("size_bytes"),
        at_ms("at_ms"),
    )  # fmt: skip
    op.create_index("artifact_digest", "artifact", ["digest"])


def _logged_models() -> None:
    op.create_table(
        "logged_model",
        ident("id", primary_key=True), ident("experiment_id"), text("name"), text("model_type"), ident("source_run_id"),
        text("status"), text("status_message"), text("stage"), at_ms("created_at_ms"), at_ms("updated_at_ms"), text("actor"),
    )  # fmt: skip
    op.create_index("logged_model_experiment", "logged_model", ["experiment_id", "stage", "created_at_ms", "id"])
    op.create_index("logged_model_run", "logged_model", ["source_run_id"])
    for table in ("logged_model_tag", "logged_model_param"):
        op.create_table(table, ident("model_id", primary_key=True), text("key", primary_key=True), text("value"))
    op.create_table(
        "logged_model_metric",
        ident("model_id", primary_key=True), ident("run_id", primary_key=True), text("key", primary_key=True),
        integer("step", primary_key=True, autoincrement=False), at_ms("at_ms", primary_key=True, autoincrement=False),
        real("value", primary_key=True), sa.Column("is_nan", sa.Boolean(), primary_key=True),
        text("dataset_name", ""), text("dataset_digest", ""),
    )  # fmt: skip
    op.create_table(
        "run_model",
        ident("run_id", primary_key=True), ident("model_id", primary_key=True), text("direction", primary_key=True),
        integer("step", 0),
    )  # fmt: skip
