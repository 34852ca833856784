"""access: programs that wait for approval, issuers that are trusted, tokens for single things."""

from alembic import op

from noria.migrations.columns import at_ms, ident, integer, json, text

revision, down_revision = "0034", "0033"


def upgrade() -> None:
    op.add_column("token", json("scopes", "[]"))
    op.create_table(
        "device",
        text("device_sha256", primary_key=True), text("user_code", unique=True), text("client"), text("state"),
        ident("principal_id"), at_ms("created_at_ms"), at_ms("expires_at_ms"), at_ms("polled_at_ms"),
    )  # fmt: skip
    op.create_table(
        "trust",
        text("name", primary_key=True), text("issuer"), text("audience"), json("claims"), ident("principal_id"), json("actions"),
        json("scopes"), integer("minutes"), text("jwks"), at_ms("updated_at_ms"),
    )  # fmt: skip
