"""A worker's child whose start failed reads all the same once what it lacked is back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from db.intake.instances import record_instance
from db.reasons import ReasonCode
from db.records import NewInstance
from db.tables.analyses import Analysis
from tests.db.conftest import new_instance as new_instance
from worker.analysis.celery_worker import Child
from worker.installation import Site
from worker.model_registry import bundles
from worker.queue.celery_app import make_app
from worker.runtime.timeouts import analysis_lease


def test_child_that_started_without_its_store_gives_back_what_it_cannot_read_to_be_tried_later(
    site: Site, new_instance: Callable[..., NewInstance], bundle_folder: Path
) -> None:
    """Not claimed at all, hundreds of images would be queued again every few seconds."""
    bundles.activate(site, str(bundle_folder))
    with site.database.write() as session:
        stored = site.store.put(b"no image")
        new = new_instance(uri=stored.uri, sha256=stored.sha256)
        analysis_id = record_instance(session, new).analysis_id
    assert analysis_id is not None
    away = site.store.root.rename(site.store.root.with_name("away"))
    child = Child(site.settings)
    child.start()
    child.analyse([analysis_id])
    with site.database.read() as session:
        row = session.get_one(Analysis, analysis_id)
        assert (row.state, row.attempts, row.reason_code) == ("pending", 0, ReasonCode.STORE_UNAVAILABLE)
        assert row.retry_at is not None
    away.rename(site.store.root)
    child.analyse([analysis_id])
    with site.database.read() as session:  # it looked: this is no image
        assert session.get_one(Analysis, analysis_id).reason_code not in ("", ReasonCode.STORE_UNAVAILABLE)


def test_task_may_last_as_long_as_its_engine_takes_to_open_a_model_that_was_just_activated(site: Site) -> None:
    """TensorFlow takes up to two minutes where a task had one: three children were killed, the image failed."""
    for engine, least in (("openvino", 60), ("keras", 120 + 60)):
        reading = site.settings.reading.model_copy(update={"engine": engine})
        limit = make_app(site.settings.model_copy(update={"reading": reading})).conf.task_time_limit
        assert limit >= least
        assert analysis_lease(engine).total_seconds() > limit
