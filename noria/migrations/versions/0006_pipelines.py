"""pipelines: versions, runs, steps, attempts, logs, cache, schedules, triggers, workers."""

from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, real, text

revision, down_revision = "0006", "0005"


def upgrade() -> None:
    op.create_table(
        "pipeline",
        ident("id", primary_key=True), text("name", unique=True), integer("version"), text("description"),
        at_ms("created_at_ms"), at_ms("updated_at_ms"), ident("owner"),
    )  # fmt: skip
    op.create_table(
        "pipeline_version",
        text("pipeline", primary_key=True), integer("number", primary_key=True), text("digest"), at_ms("created_at_ms"),
        text("actor"), ident("owner"), json("spec"),
    )  # fmt: skip
    op.create_table(
        "pipeline_run",
        ident("id", primary_key=True), text("pipeline"), integer("version"), text("state"), json("params"),
        at_ms("created_at_ms"), at_ms("started_at_ms", nullable=True), at_ms("ended_at_ms", nullable=True), text("actor"),
        ident("owner"), integer("cause", nullable=True), text("unique_key", unique=True), text("error", ""),
        integer("remaining"), json("outputs", "{}"),
    )  # fmt: skip
    op.create_index("pipeline_run_pipeline", "pipeline_run", ["pipeline", "id"])
    op.create_index("pipeline_run_state", "pipeline_run", ["state"])
    op.create_table(
        "step_run",
        ident("id", primary_key=True), ident("run_id"), text("name"), integer("position"), text("state"), integer("waits"),
        integer("attempt"), integer("failures", 0), integer("losses", 0), at_ms("due_at_ms"),
        at_ms("started_at_ms", nullable=True), at_ms("ended_at_ms", nullable=True), text("worker", ""),
        at_ms("lease_until_ms", nullable=True), text("error", ""), text("cache_key", ""), text("cached_from", ""),
        text("reason", ""), integer("log_bytes", 0), json("outputs", nullable=True),
        json("reads", "[]"),
    )  # fmt: skip
    op.create_index("step_run_run", "step_run", ["run_id", "name"], unique=True)
    op.create_index("step_run_due", "step_run", ["state", "due_at_ms"])
    op.create_table("step_wait", ident("parent_id", primary_key=True), ident("child_id", primary_key=True))
    op.create_index("step_wait_child", "step_wait", ["child_id"])
    op.create_table(
        "attempt",
        ident("step_run_id", primary_key=True), integer("number", primary_key=True), text("worker"), text("state"),
        at_ms("started_at_ms"), at_ms("ended_at_ms", nullable=True), integer("exit_code", nullable=True), text("error", ""),
        text("environment_digest", ""), integer("log_bytes", 0),
    )  # fmt: skip
    op.create_table("step_log", ident("step_run_id", primary_key=True), integer("start", primary_key=True), text("body"))
    op.create_table(
        "cache_entry",
        text("key", primary_key=True), text("pipeline"), text("step"), ident("step_run_id"), json("outputs"), text("code"),
        json("inputs"), at_ms("created_at_ms"),
    )  # fmt: skip
    op.create_index("cache_entry_step", "cache_entry", ["pipeline", "step", "created_at_ms"])
    op.create_table(
        "schedule",
        ident("id", primary_key=True), text("name", unique=True), text("pipeline"), text("cron"), text("time_zone"),
        json("params"), boolean("is_enabled", True), ident("owner"), at_ms("created_at_ms"), at_ms("next_at_ms"),
        at_ms("last_at_ms", nullable=True), text("last_run_id", ""), text("error", ""),
    )  # fmt: skip
    op.create_table(
        "trigger",
        ident("id", primary_key=True), text("name", unique=True), text("pipeline"), json("kinds"), json("filter"),
        json("params"), real("cooldown_s"), boolean("is_enabled", True), ident("owner"), at_ms("created_at_ms"),
        at_ms("last_at_ms", nullable=True), text("last_run_id", ""), integer("skipped", 0), text("error", ""),
    )  # fmt: skip
    op.create_table(
        "pipeline_worker",
        ident("id", primary_key=True), text("name"), text("host"), integer("pid"), integer("slots"), at_ms("started_at_ms"),
        at_ms("seen_at_ms"),
    )  # fmt: skip
