"""compliance: systems, what checks found of them, waivers, sheets of data, reports, technical files."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, text

revision, down_revision = "0038", "0037"


def upgrade() -> None:
    op.create_table(
        "ai_system",
        text("name", primary_key=True), json("spec"), integer("edit"), at_ms("created_at_ms"), at_ms("updated_at_ms"),
        text("actor"), boolean("is_retired"), ident("workspace"),
    )  # fmt: skip
    op.create_table(
        "compliance_finding",
        text("system", primary_key=True), text("check_id", primary_key=True), text("state"), text("measured"), text("reason"),
        json("items"), integer("items_count"), text("inputs_digest"), text("catalogue"), at_ms("at_ms"), at_ms("since_ms"),
        text("waiver"),
    )  # fmt: skip
    op.create_table(
        "compliance_waiver",
        ident("id", primary_key=True), text("system"), text("check_id"), text("reason"), text("actor"), at_ms("created_at_ms"),
        at_ms("expires_at_ms"), at_ms("revoked_at_ms", nullable=True), text("revoked_by", ""),
        sa.Index("compliance_waiver_of", "system", "check_id"),
    )  # fmt: skip
    op.create_table(
        "system_section",
        text("system", primary_key=True), integer("section", primary_key=True), integer("edit", primary_key=True),
        text("content"), text("actor"), at_ms("at_ms"),
    )  # fmt: skip
    op.create_table(
        "system_report",
        ident("id", primary_key=True), text("system"), text("kind"), text("title"), text("uri"), text("digest"),
        at_ms("dated_at_ms"), json("numbers"), text("subject"), text("actor"), at_ms("at_ms"),
        sa.Index("system_report_of", "system", "kind", "dated_at_ms"),
    )  # fmt: skip
    op.create_table(
        "data_sheet",
        text("dataset", primary_key=True), json("spec"), integer("edit"), text("actor"), at_ms("updated_at_ms"),
    )  # fmt: skip
    op.add_column("checkpoint", at_ms("anchored_at_ms", nullable=True))
    op.create_table(
        "access_review",
        ident("id", primary_key=True), text("title"), at_ms("created_at_ms"), text("actor"), at_ms("closed_at_ms", nullable=True),
        text("closed_by", ""),
    )  # fmt: skip
    op.create_table(
        "access_review_item",
        ident("review_id", primary_key=True), integer("position", primary_key=True), text("kind"), ident("principal_id"),
        text("principal"), text("what"), text("scope"), at_ms("expires_at_ms", nullable=True), text("granted_by"),
        at_ms("last_seen_ms", nullable=True), text("decision", ""), text("reason", ""), text("actor", ""),
        at_ms("at_ms", nullable=True),
    )  # fmt: skip
    op.create_table(
        "legal_hold",
        ident("id", primary_key=True), text("subject"), text("reason"), text("actor"), at_ms("created_at_ms"),
        at_ms("released_at_ms", nullable=True), text("released_by", ""), text("release_reason", ""),
    )  # fmt: skip
    op.create_table(
        "kept_evidence",
        text("ref", primary_key=True), text("system", primary_key=True), at_ms("live_at_ms"),
    )  # fmt: skip
    op.create_table(
        "retention",
        integer("id", primary_key=True), integer("evidence_days"), text("reason"), text("actor"), at_ms("updated_at_ms"),
    )  # fmt: skip
    op.create_table(
        "erasure",
        ident("id", primary_key=True), text("reference"), text("mark"), text("column_name"), json("datasets"),
        at_ms("received_at_ms"), at_ms("due_at_ms"), json("outcome"), text("state"), at_ms("closed_at_ms", nullable=True),
        text("note", ""), text("actor"), at_ms("created_at_ms"), text("salt", ""),
    )  # fmt: skip
    op.create_table(
        "incident",
        ident("id", primary_key=True), text("system"), text("severity"), text("title"), text("description"),
        at_ms("aware_at_ms"), at_ms("due_at_ms"), at_ms("reported_at_ms", nullable=True), text("reported_to", ""),
        at_ms("closed_at_ms", nullable=True), text("resolution", ""), text("actor"), at_ms("created_at_ms"),
        sa.Index("incident_of", "system", "due_at_ms"),
    )  # fmt: skip
