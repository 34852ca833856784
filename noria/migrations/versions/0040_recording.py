"""serving, monitoring: what of an answer is written, files of many segments, how long they are kept."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, text

revision, down_revision = "0040", "0039"


def upgrade() -> None:
    op.create_table(
        "recording", text("endpoint", primary_key=True), json("policy"), text("salt"), at_ms("updated_at_ms"), text("actor"),
    )  # fmt: skip
    op.add_column("segment", boolean("is_compacted"))
    # A Parquet file of the rows of many segments, which lie in it one after the other.
    op.create_table(
        "log_file",
        ident("id", primary_key=True), text("endpoint"), text("kind"), text("revision_id"), text("digest"), integer("rows"),
        integer("size_bytes"), at_ms("event_from_ms"), at_ms("event_to_ms"), at_ms("from_ms"), at_ms("to_ms"), text("state"),
        at_ms("made_at_ms"),
    )  # fmt: skip
    op.create_index("log_file_endpoint", "log_file", ["endpoint", "to_ms", "id"])
    op.create_index("log_file_digest", "log_file", ["digest"])
    op.add_column("ingested_segment", ident("file_id", nullable=True))
    op.add_column("ingested_segment", integer("file_offset", nullable=True))
    op.create_index("ingested_segment_file", "ingested_segment", ["file_id"])
    op.create_index(
        "ingested_segment_loose", "ingested_segment", ["endpoint", "kind", "at_ms"],
        sqlite_where=sa.text("file_id is null"), postgresql_where=sa.text("file_id is null"),
    )  # fmt: skip
