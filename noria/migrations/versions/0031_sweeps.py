"""pipelines: what steps report while they work."""

from alembic import op
from sqlalchemy import PrimaryKeyConstraint

from noria.migrations.columns import at_ms, boolean, ident, integer, json

revision, down_revision = "0031", "0030"


def upgrade() -> None:
    op.create_table(
        "step_report",
        ident("step_run_id"), integer("attempt"), integer("step"), json("metrics"), at_ms("at_ms"), boolean("pruned"),
        PrimaryKeyConstraint("step_run_id", "attempt", "step"),
    )  # fmt: skip
