"""A person's decision beside the rules', of which one counts; and which active model reads which ages and views."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gate_decision", sa.Column("current", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("gate_decision", sa.Column("decided_by", sa.Text(), nullable=False, server_default=""))
    op.execute(
        """
        UPDATE gate_decision SET current = false
        WHERE EXISTS (SELECT 1 FROM gate_decision newer
                      WHERE newer.instance_id = gate_decision.instance_id AND newer.id > gate_decision.id)
        """
    )
    op.create_index(
        "uq_gate_decision_current",
        "gate_decision",
        ["instance_id"],
        unique=True,
        sqlite_where=sa.text("current"),
        postgresql_where=sa.text("current"),
    )
    op.add_column("model", sa.Column("is_default", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("model", sa.Column("ground", sa.JSON(), nullable=True))
    op.execute(
        """
        UPDATE model SET is_default = true
        WHERE active AND digest = (SELECT min(other.digest) FROM model other WHERE other.active)
        """
    )
    op.execute("UPDATE model SET active = false WHERE active AND NOT is_default")
    op.create_index(
        "uq_model_default",
        "model",
        ["is_default"],
        unique=True,
        sqlite_where=sa.text("is_default"),
        postgresql_where=sa.text("is_default"),
    )
    op.create_table(
        "ground_cell",
        sa.Column("age", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("view", sa.String(length=8), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["model_digest"], ["model.digest"], name=op.f("fk_ground_cell_model_digest_model")),
        sa.PrimaryKeyConstraint("age", "view", name=op.f("pk_ground_cell")),
    )
    op.create_index(op.f("ix_ground_cell_model_digest"), "ground_cell", ["model_digest"])
