"""A request for storage commitment that was acknowledged is reported, though its listener is killed before it could."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import evt

from dicom_io.network.status_codes import ActionStatus
from tests.peers import dcmtk
from tests.peers.processes import wait_until
from tests.peers.programs import free_port
from tests.peers.radiographs import chest
from tests.peers.site import Site
from tests.worker.intake.test_commitment_scp import Requester

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]


class Silent(Requester):
    """Hears the outcome and does not answer while it is held."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def heard(self, event: evt.Event) -> tuple[int, None]:
        answer = super().heard(event)
        self.go.wait(60)
        return answer


def test_listener_killed_between_acknowledgement_and_report_reports_all_the_same(tmp_path: Path) -> None:
    port = free_port()
    peers = f'[[peers]]\nae_title = "MODALITY"\nhost = "127.0.0.1"\nport = {port}\n'
    with Site(tmp_path, more=peers) as site:
        site.start("listen", "web")
        image = chest(tmp_path / "in", 0)
        assert dcmtk.storescu(site.dicom_port, [image.path]).acknowledged == 1
        asked = [(str(dcmread(image.path, stop_before_pixels=True).SOPClassUID), image.sop_instance_uid)]

        requester = Requester()  # it hangs up at once and does not listen yet, so nothing can be reported
        assert requester.ask(site.dicom_port, "1.2.3.1", asked)[0] == ActionStatus.SUCCESS
        site["listen"].kill()
        assert _commitments(site) == {"asked": 1, "waiting": 1, "reported": 0, "failed": 0}
        with requester.listening(port):
            site.restart("listen")
            assert requester.reports.get(timeout=60) == (1, "1.2.3.1", 1, {})
            wait_until(lambda: _commitments(site)["reported"] == 1, 60, "reported")

        silent = Silent()  # killed while it waits for the requester's answer, it was told and does not know it
        with silent.listening(port):
            assert silent.ask(site.dicom_port, "1.2.3.2", asked)[0] == ActionStatus.SUCCESS
            assert silent.reports.get(timeout=60) == (1, "1.2.3.2", 1, {})
            site["listen"].kill()
            silent.go.set()
            assert _commitments(site) == {"asked": 2, "waiting": 1, "reported": 1, "failed": 0}
            site.restart("listen")
            assert silent.reports.get(timeout=60) == (1, "1.2.3.2", 1, {})
            wait_until(lambda: _commitments(site)["reported"] == 2, 60, "reported")
        assert requester.reports.empty(), "once"
        assert silent.reports.empty(), "and again only where nobody could know"

        with urllib.request.urlopen(f"http://127.0.0.1:{site.web_port}/metrics", timeout=60) as answer:
            assert 'cxr_triage_commitments{state="reported"} 2.0' in answer.read().decode()


def _commitments(site: Site) -> dict[str, int]:
    return dict(site.ledger_by_web()["commitments"])
