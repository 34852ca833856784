"""serving: what a worker uses of its memory, and how it last ended unasked."""

from alembic import op

from noria.migrations.columns import integer, text

revision, down_revision = "0049", "0048"


def upgrade() -> None:
    for name in ("memory_bytes", "memory_limit_bytes", "fault_at_ms"):
        op.add_column("replica", integer(name, 0))
    op.add_column("replica", text("fault", ""))
