"""conversations: comments, reactions, who follows what, and what people were told."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, text

revision, down_revision = "0037", "0036"


def upgrade() -> None:
    op.create_table(
        "comment",
        ident("id", primary_key=True), ident("workspace"), text("subject"), ident("thread"), text("author"), ident("author_id"),
        text("body"), text("place", ""), integer("number"), at_ms("created_at_ms"), at_ms("edited_at_ms", nullable=True),
        at_ms("removed_at_ms", nullable=True),
    )  # fmt: skip
    op.create_index("comment_subject", "comment", ["subject", "number"])
    op.create_index("comment_thread", "comment", ["thread"])
    op.create_table(
        "comment_reaction",
        ident("comment_id"), ident("author_id"), text("reaction"), text("author"), at_ms("at_ms"),
        sa.PrimaryKeyConstraint("comment_id", "author_id", "reaction"),
    )  # fmt: skip
    op.create_table(
        "follow",
        ident("principal_id"), text("subject"), ident("workspace"), boolean("is_on"), at_ms("at_ms"),
        sa.PrimaryKeyConstraint("principal_id", "subject"),
    )  # fmt: skip
    op.create_index("follow_subject", "follow", ["subject"])
    op.create_table(
        "notification",
        ident("id", primary_key=True), ident("principal_id"), ident("workspace"), integer("seq"), at_ms("at_ms"), text("reason"),
        text("subject"), ident("comment_id"), at_ms("read_at_ms", nullable=True),
        sa.UniqueConstraint("principal_id", "seq"),
    )  # fmt: skip
    op.create_index("notification_newest", "notification", ["principal_id", "id"])
