"""access: identities of people at a provider, sign-ins under way, how a session began."""

from alembic import op

from noria.migrations.columns import at_ms, ident, text

revision, down_revision = "0033", "0032"


def upgrade() -> None:
    op.create_table(
        "identity",
        text("issuer", primary_key=True),
        text("subject", primary_key=True),
        ident("principal_id"),
        at_ms("at_ms"),
    )
    op.create_index("identity_principal", "identity", ["principal_id"])
    op.create_table(
        "sign_in",
        text("state_sha256", primary_key=True), text("browser_sha256"), text("nonce"), text("verifier"), text("next"),
        at_ms("expires_at_ms"),
    )  # fmt: skip
    for name, default in (("method", "password"), ("agent", "")):
        op.add_column("session", text(name, default))
    op.create_index("session_principal", "session", ["principal_id"])
