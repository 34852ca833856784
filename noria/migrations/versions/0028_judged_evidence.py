"""governance: the evidence that policies were shown, by its digest, so that a rule can be tried on past decisions."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, json

revision, down_revision = "0028", "0027"


def upgrade() -> None:
    op.create_table("judged_evidence", sa.Column("digest", sa.Text(), primary_key=True), json("evidence"), at_ms("at_ms"))
