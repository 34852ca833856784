"""pipelines: queues, whose share of them a step takes, and which of them a worker serves."""

from alembic import op

from noria.migrations.columns import at_ms, ident, integer, json, text

revision, down_revision = "0032", "0031"


def upgrade() -> None:
    for column in (text("queue", "default"), ident("owner", server_default=""), text("pipeline", "")):
        op.add_column("step_run", column)
    for name in ("owner", "pipeline"):
        op.execute(
            f"update step_run set {name} = coalesce((select r.{name} from pipeline_run r where r.id = step_run.run_id), '')"
        )
    op.add_column("pipeline_worker", json("queues", '["default"]'))
    op.create_table(
        "pipeline_queue",
        text("name", primary_key=True), integer("priority", 0), integer("quota", nullable=True), at_ms("updated_at_ms"),
    )  # fmt: skip
