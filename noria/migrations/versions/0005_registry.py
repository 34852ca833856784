"""registry: models, versions, their files, tags, aliases with their moves, evaluations."""

from alembic import op

from noria.migrations.columns import at_ms, ident, integer, json, text

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    op.create_table(
        "model",
        ident("id", primary_key=True), text("name", unique=True), text("description"), text("actor"),
        integer("numbers_used", 0), at_ms("created_at_ms"), at_ms("updated_at_ms"),
    )  # fmt: skip
    op.create_table("model_tag", ident("model_id", primary_key=True), text("key", primary_key=True), text("value"))
    op.create_table(
        "model_version",
        ident("id", primary_key=True), ident("model_id"), integer("number"), ident("run_id"), text("source"),
        text("digest"), integer("size_bytes"), integer("files_count"), json("flavors"), json("signature", nullable=True),
        json("input_example", nullable=True), text("environment_digest"), json("packages"), text("logged_model"),
        text("run_link"), text("status"), text("description"), text("actor"), at_ms("created_at_ms"), at_ms("updated_at_ms"),
    )  # fmt: skip
    op.create_index("model_version_number", "model_version", ["model_id", "number"], unique=True)
    op.create_index("model_version_run", "model_version", ["run_id"])
    op.create_table("model_version_tag", ident("version_id", primary_key=True), text("key", primary_key=True), text("value"))
    op.create_table(
        "model_file",
        ident("version_id", primary_key=True), text("path", primary_key=True), integer("size_bytes"), text("digest"),
    )  # fmt: skip
    op.create_index("model_file_digest", "model_file", ["digest"])
    op.create_table(
        "alias",
        ident("model_id", primary_key=True), text("name", primary_key=True), integer("number", nullable=True),
        integer("generation"), at_ms("moved_at_ms"), text("actor"),
    )  # fmt: skip
    op.create_table(
        "alias_move",
        ident("model_id", primary_key=True), text("alias", primary_key=True), integer("generation", primary_key=True),
        integer("number", nullable=True), integer("was", nullable=True), at_ms("at_ms"), text("actor"), json("verdicts"),
    )  # fmt: skip
    op.create_table(
        "evaluation",
        ident("version_id", primary_key=True), integer("seq", primary_key=True), ident("dataset_version"), text("split"),
        json("metrics"), json("slices"), at_ms("at_ms"), text("actor"),
    )  # fmt: skip
