"""Which models are active, what each of them reads, and whose bundle is gone."""

from __future__ import annotations

from pathlib import Path

from db.model_registry.activation import active_models
from db.model_registry.scope import ActiveModels
from db.records import ActiveModel
from worker.installation import Site


def model_table(active: ActiveModels) -> list[dict[str, str]]:
    """Return the active models and which patients each is routed, the default first."""
    return [
        {
            "name": model.name,
            "digest": model.digest,
            "preprocessing": model.preprocessing_id,
            "reads": active.reads(model.digest),
        }
        for model in active.models
    ]


def vanished(active: ActiveModels) -> list[ActiveModel]:
    """Return the active models whose bundle is no longer where it was: what they should read waits."""
    return [model for model in active.models if not (Path(model.folder) / "model.toml").is_file()]


def active_table(site: Site) -> ActiveModels:
    """Return the active models with their scopes; nothing is created for it."""
    if not site.settings.has_database:
        return ActiveModels()
    with site.database.read() as session:
        return active_models(session)
