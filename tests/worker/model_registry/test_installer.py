"""Bringing a model in: what a killed import left is cleared away, what another is writing is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np

from model.publish.archive import import_bundle
from worker.cli.model_import import _reference_images
from worker.installation import Site
from worker.model_registry.installer import UNFINISHED, add_model
from worker.runtime.timeouts import UNFINISHED_MODEL_KEPT


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


def test_reference_images_are_in_memory_one_at_a_time(tmp_path: Path) -> None:
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((8, 8), 99, np.uint8))
    images = _reference_images(tmp_path)
    assert images is not None
    assert next(images).shape == (8, 8)
    (tmp_path / "b.png").write_bytes(b"damaged after the first was read")
    assert len(list(images)) == 1
