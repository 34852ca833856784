"""kernel: personal values beside the facts that commit to them."""

from alembic import op

from noria.migrations.columns import integer, text

revision, down_revision = "0043", "0042"


def upgrade() -> None:
    op.create_table(
        "event_personal",
        integer("seq", primary_key=True, autoincrement=False), text("field", primary_key=True), text("salt"), text("value"),
    )  # fmt: skip
