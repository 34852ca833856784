"""reports: documents with live panels, every version of them, and the links that show one."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, ident, integer, json, text

revision, down_revision = "0046", "0045"


def upgrade() -> None:
    op.create_table(
        "report",
        ident("id", primary_key=True), ident("workspace"), text("title"), integer("latest"), at_ms("created_at_ms"),
        text("created_by"), at_ms("updated_at_ms"), text("updated_by"),
    )  # fmt: skip
    op.create_index("report_changed", "report", ["updated_at_ms", "id"])
    op.create_table(
        "report_version",
        ident("report"), integer("number"), text("title"), json("blocks"), integer("blocks_count"), text("message", ""),
        at_ms("saved_at_ms"), text("saved_by"), integer("restored_from", nullable=True),
        sa.PrimaryKeyConstraint("report", "number"),
    )  # fmt: skip
    op.create_table(
        "report_link",
        ident("id", primary_key=True), ident("workspace"), ident("report"), integer("version"), text("name", ""),
        text("audience"), text("sharer"), ident("sharer_id"), text("token_id", ""), text("secret_sha256"),
        at_ms("created_at_ms"), at_ms("expires_at_ms"), at_ms("used_at_ms", nullable=True),
    )  # fmt: skip
    op.create_index("report_link_report", "report_link", ["report"])
