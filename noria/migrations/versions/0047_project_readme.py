"""access: what a project says of itself."""

from alembic import op

from noria.migrations.columns import at_ms, integer, text

revision, down_revision = "0047", "0046"


def upgrade() -> None:
    op.add_column("project", text("readme", ""))
    op.add_column("project", integer("readme_edit", 0))
    op.add_column("project", text("readme_actor", ""))
    op.add_column("project", at_ms("readme_at_ms", nullable=True))
