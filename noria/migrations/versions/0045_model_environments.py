"""serving: where a worker runs, what is kept from it, what it waits for; what models were made into, signed."""

from alembic import op

from noria.migrations.columns import at_ms, ident, json, text

revision, down_revision = "0045", "0044"


def upgrade() -> None:
    for name in ("environment", "isolation", "doing"):
        op.add_column("replica", text(name, ""))
    op.create_table(
        "conversion",
        text("digest", primary_key=True), ident("revision_id"), text("made_digest"), json("files"), text("words"), text("envelope"),
        at_ms("at_ms"),
    )  # fmt: skip
