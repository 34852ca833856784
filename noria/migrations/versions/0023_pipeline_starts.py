"""pipelines: what catches up, what the code declares, files and signed messages as causes."""

from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, json, text

revision, down_revision = "0023", "0022"


def upgrade() -> None:
    op.add_column("schedule", text("catch_up", "latest"))
    op.add_column("schedule", boolean("is_declared"))
    for column in (json("files", nullable=True), boolean("is_hook"), boolean("is_declared"), text("secret", "")):
        op.add_column("trigger", column)
    op.create_table(
        "trigger_file",
        ident("trigger_id", primary_key=True), text("path", primary_key=True), text("stamp"), boolean("is_told"),
    )  # fmt: skip
    op.create_table(
        "trigger_message", ident("trigger_id", primary_key=True), text("message_id", primary_key=True), at_ms("at_ms")
    )
