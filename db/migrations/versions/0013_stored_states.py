"""The states that interfaces show are stored with image and study, and a gate decision knows its image's origin."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("instance", sa.Column("state", sa.String(length=16), nullable=False, server_default="pending"))
    op.add_column("instance", sa.Column("outside_domain", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("study", sa.Column("ai_state", sa.String(length=16), nullable=False, server_default="not_applicable"))
    op.add_column("gate_decision", sa.Column("origin", sa.String(length=8), nullable=False, server_default="live"))
    op.execute(
        """
        UPDATE gate_decision SET origin = 'archive' WHERE EXISTS
          (SELECT 1 FROM instance WHERE instance.id = gate_decision.instance_id AND instance.origin <> 'live')
        """
    )
    op.execute(
        """
        UPDATE instance SET
          state = COALESCE(
            (SELECT analysis.state FROM analysis WHERE analysis.instance_id = instance.id
             ORDER BY analysis.id DESC LIMIT 1),
            'pending'),
          outside_domain = COALESCE(
            (SELECT analysis.outside_domain AND analysis.state = 'done' FROM analysis
             WHERE analysis.instance_id = instance.id ORDER BY analysis.id DESC LIMIT 1),
            false)
        """
    )
    _choose_among_several()
    op.execute(
        """
        UPDATE instance SET state = 'refused', outside_domain = false WHERE EXISTS
          (SELECT 1 FROM gate_decision
           WHERE gate_decision.instance_id = instance.id AND gate_decision.current AND NOT gate_decision.accepted)
        """
    )
    for state in ("failed", "done", "pending", "running"):  # the last that is found in an image counts
        op.execute(
            f"UPDATE study SET ai_state = '{state}' WHERE EXISTS"
            f" (SELECT 1 FROM instance WHERE instance.study_id = study.id AND instance.state = '{state}')"
        )
    op.create_index(
        "ix_instance_origin_state_outside_domain_received_at",
        "instance",
        ["origin", "state", "outside_domain", "received_at"],
    )
    op.create_index(op.f("ix_study_ai_state"), "study", ["ai_state"])
    op.create_index(
        "ix_gate_decision_origin_current_accepted_rule", "gate_decision", ["origin", "current", "accepted", "rule"]
    )


def _choose_among_several() -> None:
    """Of an image with several analyses the first one by the model that reads it now counts, else the newest."""
    connection = op.get_bind()
    models = connection.execute(
        sa.text("SELECT digest, is_default, scope FROM model WHERE active ORDER BY is_default DESC, name, digest")
    ).all()
    rows = connection.execute(
        sa.text(
            "SELECT instance.id, instance.age_years, instance.view, analysis.model_digest, analysis.state,"
            " analysis.outside_domain FROM instance JOIN analysis ON analysis.instance_id = instance.id"
            " WHERE instance.id IN (SELECT instance_id FROM analysis GROUP BY instance_id HAVING count(*) > 1)"
            " ORDER BY analysis.id"
        )
    ).all()
    chosen: dict[int, Any] = {}
    for row in rows:
        before = chosen.get(row.id)
        if before is None or before.model_digest != _reader(models, row.age_years, row.view):
            chosen[row.id] = row
    for row in chosen.values():
        connection.execute(
            sa.text("UPDATE instance SET state = :state, outside_domain = :outside WHERE id = :id"),
            {"state": row.state, "outside": bool(row.outside_domain) and row.state == "done", "id": row.id},
        )


def _reader(models: Any, age_years: float | None, view: str | None) -> str | None:  # noqa: ANN401 - rows of `model`
    for model in models:
        scope = json.loads(model.scope) if isinstance(model.scope, str) else model.scope
        if scope is None:
            continue
        year = -1 if age_years is None or not 0 <= age_years < 131 else int(age_years)
        seen = view.upper() if view and view.upper() in ("PA", "AP") else "OTHER"
        if (not scope["ages"] or any(low <= year <= high for low, high in scope["ages"])) and (
            not scope["views"] or seen in scope["views"]
        ):
            return str(model.digest)
    return next((str(model.digest) for model in models if model.is_default), None)
