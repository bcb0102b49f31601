"""Fixtures of running peers and of an installation beside them; each test gets its own, empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.dicom3tools import Dicom3tools
from tests.peers.orthanc import Orthanc
from tests.peers.postgres import Postgres
from tests.peers.site import Site
from tests.peers.valkey import Valkey


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server; each asker makes databases of its own in it."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest) -> str:
    """TOML that puts an installation on SQLite, then on an empty PostgreSQL database."""
    if request.param == "sqlite":
        return ""
    server: Postgres = request.getfixturevalue("postgres")
    return f'[database]\nurl = "{server.database()}"\n'


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An empty Orthanc."""
    with Orthanc(tmp_path / "orthanc") as running:
        yield running


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Valkey]:
    """An empty Valkey."""
    with Valkey(tmp_path / "broker") as running:
        yield running


@pytest.fixture(scope="session")
def foreign_validator() -> Dicom3tools:
    """dciodvfy and dcentvfy."""
    return Dicom3tools()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running installation without a destination."""
    with Site(tmp_path / "site") as running:
        yield running.start()


@pytest.fixture
def site_with_pacs(tmp_path: Path, orthanc: Orthanc) -> Iterator[Site]:
    """A running installation that delivers to the fixture `orthanc`."""
    with Site(tmp_path / "site", pacs=orthanc) as running:
        yield running.start()
