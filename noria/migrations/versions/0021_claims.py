"""pipelines: the claim for which an attempt was handed out, so that a repeated claim is given the same; tokens by expiry."""

from alembic import op

from noria.migrations.columns import text

revision, down_revision = "0021", "0020"


def upgrade() -> None:
    op.add_column("attempt", text("claim", ""))
    op.create_index("token_expiry", "token", ["expires_at_ms"])
