"""governance: webhooks that were made through MLflow's API, and get MLflow's messages."""

from alembic import op

from noria.migrations.columns import json, text

revision, down_revision = "0019", "0018"


def upgrade() -> None:
    for column in (text("format", "noria"), text("id", ""), text("description", ""), json("events", "[]")):
        op.add_column("webhook", column)
