"""governance: the sealed tree and its checkpoints, policies and verdicts, approvals and votes, webhooks and deliveries."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, integer, json, text

revision, down_revision = "0009", "0008"


def upgrade() -> None:
    op.create_index("event_actor", "event", ["actor", "seq"])
    op.create_table("audit_tree", integer("id", primary_key=True, autoincrement=False), integer("size"))
    op.create_table("audit_node", integer("pos", primary_key=True, autoincrement=False), text("hash"))
    op.create_table(
        "checkpoint",
        integer("size", primary_key=True, autoincrement=False), text("root"), at_ms("at_ms"), text("origin"), text("note"),
    )  # fmt: skip
    op.create_table(
        "policy",
        text("name", primary_key=True), integer("version"), text("action"), json("conditions"), json("match"), text("mode"),
        boolean("enabled", True), text("message"), at_ms("created_at_ms"), at_ms("updated_at_ms"), text("actor"),
        ident("workspace"),
    )  # fmt: skip
    op.create_index("policy_action", "policy", ["action"])
    op.create_table(
        "verdict",
        ident("id", primary_key=True), at_ms("at_ms"), ident("op_id"), text("actor"), text("action"), ident("subject"),
        text("policy"), integer("policy_version"), boolean("allowed"), text("mode"), text("reason"), text("evidence_digest"),
        ident("workspace"),
    )  # fmt: skip
    op.create_index("verdict_subject", "verdict", ["subject", "id"])
    op.create_table(
        "approval",
        ident("id", primary_key=True), ident("subject"), text("action"), text("digest"), json("evidence"),
        integer("required"), json("roles"), text("state"), text("requested_by"), json("authors"), text("comment"),
        at_ms("created_at_ms"), at_ms("expires_at_ms"), at_ms("closed_at_ms", nullable=True), boolean("is_emergency"),
        ident("workspace"),
    )  # fmt: skip
    op.create_index("approval_digest", "approval", ["digest", "state"])
    op.create_index("approval_state", "approval", ["state", "expires_at_ms"])
    op.create_index(
        "approval_pending", "approval", ["subject", "action", "digest"], unique=True,
        sqlite_where=sa.text("state = 'pending'"), postgresql_where=sa.text("state = 'pending'"),
    )  # fmt: skip
    op.create_table(
        "approval_vote",
        ident("approval_id", primary_key=True), ident("principal_id", primary_key=True), text("actor"), text("decision"),
        text("comment"), json("roles"), at_ms("at_ms"),
    )  # fmt: skip
    op.create_table(
        "webhook",
        text("name", primary_key=True), text("url"), json("kinds"), text("secret"), boolean("enabled", True),
        boolean("allow_private"), at_ms("created_at_ms"), at_ms("updated_at_ms"), integer("from_seq"), ident("workspace"),
    )  # fmt: skip
    op.create_table(
        "delivery",
        ident("id", primary_key=True), text("webhook"), integer("seq"), text("state"), integer("attempts"),
        integer("status", nullable=True), text("error"), text("answer"), at_ms("created_at_ms"),
        at_ms("done_at_ms", nullable=True),
    )  # fmt: skip
    op.create_index("delivery_once", "delivery", ["webhook", "seq"], unique=True)
