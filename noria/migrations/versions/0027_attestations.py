"""governance: signed statements about model versions."""

from alembic import op

from noria.migrations.columns import at_ms, ident, text

revision, down_revision = "0027", "0026"


def upgrade() -> None:
    op.create_table("attestation", ident("version_id", primary_key=True), text("envelope"), at_ms("at_ms"))
