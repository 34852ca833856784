"""serving: endpoints, revisions, replicas, canaries, traffic, segments."""

from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, text

revision, down_revision = "0007", "0006"


def upgrade() -> None:
    op.create_table("serving_generation", integer("id", primary_key=True, autoincrement=False), integer("generation"))
    op.create_table(
        "endpoint",
        text("name", primary_key=True), text("model"), integer("generation"), json("routes"), text("pending_revision_id", ""),
        text("status"), at_ms("created_at_ms"), at_ms("updated_at_ms"), boolean("is_deleted"),
    )  # fmt: skip
    op.create_table(
        "revision",
        ident("id", primary_key=True), text("endpoint"), integer("number"), text("model"), integer("model_version"),
        ident("model_version_id"), text("digest"), json("config"), text("environment"), json("files"), text("state"),
        text("error", ""), at_ms("created_at_ms"), text("actor"),
    )  # fmt: skip
    op.create_index("revision_endpoint", "revision", ["endpoint", "number"], unique=True)
    op.create_table(
        "replica",
        text("node", primary_key=True), ident("revision_id", primary_key=True), text("state"), integer("pid"),
        integer("restarts"), text("digest"), text("error"), at_ms("at_ms"),
    )  # fmt: skip
    op.create_table("serving_node", text("name", primary_key=True), integer("generation"), at_ms("at_ms"))
    op.create_table(
        "canary",
        ident("id", primary_key=True), text("endpoint"), ident("revision_id"), ident("champion_revision_id"),
        integer("model_version"), json("steps"), integer("step"), json("guard"), text("state"), at_ms("started_at_ms"),
        at_ms("stepped_at_ms"), at_ms("ended_at_ms", nullable=True), text("reason", ""), json("evidence", "{}"),
    )  # fmt: skip
    op.create_index("canary_endpoint", "canary", ["endpoint", "started_at_ms"])
    op.create_table(
        "traffic",
        text("endpoint", primary_key=True), at_ms("step_at_ms", primary_key=True), ident("revision_id", primary_key=True),
        integer("requests"), integer("errors"), integer("rejected"), json("latency"),
    )  # fmt: skip
    op.create_index("traffic_revision", "traffic", ["revision_id", "step_at_ms"])
    op.create_table(
        "segment",
        integer("seq", primary_key=True, autoincrement=False), text("endpoint"), text("kind"), text("revision_id"),
        text("digest", unique=True), integer("rows"), integer("size_bytes"), at_ms("event_from_ms"), at_ms("event_to_ms"),
        at_ms("at_ms"),
    )  # fmt: skip
    op.create_index("segment_endpoint", "segment", ["endpoint", "seq"])
