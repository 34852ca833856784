"""pipelines: what steps ask for, what workers offer, and how much memory an attempt used."""

import sqlalchemy as sa
from alembic import op

from noria.migrations.columns import integer

revision, down_revision = "0020", "0019"


def upgrade() -> None:
    for column in (_real("cpu"), integer("gpu", 0), integer("memory_bytes", 0)):
        op.add_column("step_run", column)
    for column in (_real("cpus"), integer("memory_bytes", 0), integer("gpus", 0)):
        op.add_column("pipeline_worker", column)
    op.add_column("attempt", integer("memory_peak_bytes", nullable=True))


def _real(name: str) -> "sa.Column[float]":
    return sa.Column(name, sa.Double(), nullable=False, server_default="0")
