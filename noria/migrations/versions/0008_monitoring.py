"""monitoring: what arrived, the label join, sketches, monitors, their windows, alerts, the canary's evidence."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, real, text

revision, down_revision = "0008", "0007"


def upgrade() -> None:
    # A segment is taken once, whoever tells of it and how often: its digest is the key.
    op.create_table(
        "ingested_segment",
        integer("id", primary_key=True, autoincrement=False), text("digest", unique=True), text("endpoint"), text("kind"),
        integer("rows"), integer("skipped", 0), integer("seq"), at_ms("at_ms"),
    )  # fmt: skip
    op.create_index("ingested_segment_endpoint", "ingested_segment", ["endpoint", "id"])
    op.create_table(
        "watermark",
        text("endpoint", primary_key=True), at_ms("event_at_ms"), integer("bucket_ms"), integer("seq"),
        integer("label_seq", 0), integer("predictions", 0), integer("labels", 0),
    )  # fmt: skip
    # Inference rows name their stream by number; the words are kept once.
    op.create_table(
        "inference_stream",
        integer("id", primary_key=True, autoincrement=False), text("endpoint"), ident("revision_id"), boolean("is_shadow"),
        text("model_version"),
        sa.UniqueConstraint("endpoint", "revision_id", "is_shadow"),
    )  # fmt: skip
    op.create_table(
        "inference",
        text("prediction_id", primary_key=True), integer("stream_id", primary_key=True, autoincrement=False),
        integer("segment_id"), integer("row_index"),
        text("key"), at_ms("event_at_ms"), at_ms("at_ms"), real("score", nullable=True), text("prediction", nullable=True),
        text("truth", nullable=True), real("truth_value", nullable=True), at_ms("truth_at_ms", nullable=True),
        text("truth_by", nullable=True), integer("label_seq", nullable=True),
    )  # fmt: skip
    op.create_index("inference_time", "inference", ["stream_id", "event_at_ms"])
    op.create_index("inference_key", "inference", ["key", "stream_id"])
    op.create_index("inference_label", "inference", ["stream_id", "label_seq"])
    op.create_table(
        "truth",
        text("endpoint", primary_key=True), text("named_by", primary_key=True), text("name", primary_key=True),
        at_ms("at_ms", primary_key=True, autoincrement=False), text("value"),
    )  # fmt: skip
    op.create_table(
        "sketch",
        integer("stream_id", primary_key=True, autoincrement=False),
        at_ms("start_ms", primary_key=True, autoincrement=False), json("profile"),
    )  # fmt: skip
    op.create_table(
        "monitor",
        ident("id", primary_key=True), text("name", unique=True), text("endpoint"), json("spec"), json("baseline"),
        text("state"), at_ms("judged_until_ms"), at_ms("counted_from_ms"), at_ms("created_at_ms"), text("actor"),
        boolean("is_active", True),
    )  # fmt: skip
    op.create_index("monitor_endpoint", "monitor", ["endpoint"])
    op.create_table(
        "monitor_window",
        ident("monitor_id", primary_key=True), at_ms("start_ms", primary_key=True, autoincrement=False), at_ms("end_ms"),
        text("verdict"), real("value", nullable=True), real("low", nullable=True), real("high", nullable=True), real("limit_value"),
        integer("count"), integer("predictions"), real("coverage"), json("findings"), text("why"), at_ms("judged_at_ms"),
        integer("judgements"), boolean("is_stale"), integer("seq", nullable=True),
    )  # fmt: skip
    op.create_index("monitor_window_stale", "monitor_window", ["is_stale", "monitor_id"])
    op.create_table(
        "alert",
        ident("id", primary_key=True), ident("monitor_id"), text("monitor"), text("endpoint"), text("metric"),
        text("severity"), text("state"), real("value"), real("limit_value"), text("why"), at_ms("event_at_ms"),
        at_ms("opened_at_ms"), at_ms("resolved_at_ms", nullable=True),
        at_ms("resolved_event_at_ms", nullable=True), text("resolved_by", ""), text("resolution", ""),
    )  # fmt: skip
    op.create_index("alert_monitor", "alert", ["monitor_id", "opened_at_ms"])
    op.create_index("alert_opened", "alert", ["opened_at_ms"])
    op.create_table(
        "canary_test",
        ident("canary_id", primary_key=True), text("endpoint"), integer("label_seq"), integer("judgements"), json("state"),
        boolean("is_over"),
    )  # fmt: skip
    op.create_table(
        "canary_judgement",
        ident("canary_id", primary_key=True), integer("number", primary_key=True, autoincrement=False), text("endpoint"),
        at_ms("at_ms"), at_ms("event_at_ms"), json("evidence"),
    )  # fmt: skip
    op.create_index("canary_judgement_endpoint", "canary_judgement", ["endpoint", "at_ms"])
    # Alert pages walk forward from a fact to what it led to.
    op.create_index("event_cause", "event", ["cause"])
