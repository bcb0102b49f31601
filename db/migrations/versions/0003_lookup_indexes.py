"""Indexes for what recovery, delivery and retention look for every few seconds, and a mark on what waits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gate_decision", sa.Column("waits", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute(
        """
        UPDATE gate_decision SET waits = true
        WHERE accepted
          AND NOT EXISTS (SELECT 1 FROM analysis WHERE analysis.instance_id = gate_decision.instance_id)
          AND EXISTS (SELECT 1 FROM instance WHERE instance.id = gate_decision.instance_id AND instance.origin = 'live')
        """
    )
    op.create_index(op.f("ix_gate_decision_waits"), "gate_decision", ["waits"])
    op.create_index("ix_analysis_state_rung_at", "analysis", ["state", "rung_at"])
    op.create_index("ix_delivery_state_lease_until", "delivery", ["state", "lease_until"])
    op.create_index(op.f("ix_study_arrived_at"), "study", ["arrived_at"])
    op.create_index(op.f("ix_study_priority"), "study", ["priority"])
    op.create_index(op.f("ix_location_uri"), "location", ["uri"])
    op.create_index(op.f("ix_object_uri"), "object", ["uri"])
