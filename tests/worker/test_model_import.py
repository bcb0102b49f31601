"""Bringing a model in: what a killed import left is cleared away, what another is writing is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

from model.archive import import_bundle
from worker.model_import import UNFINISHED, add_model
from worker.site import Site
from worker.timing import UNFINISHED_MODEL_KEPT


def test_what_killed_imports_left_goes_with_the_next_one(site: Site, bundle_folder: Path) -> None:
    models = site.settings.home / "models"
    dead, running = models / f"{UNFINISHED}dead", models / f"{UNFINISHED}running"
    for folder in (dead, running):
        folder.mkdir(parents=True)
        (folder / "weights.keras").write_bytes(b"half")
    long_ago = time.time() - UNFINISHED_MODEL_KEPT - 1
    os.utime(dead, (long_ago, long_ago))
    arrival = add_model(site.settings, bundle_folder, None, lambda folder: import_bundle(bundle_folder, folder))
    assert sorted(entry.name for entry in models.iterdir()) == sorted([running.name, arrival.bundle.folder.name])
