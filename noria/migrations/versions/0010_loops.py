"""loops: loops, their turns, and the alerts they passed over."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, text

revision, down_revision = "0010", "0009"


def upgrade() -> None:
    op.create_table(
        "loop",
        ident("id", primary_key=True), text("name", unique=True), json("spec"), boolean("is_enabled"), text("monitor"),
        text("owner"), integer("numbers_used", 0), at_ms("created_at_ms"), at_ms("updated_at_ms"),
    )  # fmt: skip
    op.create_index("loop_monitor", "loop", ["monitor"])
    op.create_table(
        "turn",
        ident("id", primary_key=True), ident("loop_id"), text("loop"), integer("number"), text("key"), text("state"),
        text("trigger"), integer("cause", nullable=True), json("spec"), json("params"), at_ms("started_at_ms"),
        at_ms("moved_at_ms"), at_ms("ended_at_ms", nullable=True), text("started_by"), text("reason"),
        ident("pipeline_run_id"), ident("model_version_id", nullable=True), integer("challenger", nullable=True),
        integer("champion", nullable=True), json("comparison", nullable=True), ident("approval_id"), ident("canary_id"),
        boolean("is_settled"),
        sa.UniqueConstraint("loop_id", "key", name="turn_once"),
    )  # fmt: skip
    op.create_index("turn_loop", "turn", ["loop_id", "number"])
    op.create_index("turn_open", "turn", ["ended_at_ms", "is_settled"])
    op.create_table(
        "loop_pass",
        ident("loop_id", primary_key=True), integer("cause", primary_key=True, autoincrement=False), at_ms("at_ms"),
        text("reason"), ident("alert"),
    )  # fmt: skip
