"""The embedded broker answers whatever the home folder is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.records import LIVE
from worker.config.settings import load_settings
from worker.queue.broker import BrokerUnavailable, queue_lengths
from worker.queue.celery_app import make_app
from worker.queue.dispatch import enqueue
from worker.queue.embedded_server import start_embedded


@pytest.mark.parametrize("name", ["plain", "with space", "50%20#?db=1", "ünï [red]"])
def test_rings_arrive_in_a_home_folder_of_any_name(tmp_path: Path, name: str) -> None:
    settings = load_settings(home=tmp_path / name)
    process = start_embedded(settings, tmp_path / "broker.log")
    try:
        assert enqueue(make_app(settings), [1], LIVE)
        assert queue_lengths(settings)["live"] == 1
    finally:
        process.terminate()
        process.wait(60)


def test_a_broker_that_outlived_its_up_takes_nothing_from_the_next_one(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home")
    former = start_embedded(settings, tmp_path / "former.log")
    process = start_embedded(settings, tmp_path / "broker.log")
    try:
        former.wait(60)  # ended, and its socket with it, before the next one listened
        assert queue_lengths(settings) == {"live": 0, "batch": 0}
    finally:
        process.terminate()
        process.wait(60)


def test_a_socket_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.getuid", lambda: 4711)  # whose folder this is not: we make it
    with pytest.raises(BrokerUnavailable, match="belongs to another user"):
        start_embedded(load_settings(home=tmp_path / "no URL has blanks"), tmp_path / "broker.log")
