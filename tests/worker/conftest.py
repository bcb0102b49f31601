"""A site in a temporary home folder: real database, real store, and an embedded broker where one is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.bundle.bundle import builtin_bundles_folder
from model.inference.predictor import Predictor
from tests.peers.radiographs import sample
from worker.config.settings import load_settings
from worker.installation import Site
from worker.queue.embedded_server import start_embedded


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("CXR_TRIAGE_CONFIG", raising=False)
    return Site(load_settings(home=tmp_path / "home"))


@pytest.fixture
def broker(site: Site, tmp_path: Path) -> Iterator[None]:
    process = start_embedded(site.settings, tmp_path / "broker.log")
    yield
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="session")
def bundle_folder() -> Path:
    """The bundle that ships with the program (or the one that TEST_MODEL names)."""
    return Path(os.environ.get("TEST_MODEL") or builtin_bundles_folder() / "demonstration")


@pytest.fixture(scope="session")
def reader(bundle_folder: Path) -> Predictor:
    return Predictor.open(bundle_folder)


@pytest.fixture(scope="session")
def images() -> Path:
    """Folder of the real radiographs of pydicom-data: RG1, an adult's chest, and RG3, an extremity."""
    return sample("RG1_UNCR").parent
