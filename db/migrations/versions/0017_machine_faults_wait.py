"""An analysis that a fault of the machine gave back waits for a time of its own, longer after each fault in a row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_BEFORE = ["state", "queue", "priority", "enqueued_at"]


def upgrade() -> None:
    op.add_column("analysis", sa.Column("faults", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("analysis", sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_index("ix_analysis_state_queue_priority_enqueued_at", "analysis")
    op.create_index("ix_analysis_state_queue_priority_enqueued_at_retry_at", "analysis", [*_BEFORE, "retry_at"])
