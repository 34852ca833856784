"""governance: what the files of model versions are, by content."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, integer, json, text

revision, down_revision = "0026", "0025"


def upgrade() -> None:
    op.create_table(
        "model_scan",
        sa.Column("digest", sa.Text(), primary_key=True), text("status"), integer("rules"), json("formats", "{}"),
        json("findings", "[]"), text("why", ""), at_ms("at_ms"), integer("took_ms", 0),
        text("accepted_by", ""), text("accepted_reason", ""), at_ms("accepted_at_ms", nullable=True),
    )  # fmt: skip
    op.create_index("model_version_digest", "model_version", ["digest"])
