"""The watched folder while its watcher is killed again and again: every file once, none lost."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.peers.processes import wait_until
from tests.peers.radiographs import chests
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.chaos]
IMAGES, KILLS = 10, 3


def test_files_are_stored_once_each_however_often_the_watcher_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    images = list(chests(tmp_path / "in", IMAGES))
    folder.mkdir()
    chance = random.Random(4)
    more = f'[imports]\nfolder = "{folder}"\nsettle_seconds = 0.2\n'
    with Site(tmp_path / "site", more=more) as site:
        site.start("schedule")
        for kill in range(KILLS):
            before = len(list((folder / "done").glob("*")))
            for number in range(kill, IMAGES, KILLS):  # some for each kill: a quick machine would have taken all before
                (folder / f"{number}.part").write_bytes(images[number].path.read_bytes())
                (folder / f"{number}.part").rename(folder / f"{number}.dcm")
            wait_until(lambda at=before: len(list((folder / "done").glob("*"))) > at, 60, "a file is imported")  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.2))  # any moment: nothing is waited for
            site["schedule"].kill()
            site.restart("schedule")
        # neither an image nor what a watcher set aside before it died
        wait_until(lambda: [path.name for path in folder.iterdir()] == ["done"], 60, "all are imported")
        assert len(list((folder / "done").glob("*.dcm"))) >= IMAGES
        ledger = site.ledger()
        assert (ledger["received"], ledger["rejected"]) == (IMAGES, 0)
        assert len(list((site.home / "store").glob("*/*/*.dcm"))) == IMAGES
        assert all(item["flags"] == [] for item in site.worklist())
        site.assert_logs_clean(images)
