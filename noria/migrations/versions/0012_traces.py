"""traces: traces, their spans and assessments; evaluation datasets."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, real, text

revision, down_revision = "0012", "0010"


def upgrade() -> None:
    _traces()
    _assessments()
    _evaluation_datasets()


def _traces() -> None:
    op.create_table(
        "trace",
        ident("id", primary_key=True), ident("experiment_id"), text("name", ""), text("state"), at_ms("at_ms"),
        integer("duration_ms", nullable=True), text("client_request_id", nullable=True),
        text("request_preview", nullable=True), text("response_preview", nullable=True), boolean("is_final"),
        integer("spans_count", 0), ident("workspace"),
    )  # fmt: skip
    op.create_index("trace_latest", "trace", ["experiment_id", "at_ms", "id"])
    for table in ("trace_tag", "trace_metadata"):
        op.create_table(table, ident("trace_id", primary_key=True), text("key", primary_key=True), text("value"),
                        sqlite_with_rowid=False)  # fmt: skip
        op.create_index(f"{table}_value", table, ["key", sa.text("substr(value, 1, 200)"), "trace_id"])
    op.create_table("trace_run", ident("trace_id", primary_key=True), ident("run_id", primary_key=True))
    op.create_index("trace_run_run", "trace_run", ["run_id", "trace_id"])
    op.create_table("trace_prompt", ident("trace_id", primary_key=True), text("prompt", primary_key=True))
    op.create_index("trace_prompt_prompt", "trace_prompt", ["prompt", "trace_id"])
    op.create_table(
        "span",
        ident("trace_id", primary_key=True), text("span_id", primary_key=True), text("parent_id"), text("name"), text("kind"),
        text("status"), integer("start_ns"), integer("end_ns", nullable=True), integer("input_tokens", nullable=True),
        integer("output_tokens", nullable=True), json("body"),
    )  # fmt: skip


def _assessments() -> None:
    op.create_table(
        "assessment",
        ident("id", primary_key=True), ident("trace_id"), text("name"), text("kind"), text("source_type"), text("source_id"),
        json("value"), real("number", nullable=True), text("format", ""), json("error", nullable=True),
        text("rationale", nullable=True), json("metadata"), text("span_id", ""), text("overrides", ""),
        boolean("is_valid", True), at_ms("created_at_ms"), at_ms("updated_at_ms"), text("actor"),
    )  # fmt: skip
    op.create_index("assessment_trace", "assessment", ["trace_id", "created_at_ms"])
    op.create_index("assessment_name", "assessment", ["kind", "name", "trace_id"])


def _evaluation_datasets() -> None:
    op.create_table(
        "evaluation_dataset",
        ident("id", primary_key=True), text("name"), text("digest"), json("schema", nullable=True),
        integer("records_count", 0), at_ms("created_at_ms"), at_ms("updated_at_ms"), text("created_by"), text("updated_by"),
        ident("workspace"),
    )  # fmt: skip
    op.create_index("evaluation_dataset_name", "evaluation_dataset", ["name"])
    op.create_table(
        "evaluation_dataset_tag",
        ident("dataset_id", primary_key=True), text("key", primary_key=True), text("value"),
    )  # fmt: skip
    op.create_table(
        "evaluation_dataset_experiment",
        ident("dataset_id", primary_key=True), ident("experiment_id", primary_key=True), at_ms("at_ms"),
    )  # fmt: skip
    op.create_index("evaluation_dataset_experiment_of", "evaluation_dataset_experiment", ["experiment_id", "dataset_id"])
    op.create_table(
        "evaluation_record",
        ident("id", primary_key=True), ident("dataset_id"), text("input_digest"), json("inputs"), json("outputs", nullable=True),
        json("expectations", nullable=True), json("tags"), json("source", nullable=True), text("source_type"),
        text("source_id"), at_ms("created_at_ms"), at_ms("updated_at_ms"), text("created_by"), text("updated_by"),
        sa.UniqueConstraint("dataset_id", "input_digest"),
    )  # fmt: skip
    op.create_index("evaluation_record_order", "evaluation_record", ["dataset_id", "created_at_ms", "id"])
