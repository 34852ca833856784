"""pipelines: steps made at run time, conditions, questions to people, paused runs and pipelines, slots."""

from alembic import op

from noria.migrations.columns import boolean, ident, integer, json, text

revision, down_revision = "0022", "0021"


def upgrade() -> None:
    for column in (
        text("kind", "call"), text("parent_id", ""), integer("item", -1), text("approval_id", ""), text("stop_by", ""),
        json("spec", nullable=True),
    ):  # fmt: skip
        op.add_column("step_run", column)
    op.create_index("step_run_parent", "step_run", ["parent_id", "item"])
    op.create_index("step_run_approval", "step_run", ["approval_id"])
    op.add_column("pipeline_run", boolean("is_paused"))
    op.add_column("pipeline_run", ident("origin_run_id", server_default=""))
    op.add_column("pipeline_run", text("slot", ""))
    op.create_index("pipeline_run_slot", "pipeline_run", ["slot", "state"])
    op.add_column("pipeline", boolean("is_paused"))
