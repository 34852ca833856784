"""governance: signatures of the files of models, and SHA-256 of what is known by BLAKE3."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import ident, text

revision, down_revision = "0042", "0041"


def upgrade() -> None:
    op.add_column("attestation", sa.Column("bundle", sa.Text(), nullable=True))
    op.create_table("sha256_of", ident("digest", primary_key=True), text("sha256"))
