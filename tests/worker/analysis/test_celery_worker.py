"""A worker's child whose start failed reads all the same once what it lacked is back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from db.intake.instances import record_instance
from db.model_registry import activation
from db.records import NewInstance
from db.tables.analyses import Analysis
from tests.db.conftest import MODEL, NOON
from tests.db.conftest import new_instance as new_instance
from worker.analysis.celery_worker import Child
from worker.installation import Site


def test_child_that_started_without_its_store_opens_it_when_it_is_back(
    site: Site, new_instance: Callable[..., NewInstance], capsys: pytest.CaptureFixture[str]
) -> None:
    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)
        recorded = record_instance(session, new_instance())
    assert recorded.analysis_id is not None
    store = site.settings.home / "store"
    store.write_bytes(b"not mounted")
    child = Child(site.settings)
    child.start()
    child.analyse([recorded.analysis_id])
    printed = capsys.readouterr()
    assert "cannot be written" in printed.out + printed.err
    with site.database.read() as session:
        assert session.get_one(Analysis, recorded.analysis_id).reason == ""
    store.unlink()
    child.analyse([recorded.analysis_id])
    with site.database.read() as session:  # it looked: this model's folder does not exist, and that is said
        assert "/models/first" in session.get_one(Analysis, recorded.analysis_id).reason
