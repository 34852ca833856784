"""tracking: uploads in parts that are under way, and links to files, each opened by a secret of its own."""

from alembic import op

from noria.migrations.columns import at_ms, ident, integer, text

revision, down_revision = "0018", "0017"


def upgrade() -> None:
    op.create_table(
        "transfer",
        ident("id", primary_key=True), text("kind"), text("state"), text("secret_sha256"), text("workspace"), text("uri"),
        text("digest"), integer("size_bytes"), integer("parts"), text("actor"), at_ms("created_at_ms"), at_ms("expires_at_ms"),
    )  # fmt: skip
    op.create_index("transfer_expiry", "transfer", ["expires_at_ms"])
