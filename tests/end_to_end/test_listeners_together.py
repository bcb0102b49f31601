"""Several listener processes on one database and store, as behind a TCP balancer: each image once, whoever takes it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.peers import dcmtk
from tests.peers.processes import Process, port_answers, wait_until
from tests.peers.programs import free_port
from tests.peers.radiographs import chest
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]


def test_two_listener_processes_take_the_same_images_at_once_and_one_may_die(tmp_path: Path) -> None:
    images = [chest(tmp_path / "in", number) for number in range(12)]
    with Site(tmp_path / "site") as site:
        site.activate_model()
        port = free_port()
        environment = site.environment() | {"CXR_TRIAGE_DICOM_PORT": str(port)}
        other = Process("listen-2", site.command("listen"), site.logs / "listen-2.log", site.folder, environment)
        site.processes["listen-2"] = other
        site.start("listen", "schedule", "web", "work")
        other.start()
        other.wait_ready(lambda: port_answers(port), 30)
        acknowledged: set[Path] = set()

        def send(port: int, part: list[Path]) -> None:
            for path in part:
                if dcmtk.storescu(port, [path]).acknowledged == 1:
                    acknowledged.add(path)

        paths = [image.path for image in images]
        # every image comes to both, from opposite ends, so that they meet
        senders = [
            threading.Thread(target=send, args=(site.dicom_port, paths)),
            threading.Thread(target=send, args=(port, paths[::-1])),
        ]
        for sender in senders:
            sender.start()
        wait_until(lambda: len(acknowledged) > 4, 60, "some are taken")
        other.kill()
        for sender in senders:
            sender.join(120)
        assert acknowledged == set(paths), "the one that lives takes what the other did not"
        ledger = site.wait_ledger(lambda now: now["done"] == len(images), 120, "each is read")
        assert (ledger["received"], ledger["pending"], ledger["failed"]) == (len(images), 0, 0)
        assert len({item["study_instance_uid"] for item in site.worklist()}) == len(images)
        assert not any("different" in flag for item in site.worklist() for flag in item["flags"])
