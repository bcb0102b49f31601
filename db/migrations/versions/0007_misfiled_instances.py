"""Images that came under the UID of another study's image, to be found from the study that they name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "stray",
        sa.Column("location_id", key, nullable=False),
        sa.Column("study_id", key, nullable=False),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_stray_location_id_location")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_stray_study_id_study")),
        sa.PrimaryKeyConstraint("location_id", name=op.f("pk_stray")),
    )
    op.create_index("ix_stray_study_id", "stray", ["study_id"])
    op.execute(
        "INSERT INTO stray (location_id, study_id)"
        " SELECT location.id, named.id FROM location"
        " JOIN instance ON instance.id = location.instance_id"
        " JOIN study AS named ON named.study_instance_uid = location.study_instance_uid"
        " WHERE named.id <> instance.study_id"
    )
