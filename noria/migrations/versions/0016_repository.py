"""datasets: bytes, lists of files and references live in the repository; rows are its index. Branches and tags."""

from alembic import op

from noria.migrations.columns import text

revision, down_revision = "0016", "0014"


def upgrade() -> None:
    with op.batch_alter_table("dataset_ref") as table:
        table.add_column(text("kind", "alias"))  # alias, branch, tag
    with op.batch_alter_table("dataset_version") as table:
        table.add_column(text("branch", "main"))
    op.drop_table("dataset_content")  # how big files are cut is in the packs now
