"""An object has many sources, and a digest of its inputs that says when its revision rises."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "object_source",
        sa.Column("object_id", key, nullable=False),
        sa.Column("analysis_id", key, nullable=False),
        sa.ForeignKeyConstraint(["object_id"], ["object.id"], name=op.f("fk_object_source_object_id_object")),
        sa.ForeignKeyConstraint(["analysis_id"], ["analysis.id"], name=op.f("fk_object_source_analysis_id_analysis")),
        sa.PrimaryKeyConstraint("object_id", "analysis_id", name=op.f("pk_object_source")),
    )
    op.create_index(op.f("ix_object_source_analysis_id"), "object_source", ["analysis_id"])
    # what these objects were made of beside their key is known no more; their revision was the rendering's version
    op.add_column("object", sa.Column("inputs_digest", sa.String(length=64), nullable=False, server_default=""))
    op.execute("UPDATE object SET inputs_digest = 'rendering version ' || revision")
    if op.get_bind().dialect.name == "sqlite":
        _without_analysis_on_sqlite()
    else:
        op.execute("INSERT INTO object_source (object_id, analysis_id) SELECT id, analysis_id FROM object")
        op.drop_column("object", "analysis_id")
        op.alter_column("object", "inputs_digest", server_default=None)


def _without_analysis_on_sqlite() -> None:
    """SQLite drops no column of a foreign key: the table is made anew, while no row refers to it."""
    op.execute("CREATE TEMPORARY TABLE kept_source AS SELECT id, analysis_id FROM object")
    op.execute("CREATE TEMPORARY TABLE kept_delivery AS SELECT * FROM delivery")
    op.execute("DELETE FROM delivery")
    op.drop_index("ix_object_analysis_id", "object")
    with op.batch_alter_table("object") as table:
        table.drop_constraint("fk_object_analysis_id_analysis", type_="foreignkey")
        table.drop_column("analysis_id")
        table.alter_column("inputs_digest", server_default=None)
    op.execute("INSERT INTO delivery SELECT * FROM kept_delivery")
    op.execute("INSERT INTO object_source (object_id, analysis_id) SELECT id, analysis_id FROM kept_source")
    op.execute("DROP TABLE kept_delivery")
    op.execute("DROP TABLE kept_source")
