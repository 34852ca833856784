"""pipelines: backfills, with a row for each date."""

from alembic import op

from noria.migrations.columns import at_ms, ident, integer, json, text

revision, down_revision = "0024", "0023"


def upgrade() -> None:
    op.create_table(
        "backfill",
        ident("id", primary_key=True), text("pipeline"), integer("version"), text("param"), text("first"), text("last"),
        text("step"), json("params"), integer("parallel"), text("state"), ident("owner"), text("actor"), at_ms("created_at_ms"),
        at_ms("ended_at_ms", nullable=True), text("error", ""),
    )  # fmt: skip
    op.create_index("backfill_state", "backfill", ["state"])
    op.create_table(
        "backfill_part",
        ident("backfill_id", primary_key=True), integer("position", primary_key=True), text("value"), text("key"),
        text("state"), text("run_id", ""), text("reason", ""),
    )  # fmt: skip
    op.create_index("backfill_part_key", "backfill_part", ["key", "state"])
    op.create_index("backfill_part_state", "backfill_part", ["backfill_id", "state", "position"])
