"""monitoring: who owns an alert, and monitors that are muted for a while."""

from alembic import op

from noria.migrations.columns import at_ms, text

revision, down_revision = "0025", "0024"


def upgrade() -> None:
    op.add_column("alert", text("owner", ""))
    for column in (at_ms("muted_until_ms", nullable=True), text("mute_reason", ""), text("muted_by", "")):
        op.add_column("monitor", column)
