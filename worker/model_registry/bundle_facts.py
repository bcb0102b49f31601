"""What `model show` and the web say of a bundle, as plain JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.bundle.bundle import Bundle


def model_facts(bundle: Bundle) -> dict[str, Any]:
    from worker.model_registry.preprocessing import preprocessing_id

    return {
        "name": bundle.name,
        "digest": bundle.digest,
        "preprocessing": preprocessing_id(bundle),
        "labels": [label.name for label in bundle.labels],
        "thresholds": {name: float(value) for name, value in bundle.thresholds.items()},
        "folder": str(bundle.folder),
    }
