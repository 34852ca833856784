"""access: what provisioning knows of principals."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, ident, json, text

revision, down_revision = "0035", "0034"


def upgrade() -> None:
    op.create_table(
        "provisioned",
        ident("principal_id", primary_key=True), text("user_name"), text("external_id"), json("attributes"), at_ms("updated_at_ms"),
    )  # fmt: skip
    op.create_index("provisioned_user_name", "provisioned", [sa.text("lower(user_name)")])
    op.create_index("provisioned_external_id", "provisioned", ["external_id"])
