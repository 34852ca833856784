"""datasets: names, versions, aliases, how big files are cut, profiles of tables."""

from alembic import op

from noria.migrations.columns import at_ms, ident, integer, json, text

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    op.create_table(
        "dataset",
        ident("id", primary_key=True), ident("workspace"), text("name"), at_ms("created_at_ms"), at_ms("updated_at_ms"),
        text("actor"), integer("last_number"), ident("head_id", nullable=True),
    )  # fmt: skip
    op.create_index("dataset_name", "dataset", ["workspace", "name"], unique=True)
    op.create_table(
        "dataset_version",
        ident("id", primary_key=True), ident("dataset_id"), integer("number"), text("root_digest"), at_ms("created_at_ms"),
        text("actor"), text("message"), json("parents"), integer("files_count"), integer("size_bytes"),
        integer("rows_count", nullable=True), json("schema", nullable=True), at_ms("deleted_at_ms", nullable=True),
    )  # fmt: skip
    op.create_index("dataset_version_number", "dataset_version", ["dataset_id", "number"], unique=True)
    op.create_index("dataset_version_root", "dataset_version", ["root_digest"])
    # An alias that is removed keeps its row without a version, so that a generation never comes twice.
    op.create_table(
        "dataset_ref",
        ident("dataset_id", primary_key=True), text("name", primary_key=True), ident("version_id", nullable=True),
        integer("generation"), at_ms("moved_at_ms"), text("actor"),
    )  # fmt: skip
    op.create_index("dataset_ref_version", "dataset_ref", ["version_id"])
    # Files that consist of several blobs. `recipe` names the blob that lists them.
    op.create_table(
        "dataset_content",
        text("digest", primary_key=True), integer("size_bytes"), text("recipe"), integer("chunks_count"), integer("layout"),
    )  # fmt: skip
    # What is in a table depends on its bytes only, so it is computed once for all versions that hold the file.
    op.create_table(
        "dataset_profile",
        text("digest", primary_key=True), text("format", primary_key=True), integer("layout", primary_key=True),
        text("state"), text("reason"), integer("rows_count", nullable=True), json("columns"), at_ms("created_at_ms"),
    )  # fmt: skip
