"""access: principals, bindings, tokens, sessions, the set-up link."""

from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, text

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    op.create_table(
        "principal",
        ident("id", primary_key=True), text("kind"), text("name", unique=True), boolean("is_active"),
        at_ms("created_at_ms"), text("password_hash", ""),
    )  # fmt: skip
    op.create_table(
        "binding",
        ident("principal_id", primary_key=True), text("role", primary_key=True), text("scope", primary_key=True),
        at_ms("expires_at_ms", nullable=True), text("granted_by"), text("reason"), at_ms("at_ms"),
    )  # fmt: skip
    op.create_table("authz_epoch", integer("id", primary_key=True, autoincrement=False), integer("epoch"))
    op.create_table(
        "token",
        ident("id", primary_key=True), ident("principal_id"), text("name"), text("secret_sha256"), json("actions"),
        at_ms("created_at_ms"), at_ms("expires_at_ms", nullable=True), at_ms("last_used_at_ms", nullable=True),
        text("on_behalf_of", ""), text("actor_kind", ""), text("actor_name", ""),
    )  # fmt: skip
    op.create_index("token_principal", "token", ["principal_id"])
    op.create_table(
        "session",
        text("secret_sha256", primary_key=True), ident("principal_id"), at_ms("created_at_ms"), at_ms("seen_at_ms"),
        at_ms("expires_at_ms"),
    )  # fmt: skip
    op.create_table("setup", integer("id", primary_key=True, autoincrement=False), text("code_sha256"))
