"""governance: teams that answer, overrides that are looked at afterwards, questions to hooks."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, ident, text

revision, down_revision = "0044", "0043"


def upgrade() -> None:
    op.add_column("approval", text("teams", "[]"))
    op.add_column("approval", text("reviewed_by", ""))
    op.add_column("approval", text("review", ""))
    op.add_column("approval", sa.Column("reviewed_at_ms", sa.BigInteger(), nullable=True))
    op.add_column("approval_vote", text("teams", "[]"))
    op.create_table(
        "hook_question",
        ident("key", primary_key=True), text("webhook"), text("question"), text("state"), text("reason"),
        at_ms("asked_at_ms"), at_ms("answered_at_ms", nullable=True),
    )  # fmt: skip
