"""Lost notifications are sent again, from the database alone; a full queue is not filled further."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from sqlalchemy import select, update

from db.analysis import lifecycle
from db.engine import processes
from db.engine.processes import ProcessIdentity
from db.intake.instances import record_instance
from db.model_registry import activation
from db.records import BATCH, LIVE, NewInstance, Queued
from db.tables.analyses import Analysis
from tests.db.conftest import MODEL, NOON
from tests.db.conftest import new_instance as new_instance
from worker.config.settings import Broker, load_settings
from worker.installation import Site
from worker.queue.broker import BrokerUnavailable, client_url, queue_lengths, socket_path
from worker.queue.celery_app import ANALYSE, make_app
from worker.queue.dispatch import Dispatcher, enqueue
from worker.queue.embedded_server import start_embedded
from worker.runtime.clock import now
from worker.runtime.registered_process import RegisteredProcess
from worker.scheduling.recovery import recover_once


def of(site: Site) -> RegisteredProcess:
    """The row of the process that recovers."""
    return RegisteredProcess(lambda: site.database, "schedule")


@pytest.fixture
def analysis_id(site: Site, new_instance: Callable[..., NewInstance]) -> int:
    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)
        recorded = record_instance(session, new_instance())
    assert recorded.analysis_id is not None
    return recorded.analysis_id


@pytest.mark.usefixtures("broker")
def test_queue_notification_is_a_task_that_carries_the_id_alone(site: Site) -> None:
    assert enqueue(make_app(site.settings), [7], LIVE)
    message = json.loads(redis.Redis.from_url(client_url(site.settings)).lrange("live", 0, -1)[0])  # type: ignore[index]
    assert message["headers"]["task"] == ANALYSE
    assert message["headers"]["argsrepr"] == "[[7]]"


@pytest.mark.usefixtures("broker")
def test_pending_analysis_whose_notification_was_lost_is_queued_again_once(site: Site, analysis_id: int) -> None:
    app = make_app(site.settings)
    assert (
        recover_once(site.settings, site.database, app, of(site)) == 1
    )  # it was created long ago, and the queue is empty
    assert queue_lengths(site.settings) == {"live": 1, "batch": 0}
    assert recover_once(site.settings, site.database, app, of(site)) == 0


@pytest.mark.usefixtures("broker")
def test_work_of_a_dead_process_is_freed_and_queued_again(site: Site, analysis_id: int) -> None:
    moment = now()
    with site.database.write() as session:
        owner = str(processes.register(session, ProcessIdentity("work", "other", "boot", 1, "1"), moment))
        claimed = lifecycle.claim(
            session, analysis_id, owner=owner, now=moment, lease=timedelta(minutes=2), max_attempts=3
        )
    assert claimed is not None
    judge = of(site)
    assert recover_once(site.settings, site.database, make_app(site.settings), judge) == 0
    with site.database.write() as session:
        processes.stop(session, int(owner), moment)
    assert recover_once(site.settings, site.database, make_app(site.settings), judge) == 1


@pytest.mark.usefixtures("broker")
def test_each_is_queued_where_its_row_says_live_ones_first_and_by_priority(
    site: Site, new_instance: Callable[..., NewInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.scheduling.recovery.RECOVERY_BATCH", 4)
    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)
        later, sooner, first, live, other = (
            record_instance(session, new_instance(number, origin=origin, priority=priority)).analysis_id
            for number, (origin, priority) in enumerate(
                (("archive", 7), ("archive", 3), ("archive", 3), ("live", 0), ("live", 0)), 1
            )
        )
        session.execute(update(Analysis).where(Analysis.id.in_([later, first])).values(enqueued_at=None))
    assert recover_once(site.settings, site.database, make_app(site.settings), of(site)) == 4
    broker = redis.Redis.from_url(client_url(site.settings))
    queued = {
        name: [json.loads(each)["headers"]["argsrepr"] for each in reversed(broker.lrange(name, 0, -1))]  # type: ignore[arg-type]
        for name in (LIVE, BATCH)
    }
    assert queued == {LIVE: [f"[[{live}]]", f"[[{other}]]"], BATCH: [f"[[{first}]]", f"[[{sooner}]]"]}


@pytest.mark.usefixtures("broker")
def test_long_batch_queue_delays_no_live_image_that_is_in_none(site: Site, analysis_id: int) -> None:
    app = make_app(site.settings)
    assert enqueue(app, [1001, 1002], BATCH)
    with site.database.write() as session:
        session.execute(update(Analysis).values(enqueued_at=now() - timedelta(seconds=30)))
    assert recover_once(site.settings, site.database, app, of(site)) == 1
    assert queue_lengths(site.settings) == {"live": 1, "batch": 2}


@pytest.mark.usefixtures("broker")
def test_dispatcher_queues_where_the_row_says(site: Site) -> None:
    dispatcher = Dispatcher(make_app(site.settings))
    for analysis in (Queued(1, BATCH), Queued(2, LIVE), Queued(3, BATCH)):
        dispatcher.enqueue(analysis)
    dispatcher.close()
    assert queue_lengths(site.settings) == {"live": 1, "batch": 2}


def test_recovery_without_a_broker_loses_nothing(site: Site, analysis_id: int, tmp_path: Path) -> None:
    app = make_app(site.settings)
    assert recover_once(site.settings, site.database, app, of(site)) == 0
    process = start_embedded(site.settings, tmp_path / "late.log")
    try:
        assert recover_once(site.settings, site.database, app, of(site)) == 1
    finally:
        process.terminate()
        process.wait(60)


def test_dispatcher_without_a_broker_neither_blocks_nor_raises(site: Site) -> None:
    with pytest.raises(BrokerUnavailable):
        queue_lengths(site.settings)
    dispatcher = Dispatcher(make_app(site.settings))
    dispatcher.enqueue(Queued(1, LIVE))
    dispatcher.close()


def test_socket_of_a_deep_home_folder_is_short_enough() -> None:
    deep = Path("/" + "/".join(["a-rather-long-folder-name"] * 8))
    assert len(str(socket_path(deep))) <= 100
    assert socket_path(deep) != socket_path(deep / "other")


def test_dispatcher_outlives_whatever_goes_wrong_while_it_queues(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    failed = threading.Event()

    def sometimes(_app: object, ids: Sequence[int], _queue: str) -> bool:
        if 1 in ids:
            failed.set()
            raise ValueError("unforeseen")
        heard.extend(ids)
        return True

    monkeypatch.setattr("worker.queue.dispatch.enqueue", sometimes)
    dispatcher = Dispatcher(make_app(site.settings))
    dispatcher.enqueue(Queued(1, LIVE))
    assert failed.wait(60)
    dispatcher.enqueue(Queued(2, LIVE))
    dispatcher.close()
    assert heard == [2]


def test_broker_url_of_another_kind_is_a_broker_that_does_not_answer(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path).model_copy(update={"broker": Broker(url="amqp://somewhere")})
    with pytest.raises(BrokerUnavailable):
        queue_lengths(settings)


@pytest.mark.usefixtures("broker", "analysis_id")
def test_activation_whose_process_died_before_what_waits_was_moved_is_ended_by_recovery(site: Site) -> None:
    other = replace(MODEL, digest="b" * 64, name="second")
    with site.database.write() as session:
        activation.activate(session, other, NOON)
    recover_once(site.settings, site.database, make_app(site.settings), of(site))
    with site.database.read() as session:
        assert session.scalars(select(Analysis.model_name)).all() == ["second"]
        assert activation.routing_is_applied(session)
