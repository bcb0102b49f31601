"""A report on the requester's own association: its response is not taken by the association's thread."""

from __future__ import annotations

import threading

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association

from dicom_io.receive.pynetdicom_loop import make_event_driven
from dicom_io.receive.storage_commitment import CommitmentResult, Reference, ReportOutcome, report_on
from tests.dicom_io.images import CR, INSTANCE

RESULT = CommitmentResult("1.2.3", (Reference(CR, INSTANCE),), ())
PATIENCE = 60


class Passing(Association):
    """Has passed its checkpoint, and has not yet looked for messages nor said that it runs."""

    def __init__(self) -> None:
        super().__init__(AE(), "acceptor")
        self.passed, self.go_on, self.reported, self.end = (threading.Event() for _ in range(4))
        self.looked: list[bool] = []  # for each look, whether the report had been sent by then
        self.is_established = True
        make_event_driven(self, None, lambda *_words: None)

    def run(self) -> None:
        self._is_paused = True
        self._reactor_checkpoint.wait()
        self.passed.set()
        assert self.go_on.wait(PATIENCE)
        self.looked.append(self.reported.is_set())
        self._reactor_checkpoint.wait()
        assert self.end.wait(PATIENCE)
        self.dul._woken.close()
        self.dul._waker.close()

    def send_n_event_report(self, *_words: object, **_named: object) -> tuple[Dataset, None]:
        self.reported.set()
        answer = Dataset()
        answer.Status = 0
        return answer, None


def test_report_is_sent_only_once_the_thread_waits_though_it_had_passed_the_checkpoint() -> None:
    association = Passing()
    association.start()
    assert association.passed.wait(PATIENCE)
    outcomes: list[ReportOutcome] = []
    reporting = threading.Thread(target=lambda: outcomes.append(report_on(association, RESULT)))
    reporting.start()
    assert not association.reported.wait(0.3)
    association.go_on.set()
    reporting.join(PATIENCE)
    association.end.set()
    association.join(PATIENCE)
    assert (association.looked, outcomes) == ([False], [ReportOutcome.REPORTED])


def test_association_that_serves_another_request_for_long_is_busy_and_has_not_ended() -> None:
    association = Passing()
    association.start()
    assert association.passed.wait(PATIENCE)
    assert report_on(association, RESULT) is ReportOutcome.BUSY
    association.go_on.set()
    association.end.set()
    association.join(PATIENCE)
