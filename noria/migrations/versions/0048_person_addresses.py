"""conversations: where persons are told of what is in their inbox, and each message on its way."""

from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, text

revision, down_revision = "0048", "0047"


def upgrade() -> None:
    op.create_table(
        "person_address",
        ident("id", primary_key=True), ident("principal_id"), text("workspace"), text("name"), text("service"), text("shown"),
        text("url"), json("reasons"), boolean("enabled"), at_ms("created_at_ms"), at_ms("updated_at_ms"),
    )  # fmt: skip
    op.create_index("person_address_owner", "person_address", ["principal_id", "name"], unique=True)
    op.create_table(
        "person_message",
        ident("id", primary_key=True), ident("address_id"), ident("notification_id"), text("state"), integer("attempts"),
        text("error"), at_ms("created_at_ms"), at_ms("done_at_ms", nullable=True),
    )  # fmt: skip
    op.create_index("person_message_once", "person_message", ["address_id", "notification_id"], unique=True)
    op.create_index("person_message_state", "person_message", ["address_id", "state"])
