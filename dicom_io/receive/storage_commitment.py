"""Storage commitment, push model, as SCP (PS3.4 J): the request, and the report of its outcome.

The N-ACTION response only accepts the request; the outcome follows as an N-EVENT-REPORT, on the same association or on
one that we request with the SCP role for ourselves (PS3.4 J.3.3).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicom_io.errors import StatedError
from dicom_io.header.parsing import PARSING_ERRORS, text
from dicom_io.network.association import Peer, PeerUnreachable, ReactorCheckpoint, associate, end
from dicom_io.network.association_log import described, uses
from dicom_io.network.presentation_contexts import RECEIVED_SOP_CLASSES, UNCOMPRESSED
from dicom_io.network.status_codes import ActionStatus, FailureReason
from dicom_io.uids import is_uid

_REQUEST_COMMITMENT = 1  # action type (PS3.4 Table J.3-1)
_ALL_COMMITTED, _SOME_FAILED = 1, 2  # event types (PS3.4 Table J.3-2)
MOST_REFERENCES = 20_000
_LARGEST_REQUEST = 8 << 20  # bytes; the most references need about half of it
_REPORT_SECONDS = 30.0  # for the response on the requester's own association, which is paused meanwhile
_PAUSE_SECONDS = 2.0


class ActionRejected(StatedError):
    """An N-ACTION request is answered with a failure; `reason` contains no patient data."""

    def __init__(self, status: ActionStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Reference:
    """One instance to be committed."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class CommitmentRequest:
    """A request for commitment; `association_id` is the listener's id of its association."""

    transaction_uid: str
    references: tuple[Reference, ...]
    calling_ae: str
    address: str
    association_id: str


@dataclass(frozen=True)
class CommitmentResult:
    """The instances that are committed, and those that are not with the reason."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, FailureReason], ...]


class ReportOutcome(Enum):
    """The outcome of a report on the requester's own association."""

    REPORTED = "reported"
    BUSY = "busy"  # the association is open, but serves another request
    ENDED = "ended"


def read_request(event: evt.Event, association_id: str) -> CommitmentRequest:
    """Read an N-ACTION request.

    Raises
    ------
    ActionRejected
        If it requests another action, is malformed, or names too many instances.
    """
    request = event.request
    if str(request.RequestedSOPInstanceUID or "") != StorageCommitmentPushModelInstance:
        raise ActionRejected(ActionStatus.NO_SUCH_INSTANCE, "Requested SOP Instance UID is not the well-known instance")
    if request.ActionTypeID != _REQUEST_COMMITMENT:
        raise ActionRejected(ActionStatus.NO_SUCH_ACTION, f"action type {request.ActionTypeID} is not 1")
    if request.ActionInformation is None:
        raise ActionRejected(ActionStatus.INVALID_ARGUMENT, "no action information")
    if request.ActionInformation.getbuffer().nbytes > _LARGEST_REQUEST:
        raise ActionRejected(
            ActionStatus.RESOURCE_LIMITATION, f"action information of more than {_LARGEST_REQUEST} bytes"
        )
    try:
        information = event.action_information
        transaction = text(information, "TransactionUID")
        items = information.get("ReferencedSOPSequence") or []
        references = tuple(
            Reference(text(item, "ReferencedSOPClassUID"), text(item, "ReferencedSOPInstanceUID")) for item in items
        )
    except PARSING_ERRORS as error:
        raise ActionRejected(
            ActionStatus.INVALID_ARGUMENT, f"action information cannot be parsed: {type(error).__name__}"
        ) from error
    if not is_uid(transaction):
        raise ActionRejected(ActionStatus.INVALID_ARGUMENT, "Transaction UID is missing or not a UID")
    if not references:
        raise ActionRejected(ActionStatus.INVALID_ARGUMENT, "Referenced SOP Sequence is missing or empty")
    if len(references) > MOST_REFERENCES:
        raise ActionRejected(
            ActionStatus.RESOURCE_LIMITATION, f"{len(references)} instances; at most {MOST_REFERENCES} at once"
        )
    if not all(is_uid(each.sop_class_uid) and is_uid(each.sop_instance_uid) for each in references):
        raise ActionRejected(ActionStatus.INVALID_ARGUMENT, "a referenced SOP Class or Instance UID is not a UID")
    requestor = event.assoc.requestor
    return CommitmentRequest(transaction, references, requestor.ae_title.strip(), requestor.address, association_id)


def failure_reason(reference: Reference) -> FailureReason:
    """The failure reason of an instance that is not stored here."""
    known = reference.sop_class_uid in RECEIVED_SOP_CLASSES
    return FailureReason.NO_SUCH_OBJECT if known else FailureReason.CLASS_NOT_SUPPORTED


def event_information(result: CommitmentResult) -> Dataset:
    """Build the event information of the report (PS3.4 Table J.3-2)."""
    information = Dataset()
    information.TransactionUID = UID(result.transaction_uid)
    if result.committed:
        information.ReferencedSOPSequence = [_item(reference) for reference in result.committed]
    if result.failed:
        information.FailedSOPSequence = []
        for reference, reason in result.failed:
            item = _item(reference)
            item.FailureReason = int(reason)
            information.FailedSOPSequence.append(item)
    return information


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID(reference.sop_class_uid)
    item.ReferencedSOPInstanceUID = UID(reference.sop_instance_uid)
    return item


def deliver_report(peer: Peer, result: CommitmentResult) -> None:
    """Report on an association that we request.

    Raises
    ------
    PeerUnreachable
        If it is not established, or the report is not answered with success; a later attempt may succeed.
    """
    context = build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))
    association = associate(peer, [context], roles=[build_role(StorageCommitmentPushModel, scp_role=True)])
    try:
        problem = _send(association, result)
    finally:
        end(association)
    if problem:
        raise PeerUnreachable(f"{peer} {problem}")


def report_on(association: Association, result: CommitmentResult) -> ReportOutcome:
    """Report on the association of the request.

    Pending requests on it are served first: pynetdicom would take a request that arrives now for the response.
    """
    with _paused(association) as is_paused:
        has_more = association.dul.peek_next_pdu() is not None or not association.dimse.msg_queue.empty()
        if not is_paused or has_more:
            is_open = association.is_alive() and association.is_established
            return ReportOutcome.BUSY if is_open else ReportOutcome.ENDED
        timeout, association.dimse_timeout = association.dimse_timeout, _REPORT_SECONDS
        uses(described(association))
        try:
            return ReportOutcome.ENDED if _send(association, result) else ReportOutcome.REPORTED
        finally:
            association.dimse_timeout = timeout
            uses("")


@contextmanager
def _paused(association: Association) -> Iterator[bool]:
    """Pause the association's own thread, which would take the response; False where it does not stop in time."""
    checkpoint = association._reactor_checkpoint
    assert isinstance(checkpoint, ReactorCheckpoint), "an association of the listener"
    try:
        yield checkpoint.pause(_PAUSE_SECONDS) and association.is_established
    finally:
        checkpoint.set()


def _send(association: Association, result: CommitmentResult) -> str:
    """Send the report; an empty string if it was answered with success, else the problem."""
    try:
        answer, _ = association.send_n_event_report(
            event_information(result),
            _SOME_FAILED if result.failed else _ALL_COMMITTED,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
    except (RuntimeError, ValueError) as error:  # pynetdicom: the association ended, or has no such context
        return f"cannot get the report: {type(error).__name__}"
    if "Status" not in answer:
        return "did not answer the report in time, or closed the connection"
    return "" if answer.Status == ActionStatus.SUCCESS else f"answered the report with status 0x{answer.Status:04X}"
