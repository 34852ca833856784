"""registry: what people write on the card of a model version, every edit kept."""

from alembic import op

from noria.migrations.columns import at_ms, ident, integer, text

revision, down_revision = "0017", "0012"


def upgrade() -> None:
    op.create_table(
        "card_section",
        ident("version_id", primary_key=True), text("section", primary_key=True), integer("edit", primary_key=True),
        text("content"), text("actor"), at_ms("at_ms"),
    )  # fmt: skip
