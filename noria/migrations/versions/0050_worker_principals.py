"""pipelines: whose worker it is; only the same principal takes over what an earlier process of the name left elsewhere."""

from alembic import op

from noria.migrations.columns import ident

revision, down_revision = "0050", "0049"


def upgrade() -> None:
    op.add_column("pipeline_worker", ident("principal", server_default=""))
