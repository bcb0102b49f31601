"""Tables and columns take standard terms: misfiled locations, model scopes, the time an analysis was queued."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_stray_study_id", "stray")
    op.rename_table("stray", "misfiled_location")
    op.create_index("ix_misfiled_location_study_id", "misfiled_location", ["study_id"])
    op.drop_index("ix_ground_cell_model_digest", "ground_cell")
    op.rename_table("ground_cell", "model_scope_cell")
    op.create_index("ix_model_scope_cell_model_digest", "model_scope_cell", ["model_digest"])
    op.alter_column("model", "ground", new_column_name="scope")
    op.drop_index("ix_analysis_state_rung_at", "analysis")
    op.alter_column("analysis", "rung_at", new_column_name="enqueued_at")
    op.create_index("ix_analysis_state_enqueued_at", "analysis", ["state", "enqueued_at"])
