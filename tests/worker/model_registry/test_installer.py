"""Bringing a model in: what a killed import left is cleared away, what another is writing is not."""

from __future__ import annotations

import os
import shutil
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from db.model_registry import activation
from model.bundle.bundle import load_bundle
from model.publish.archive import import_bundle
from tests.db.conftest import MODEL, NOON
from worker.cli.model_import import _reference_images
from worker.installation import Site
from worker.model_registry.bundles import activate
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


def test_one_bundle_brought_in_by_several_at_once_is_there_once(site: Site, bundle_folder: Path) -> None:
    def bring_in(_number: int) -> bool:
        return add_model(site.settings, bundle_folder, None, lambda folder: import_bundle(bundle_folder, folder)).known

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(bring_in, range(3))) == [False, True, True]
    (there,) = (site.settings.home / "models").iterdir()
    assert load_bundle(there).name == "demonstration"


def test_a_bundle_from_elsewhere_activated_by_several_at_once_is_copied_once(
    site: Site, bundle_folder: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(bundle_folder, tmp_path / "elsewhere")
    with ThreadPoolExecutor(3) as pool:
        folders = set(pool.map(lambda _: activate(site, str(elsewhere)).folder, range(3)))
    assert [*(site.settings.home / "models").iterdir()] == [*folders]


def test_the_first_activation_by_up_yields_to_one_that_a_person_made_meanwhile(site: Site, bundle_folder: Path) -> None:
    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)  # while `up` checks the bundle that ships with the program
    activate(site, str(bundle_folder), only_first=True)
    with site.database.read() as session:
        assert [each.name for each in activation.active_models(session).models] == [MODEL.name]


def test_a_home_that_an_import_makes_is_closed_to_others(site: Site, bundle_folder: Path) -> None:
    add_model(site.settings, bundle_folder, None, lambda folder: import_bundle(bundle_folder, folder))
    assert stat.S_IMODE(site.settings.home.stat().st_mode) == 0o700
