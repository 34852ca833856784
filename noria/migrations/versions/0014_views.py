"""views: what somebody made of a list, under a name; and why an alias was moved."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, text

revision, down_revision = "0014", "0013"


def upgrade() -> None:
    op.create_table(
        "saved_view",
        ident("id", primary_key=True), text("page"), text("name"), ident("scope"), text("owner"), ident("owner_id"),
        boolean("is_shared"), json("spec"), at_ms("created_at_ms"), at_ms("updated_at_ms"), integer("generation", 1),
        ident("workspace"),
        sa.UniqueConstraint("workspace", "owner_id", "page", "scope", "name", name="saved_view_name"),
    )  # fmt: skip
    op.add_column("alias_move", text("reason", ""))
