"""Refusals counted in one row an hour instead of a row each; where and from whom a second copy of an image came."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rejection", sa.Column("key", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("rejection", sa.Column("number", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("rejection", sa.Column("last_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE rejection SET key = 'row ' || id, last_at = rejected_at")
    with op.batch_alter_table("rejection") as table:
        table.alter_column("last_at", existing_type=sa.DateTime(timezone=True), nullable=False)
        table.alter_column("key", existing_type=sa.String(length=64), server_default=None)
        table.alter_column("number", existing_type=sa.Integer(), server_default=None)
    op.create_index(op.f("ix_rejection_key"), "rejection", ["key"], unique=True)
    op.create_index(op.f("ix_rejection_last_at"), "rejection", ["last_at"])
    op.add_column("location", sa.Column("calling_ae", sa.Text(), nullable=False, server_default=""))
    op.add_column("location", sa.Column("study_instance_uid", sa.Text(), nullable=False, server_default=""))
