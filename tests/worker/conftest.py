"""A site in a temporary home folder: real database, real store, and an embedded broker where one is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.broker import start_embedded
from worker.settings import load_settings
from worker.site import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("CXR_TRIAGE_CONFIG", raising=False)
    return Site(load_settings(home=tmp_path / "home"))


@pytest.fixture
def broker(site: Site, tmp_path: Path) -> Iterator[None]:
    process = start_embedded(site.settings, tmp_path / "broker.log")
    yield
    process.terminate()
    process.wait(10)
