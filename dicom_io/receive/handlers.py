"""The handlers that a listener calls; each runs in the thread of the association it concerns."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from dicom_io.header.incoming_file import IncomingFile
from dicom_io.network.status_codes import ActionStatus, Status
from dicom_io.receive.messages import Received, Rejection
from dicom_io.receive.storage_commitment import CommitmentRequest


def _now() -> datetime:
    return datetime.now(UTC)


def _ignore(_rejection: Rejection) -> None:
    return


def _not_offered(_request: CommitmentRequest) -> ActionStatus:
    return ActionStatus.PROCESSING_FAILURE


@dataclass(frozen=True)
class ListenerHandlers:
    """What the listener leaves to its owner.

    Attributes
    ----------
    on_instance
        Makes a received object durable and returns the C-STORE status to answer.
    on_rejected
        Gets every association and object that the listener itself rejected.
    on_commitment
        Makes a storage commitment request durable and returns the N-ACTION status to answer; the outcome is reported
        later by `Listener.report`. Without it such requests are answered with a processing failure.
    new_file
        Opens the file that an object is written to while it is received; `on_instance` gets that file. Without it an
        object is held in memory and `on_instance` gets its bytes.
    clock
        The time of a rejection, in UTC with a zone.
    """

    on_instance: Callable[[Received], Status]
    on_rejected: Callable[[Rejection], None] = _ignore
    on_commitment: Callable[[CommitmentRequest], ActionStatus] = _not_offered
    new_file: Callable[[], IncomingFile] | None = None
    clock: Callable[[], datetime] = _now
