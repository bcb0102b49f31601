"""All processes and the first activation of a model, started at the same moment on an empty home: all come up."""

from __future__ import annotations

import multiprocessing
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db.engine.schema import HEAD_REVISION, revision
from db.engine.session import Database
from db.model_registry import activation
from db.tables.base import Installation
from db.tables.model_registry import Model
from tests.db.conftest import MODEL, NOON
from tests.peers import dcmtk
from tests.peers.postgres import Postgres
from tests.peers.radiographs import chest
from tests.peers.site import PROCESSES, TRACEBACK
from tests.peers.site import Site as RunningSite
from worker.config.settings import Settings, load_settings
from worker.installation import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]

STARTERS = len(PROCESSES) + 1  # each process, and who activates the first model
HANG = 120.0  # seconds; only there to end a process that never comes up
_together: Barrier


def _join(together: Barrier) -> None:
    global _together
    _together = together


def _start_once(settings: Settings) -> None:
    """Open an installation as every process does when it starts, in the same moment as the others."""
    _together.wait(HANG)
    site = Site(settings)
    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)
    stored = site.store.put(b"the same file")
    assert site.store.whole(stored.uri, stored.sha256)
    site.database.dispose()


def database_toml(kind: str, request: pytest.FixtureRequest) -> str:
    """The configuration of an empty database: of SQLite none, of PostgreSQL a new one."""
    if kind == "sqlite":
        return ""
    server: Postgres = request.getfixturevalue("postgres")
    return f'[database]\nurl = "{server.database()}"\n'


def check_home(settings: Settings, active: str) -> None:
    """One installation, one active model, the schema of this program, and a home closed to others."""
    database = Database(settings.database_url)
    assert revision(database) == HEAD_REVISION
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Installation)) == 1
        assert session.scalar(select(func.count()).select_from(Model)) == 1
        assert activation.active_models(session).name == active
    database.dispose()
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700


@pytest.fixture(scope="module")
def starters() -> Iterator[ProcessPoolExecutor]:
    """Processes that have imported everything, so that a barrier lets them start within microseconds."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(STARTERS)
    with ProcessPoolExecutor(STARTERS, context, initializer=_join, initargs=(together,)) as pool:
        yield pool


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_twenty_times_one_home_is_made_by_six_processes_at_once(
    kind: str, starters: ProcessPoolExecutor, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for number in range(20):
        config = tmp_path / f"{number}.toml"
        config.write_text(database_toml(kind, request), encoding="utf-8")
        settings = load_settings(config, tmp_path / "homes" / str(number))
        started = [starters.submit(_start_once, settings) for _ in range(STARTERS)]
        _all_succeed([each.exception(HANG) for each in started])
        check_home(settings, MODEL.name)


def _all_succeed(failures: Sequence[BaseException | None]) -> None:
    assert not any(failures), "\n".join(map(str, filter(None, failures)))


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_programs_started_together_on_an_empty_home_read_the_first_image(
    kind: str, number: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with RunningSite(tmp_path / f"site{number}", more=database_toml(kind, request)) as site:
        for name in PROCESSES:
            site[name].start()
        done = site.run("model", "activate", "demonstration", seconds=HANG)
        assert done.exit_code == 0, done.output
        for name in PROCESSES:
            site.wait_ready(name, HANG)
        check_home(load_settings(site.configuration, site.home), "demonstration")
        radiograph = chest(tmp_path / "in", 1)
        assert dcmtk.storescu(site.dicom_port, [radiograph.path]).statuses == (0,)
        assert site.wait_settled(1, HANG)["done"] == 1
        assert TRACEBACK not in site.all_logs()
