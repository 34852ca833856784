"""pipelines: tries that run elsewhere, and the queues that a run sends its steps to."""

from alembic import op

from noria.migrations.columns import json, text

revision, down_revision = "0036", "0035"


def upgrade() -> None:
    for column in (json("place", "{}"), text("ticket", ""), text("holder", ""), text("begun", "")):
        op.add_column("attempt", column)
    op.add_column("pipeline_run", json("queues", "{}"))
