"""Storage commitment: nothing is promised that is not on disk, and what was asked for is answered, whatever dies."""

from __future__ import annotations

import errno
import queue
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel
from sqlalchemy import select

from db.delivery import commitment_requests
from db.reasons import ReasonCode
from db.tables.delivery import Commitment
from dicom_io.network.status_codes import ActionStatus, FailureReason
from dicom_io.receive.listener import Listener, ListenerHandlers
from tests.dicom_io.images import CR, INSTANCE, data_set_of, image_file
from tests.dicom_io.wire import store
from tests.peers.processes import wait_until
from tests.peers.programs import free_port
from tests.peers.raw_dicom import associated
from worker.config.dicom_peers import listener_settings
from worker.config.settings import Dicom, KnownPeer, Settings
from worker.installation import Site
from worker.intake import commitment_scp as committing
from worker.intake.commitment_scp import Committer
from worker.intake.intake import Intake
from worker.runtime.registered_process import RegisteredProcess
from worker.web.app import make_web

IMAGE = data_set_of(image_file(np.zeros((64, 64), np.uint16)))
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


@dataclass
class Requester:
    """A node that asks for commitment and hears the outcome, on whichever association it comes."""

    reports: queue.Queue[tuple[int, str, int, dict[str, int]]] = field(default_factory=queue.Queue)

    def heard(self, event: evt.Event) -> tuple[int, None]:
        said = event.event_information
        failed = {item.ReferencedSOPInstanceUID: item.FailureReason for item in said.get("FailedSOPSequence", [])}
        number = len(said.get("ReferencedSOPSequence", []))
        self.reports.put((event.request.EventTypeID, str(said.TransactionUID), number, failed))
        return 0x0000, None

    def ask(
        self, port: int, transaction: str, references: list[tuple[str, str]], *, action: int = 1, stay: bool = False
    ) -> tuple[int, Association]:
        entity = AE(ae_title="MODALITY")
        entity.add_requested_context(StorageCommitmentPushModel)
        association = entity.associate(
            "127.0.0.1", port, ae_title="CXRTRIAGE", evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.heard)]
        )
        assert association.is_established
        asked = Dataset()
        asked.TransactionUID = transaction
        asked.ReferencedSOPSequence = []
        for sop_class, instance in references:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
            asked.ReferencedSOPSequence.append(item)
        status, _ = association.send_n_action(asked, action, StorageCommitmentPushModel, WELL_KNOWN)
        if not stay:
            association.release()
        return int(status.Status), association

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        entity = AE(ae_title="MODALITY")
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        server = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.heard)]
        )
        try:
            yield
        finally:
            server.shutdown()


@contextmanager
def committing_site(site: Site, settings: Settings) -> Iterator[Listener]:
    """A listener of the site that commits, with its thread."""
    stop, configured = threading.Event(), Site(settings)
    intake = Intake(configured, lambda _analysis: None)
    process = RegisteredProcess(lambda: site.database, "listen")
    committer = Committer(configured, lambda *words: listener.report(*words), process)
    handlers = ListenerHandlers(intake.receive, intake.rejected, committer.receive)
    listener = Listener(listener_settings(settings), handlers)
    thread = threading.Thread(target=committer.run, args=(stop,))
    with listener:
        thread.start()
        try:
            yield listener
        finally:
            stop.set()
            committer.wake()
            thread.join(60)


@pytest.fixture
def known(site: Site) -> Settings:
    """The site's settings, with the requester's address."""
    peers = (KnownPeer(ae_title="MODALITY", host="127.0.0.1", port=free_port()),)
    return site.settings.model_copy(update={"dicom": Dicom(host="127.0.0.1", port=0), "peers": peers})


def stored(listener: Listener) -> None:
    association = associated(listener.port)
    assert store(association, IMAGE, INSTANCE)[0] == 0
    association.release()


def states(site: Site) -> dict[str, int]:
    with site.database.read() as session:
        return {state: number for state, number in commitment_requests.counts(session).items() if number}


def test_report_comes_on_the_same_association_while_that_is_open(site: Site, known: Settings) -> None:
    requester = Requester()
    with committing_site(site, known) as listener:
        stored(listener)
        status, association = requester.ask(listener.port, "1.2.3.1", [(CR, INSTANCE)], stay=True)
        assert status == ActionStatus.SUCCESS
        assert requester.reports.get(timeout=60) == (1, "1.2.3.1", 1, {})
        wait_until(lambda: states(site) == {"reported": 1}, 60, "reported")
        assert association.is_established, "and it goes on"
        association.release()


def test_report_comes_on_a_new_association_with_the_reason_of_each_failure(site: Site, known: Settings) -> None:
    requester = Requester()
    with committing_site(site, known) as listener, requester.listening(known.peers[0].port):
        stored(listener)
        asked = [(CR, INSTANCE), (CR, "1.2.3.404"), (CT, "1.2.3.405")]
        assert requester.ask(listener.port, "1.2.3.2", asked)[0] == ActionStatus.SUCCESS
        failed = {"1.2.3.404": FailureReason.NO_SUCH_OBJECT, "1.2.3.405": FailureReason.CLASS_NOT_SUPPORTED}
        assert requester.reports.get(timeout=60) == (2, "1.2.3.2", 1, failed)
        requester.ask(listener.port, "1.2.3.3", [(DX, INSTANCE)])
        conflict = {INSTANCE: FailureReason.CLASS_INSTANCE_CONFLICT}
        assert requester.reports.get(timeout=60) == (2, "1.2.3.3", 0, conflict)
        wait_until(lambda: states(site) == {"reported": 2}, 60, "reported")


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")], ids=["gone", "bad"])
def test_what_is_no_longer_whole_on_disk_is_not_committed(
    site: Site, known: Settings, harm: Callable[[Path], object]
) -> None:
    requester = Requester()
    with committing_site(site, known) as listener:
        stored(listener)
        (path,) = site.store.root.glob("??/??/*.dcm")
        path.chmod(0o600)
        harm(path)
        _, association = requester.ask(listener.port, "1.2.3.4", [(CR, INSTANCE)], stay=True)
        failed = {INSTANCE: FailureReason.PROCESSING_FAILURE}
        assert requester.reports.get(timeout=60) == (2, "1.2.3.4", 0, failed)
        association.release()


def test_request_outlives_its_listener_and_a_requester_that_is_away(site: Site, known: Settings) -> None:
    requester = Requester()
    with committing_site(site, known) as listener:
        stored(listener)
        requester.ask(listener.port, "1.2.3.5", [(CR, INSTANCE)])  # hangs up, and does not listen yet
        wait_until(lambda: bool(_reason(site)), 60, "tried in vain")
    assert "cannot be reached" in _reason(site)
    assert states(site) == {"pending": 1}
    with committing_site(site, known), requester.listening(known.peers[0].port):
        assert requester.reports.get(timeout=60) == (1, "1.2.3.5", 1, {})
        wait_until(lambda: states(site) == {"reported": 1}, 60, "reported")
    assert requester.reports.empty()


def test_a_requester_without_an_address_is_named_and_given_up_in_the_end(
    site: Site, known: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    settings = known.model_copy(update={"peers": ()})
    monkeypatch.setattr(committing, "COMMITMENT_PATIENCE", timedelta(0))
    with committing_site(site, settings) as listener:
        Requester().ask(listener.port, "1.2.3.6", [(CR, INSTANCE)])
        wait_until(lambda: states(site) == {"failed": 1}, 60, "given up")
    assert "given up: the association of MODALITY has ended, and no address of it is configured" in _reason(site)
    with TestClient(make_web(site)) as client:
        ledger, system = client.get("/ledger").text, client.get("/system").text
        counts = client.get("/api/ledger").json()["commitments"]
    assert counts == {"asked": 1, "waiting": 0, "reported": 0, "failed": 1}
    assert re.search(r'class="name">MODALITY</td><td>given up: the association of MODALITY has ended', ledger)
    assert "1 requested, 0 waiting, 0 reported, 1 given up" in system


def test_the_same_transaction_asked_for_again_is_begun_anew(site: Site, known: Settings) -> None:
    requester = Requester()
    with committing_site(site, known) as listener:
        for expected in (2, 1):
            _, association = requester.ask(listener.port, "1.2.3.7", [(CR, INSTANCE)], stay=True)
            assert requester.reports.get(timeout=60)[0] == expected
            wait_until(lambda: states(site) == {"reported": 1}, 60, "reported")
            association.release()
            stored(listener)


def test_requests_that_make_no_sense_are_refused_with_their_status(site: Site, known: Settings) -> None:
    requester = Requester()
    with committing_site(site, known) as listener:
        for transaction, references, action, status in (
            ("1.2.3.8", [(CR, INSTANCE)], 2, ActionStatus.NO_SUCH_ACTION),
            ("1.2.3.9", [], 1, ActionStatus.INVALID_ARGUMENT),
            ("", [(CR, INSTANCE)], 1, ActionStatus.INVALID_ARGUMENT),
            ("1.2.3.10", [(CR, "../../x")], 1, ActionStatus.INVALID_ARGUMENT),
            ("1.2.3.11", [(CR, "")], 1, ActionStatus.INVALID_ARGUMENT),
        ):
            assert requester.ask(listener.port, transaction, references, action=action)[0] == status
    assert states(site) == {}


def _reason(site: Site) -> str:
    from sqlalchemy import text

    with site.database.read() as session:
        return str(session.execute(text("SELECT reason FROM commitment")).scalar() or "")


def test_store_that_goes_away_during_the_check_is_waited_for_and_no_instance_is_told_to_be_damaged(
    site: Site, known: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(_path: Path) -> str:
        raise OSError(errno.ESTALE, "Stale file handle")

    requester = Requester()
    with committing_site(site, known) as listener:
        stored(listener)
        monkeypatch.setattr("worker.storage.store._sha256", stale)
        requester.ask(listener.port, "1.2.3.5", [(CR, INSTANCE)])
        wait_until(lambda: reasons(site) == {ReasonCode.STORE_UNAVAILABLE}, 60, "tried")
    assert requester.reports.empty()


def reasons(site: Site) -> set[str]:
    with site.database.read() as session:
        return set(session.scalars(select(Commitment.reason_code)))
