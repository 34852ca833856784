"""collector: blobs that lost an owner."""

from alembic import op

from noria.migrations.columns import at_ms, integer, text

revision, down_revision = "0013", "0012"


def upgrade() -> None:
    op.create_table(
        "blob_condemned",
        text("digest", primary_key=True), integer("size_bytes"), at_ms("at_ms"), text("state"),
    )  # fmt: skip
    op.create_index("blob_condemned_due", "blob_condemned", ["state", "at_ms"])
