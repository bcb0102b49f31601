"""A real Orthanc with the example configuration forwards radiographs to us, and nothing else."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dicom_io.header.instance_header import read_header
from dicom_io.network.association import Peer
from dicom_io.network.status_codes import Status
from dicom_io.receive.listener import Listener, ListenerHandlers, ListenerSettings, Received
from dicom_io.send.storage_scu import Outgoing, send
from tests.dicom_io.images import image_file
from tests.peers.processes import Process, wait_until
from tests.peers.programs import free_port, require_peer
from tests.peers.radiographs import sample
from worker.config.settings import Dicom

DEPLOY = Path(__file__).parents[2] / "deploy"


class Site:
    """Our listener, which remembers what arrives, and an Orthanc as `deploy/` configures it, on ports of their own."""

    def __init__(self, folder: Path) -> None:
        self.listening_port = free_port()
        self.received: list[str] = []
        self.arrived = threading.Condition()
        self.peer = Peer("ORTHANC", "127.0.0.1", free_port(), calling_ae_title="MODALITY")
        self.http_port = free_port()
        settings = json.loads((DEPLOY / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))
        title, _host, port = settings["DicomModalities"]["cxr-triage"]
        assert (title, port) == (Dicom().ae_title, Dicom().port)
        settings["DicomModalities"]["cxr-triage"] = [title, "127.0.0.1", self.listening_port]
        settings["LuaScripts"] = [str(DEPLOY / "orthanc" / Path(script).name) for script in settings["LuaScripts"]]
        settings |= {"DicomPort": self.peer.port, "HttpPort": self.http_port, "AuthenticationEnabled": False}
        settings |= {"StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage")}
        settings |= {"Plugins": []}
        configuration = folder / "orthanc.json"
        configuration.write_text(json.dumps(settings), encoding="utf-8")
        program = require_peer("orthanc")
        self.orthanc = Process("orthanc", [program, "--verbose", str(configuration)], folder / "orthanc.log", folder)

    def listener(self) -> Listener:
        settings = ListenerSettings(ae_title=Dicom().ae_title, host="127.0.0.1", port=self.listening_port)
        return Listener(settings, ListenerHandlers(self._receive))

    def _receive(self, received: Received) -> Status:
        with self.arrived:
            self.received.append(received.header.sop_instance_uid)
            self.arrived.notify_all()
        return Status.SUCCESS

    def store(self, path: Path) -> str:
        """Send a file to Orthanc as a modality would; its SOP Instance UID."""
        outcomes = list(send(self.peer, [Outgoing("one", path)]))
        assert [outcome.result for outcome in outcomes] == ["stored"], outcomes
        return read_header(path).sop_instance_uid

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.arrived:
            assert self.arrived.wait_for(condition, 60), f"{self.received}\n{self.orthanc.log_tail(30)}"

    def failed_jobs(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/jobs?expand", timeout=60) as answer:
            return sum(job["State"] == "Failure" for job in json.loads(answer.read()))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.orthanc.start()
    site.orthanc.wait_ready(lambda: "Orthanc has started" in site.orthanc.log_text(), 60)
    yield site
    site.orthanc.stop(5)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """An object that is no radiograph, of the modality that our heatmaps have."""
    path = tmp_path / "other.dcm"
    secondary_capture = "1.2.840.10008.5.1.4.1.1.7"
    pixels = np.zeros((8, 8), np.uint16)
    path.write_bytes(image_file(pixels, Modality="OT", SOPClassUID=secondary_capture, SOPInstanceUID="1.2.3.4.5"))
    return path


@pytest.mark.peer
def test_radiographs_are_forwarded_and_nothing_else(site: Site, other: Path) -> None:
    with site.listener():
        site.store(other)
        first = site.store(sample("RG1_UNCR"))
        site.wait_for(lambda: len(site.received) == 1)
        assert site.received == [first]


@pytest.mark.peer
def test_what_could_not_be_forwarded_is_forwarded_later(site: Site) -> None:
    missed = site.store(sample("RG1_UNCR"))
    wait_until(lambda: site.failed_jobs() == 1, 60, "the transfer to us failed")
    with site.listener():
        other = site.store(sample("RG3_UNCR"))
        site.wait_for(lambda: len(site.received) == 2)
    assert set(site.received) == {missed, other}
