"""governance: channels, and what was sent to them."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, text

revision, down_revision = "0041", "0040"


def upgrade() -> None:
    op.create_table(
        "channel",
        text("name", primary_key=True), text("workspace"), text("service"), text("shown"), text("url"), json("kinds"),
        text("min_severity"), json("monitors"), json("endpoints"), boolean("enabled", True), boolean("allow_private"),
        text("description", ""), at_ms("created_at_ms"), at_ms("updated_at_ms"), integer("from_seq"), text("actor"),
    )  # fmt: skip
    op.create_table(
        "channel_delivery",
        ident("id", primary_key=True), text("channel"), integer("seq"), text("state"), integer("attempts", 0), text("error", ""),
        at_ms("created_at_ms"), at_ms("done_at_ms", nullable=True),
        sa.UniqueConstraint("channel", "seq"),
    )  # fmt: skip
    op.create_index("channel_delivery_channel", "channel_delivery", ["channel", "state", "id"])
