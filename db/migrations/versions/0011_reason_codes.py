"""A code beside each sentence that says why; old rows get theirs by the sentences that the program has written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# (pattern of LIKE, code); the first that matches counts. What an exhausted analysis last failed of follows its count
_SENTENCES = {
    "analysis": (
        ("queued for preprocessing %, but this program has %", "other_version"),
        ("no active model reads %", "no_model_for_image"),
        ("not read by this model: % has read the image", "already_read"),
        ("not read for %: for % it is % already", "already_read"),
        ("%the worker died while reading it", "worker_lost"),
        ("%its process died: %", "worker_died"),
        ("%it did not end within % s, so its process was stopped", "worker_died"),
        ("unexpected %", "unexpected_error"),
        ("stopped after % attempts: unexpected %", "unexpected_error"),
        ("bundle %", "model_unavailable"),
        ("model % is not in the registry", "model_unavailable"),
        ("database %", "database_unavailable"),
        ("store %", "store_unavailable"),
        ("% is not in the store %", "store_unavailable"),
        ("% is damaged: its bytes are no longer those that were stored", "store_unavailable"),
    ),
    "delivery": (
        ("%(status 0x____)", "peer_status"),
        ("the peer refused with the unlisted status 0x____", "peer_status"),
        ("unexpected %", "unexpected_error"),
        ("the association ended before it was offered", "not_sent"),
        ("the association with % was lost", "not_sent"),
        ("% did not answer within % s, or hung up", "not_sent"),
        ("% does not accept % in %", "not_sent"),
        ("% accepted none of the presentation contexts that we need", "not_sent"),
        ("the file cannot be %", "not_sent"),
        ("% cannot be reached%", "peer_unreachable"),
        ("% rejected our association as %", "peer_unreachable"),
        ("store %", "store_unavailable"),
        ("% is not in the store %", "store_unavailable"),
        ("% is damaged: its bytes are no longer those that were stored", "store_unavailable"),
    ),
    "commitment": (
        ("%unexpected %", "unexpected_error"),
        ("%store %", "store_unavailable"),
        ("%the association of % has ended, and no address of it is configured%", "peer_unreachable"),
        ("% cannot be reached%", "peer_unreachable"),
        ("% rejected our association as %", "peer_unreachable"),
    ),
}


def upgrade() -> None:
    for name, sentences in _SENTENCES.items():
        op.add_column(name, sa.Column("reason_code", sa.String(length=32), nullable=False, server_default=""))
        table = sa.table(name, sa.column("reason", sa.Text), sa.column("reason_code", sa.String))
        code = sa.case(*((table.c.reason.like(pattern), found) for pattern, found in sentences), else_="other")
        op.execute(table.update().where(table.c.reason != "").values(reason_code=code))
