"""serving: several workers of a revision on a node, and what each answers with, in words."""

from alembic import op

from noria.migrations.columns import at_ms, ident, integer, text

revision, down_revision = "0029", "0028"


def upgrade() -> None:
    # Made anew, because SQLite cannot change a key: each node writes its rows again within seconds.
    op.drop_table("replica")
    op.create_table(
        "replica",
        text("node", primary_key=True), ident("revision_id", primary_key=True),
        integer("seat", primary_key=True, autoincrement=False), text("state"), integer("pid"), integer("restarts"),
        text("digest"), text("engine", ""), text("error"), at_ms("at_ms"),
    )  # fmt: skip
