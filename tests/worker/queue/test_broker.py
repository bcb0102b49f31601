"""The embedded broker answers whatever the home folder is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.records import LIVE
from worker.config.settings import load_settings
from worker.queue.broker import queue_lengths
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
        process.wait(10)
