"""An analysis names its queue, its priority and its job; what is there gets the queue of its instance's origin."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "job",
        sa.Column("id", key, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.add_column("analysis", sa.Column("queue", sa.String(length=8), nullable=False, server_default="live"))
    op.add_column("analysis", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    # by hand: Alembic adds a foreign key to a SQLite table by copying it, which the rows that refer to it forbid
    kind = key.compile(dialect=op.get_bind().dialect)
    op.execute(f"ALTER TABLE analysis ADD COLUMN job_id {kind} CONSTRAINT fk_analysis_job_id_job REFERENCES job (id)")
    op.execute(
        "UPDATE analysis SET queue = 'batch' WHERE EXISTS"
        " (SELECT 1 FROM instance WHERE instance.id = analysis.instance_id AND instance.origin <> 'live')"
    )
    op.drop_index("ix_analysis_state_enqueued_at", "analysis")
    op.create_index(
        "ix_analysis_state_queue_priority_enqueued_at", "analysis", ["state", "queue", "priority", "enqueued_at"]
    )
    op.create_index("ix_analysis_job_id_state", "analysis", ["job_id", "state"])
