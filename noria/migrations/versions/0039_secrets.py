"""access: secrets of projects, in envelopes."""

from alembic import op

from noria.migrations.columns import at_ms, integer, text

revision, down_revision = "0039", "0038"


def upgrade() -> None:
    op.create_table(
        "secret",
        text("project", primary_key=True), text("name", primary_key=True), integer("version"), text("sealed"),
        text("description"), text("actor"), at_ms("created_at_ms"), at_ms("updated_at_ms"), at_ms("used_at_ms", nullable=True),
    )  # fmt: skip
