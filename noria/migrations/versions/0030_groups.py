"""access: groups, roles of one's own, projects, labels and clearances."""

from alembic import op

from noria.migrations.columns import at_ms, boolean, ident, json, text

revision, down_revision = "0030", "0029"


def upgrade() -> None:
    op.create_table(
        "membership",
        ident("group_id", primary_key=True), ident("member_id", primary_key=True), text("source", primary_key=True), at_ms("at_ms"),
    )  # fmt: skip
    op.create_index("membership_member", "membership", ["member_id"])
    op.create_table(
        "role", text("name", primary_key=True), json("actions"), text("description"), text("actor"), at_ms("updated_at_ms")
    )
    op.create_table("project", text("name", primary_key=True), text("description"), text("actor"), at_ms("created_at_ms"))
    op.create_table("scope_parent", text("ref", primary_key=True), text("parent"), at_ms("at_ms"))
    op.create_index("scope_parent_parent", "scope_parent", ["parent"])
    op.create_table(
        "label", text("name", primary_key=True), text("description"), boolean("is_restricting"), at_ms("updated_at_ms")
    )
    op.create_table("scope_label", text("ref", primary_key=True), text("label", primary_key=True), at_ms("at_ms"))
    op.create_index("scope_label_label", "scope_label", ["label"])
    op.create_table(
        "clearance",
        ident("principal_id", primary_key=True), text("label", primary_key=True), at_ms("expires_at_ms", nullable=True),
        text("granted_by"), text("reason"), at_ms("at_ms"),
    )  # fmt: skip
    op.create_index("binding_scope", "binding", ["scope"])
