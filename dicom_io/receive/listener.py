"""The DICOM listener: C-ECHO, C-STORE of radiographs, storage commitment. It checks what arrives and hands it on.

Durability is `on_instance`'s, which returns the status to answer: 0x0000 leaves this process only after it returned
`Status.SUCCESS`. Every other way out of a request is a named status too.
"""

import errno
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association

from dicom_io.network.presentation_contexts import received_contexts
from dicom_io.network.status_codes import ActionStatus, Status
from dicom_io.network.tls import RenewedContext
from dicom_io.receive.association_server import AssociationServer
from dicom_io.receive.incoming_data_set import ArrivingDataSet, Begin, examined
from dicom_io.receive.messages import ListenerCannotBind, ListenerPortInUse, ListenerSettings, Received, Rejection
from dicom_io.receive.storage_commitment import (
    ActionRefused,
    CommitmentRequest,
    CommitmentResult,
    OnAssociation,
    read_request,
    report_on,
)
from dicom_io.receive.store_request import StoreRefused, is_allowed
from dicom_io.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

__all__ = ["Listener", "ListenerCannotBind", "ListenerPortInUse", "ListenerSettings", "Received", "Rejection"]

_log = logging.getLogger(__name__)

_LONGEST_COMMENT = 64  # Error Comment (0000,0902) is LO
_POLL_SECONDS = 0.02

# A-ASSOCIATE-RJ: result, source, reason (PS3.8 Table 9-21)
_REJECT_CALLING_TITLE = (1, 1, 3)
_C_STORE_RQ = 0x0001  # PS3.7 E.1-1
_REJECT_CALLED_TITLE = (1, 1, 7)
_REJECT_LOCAL_LIMIT = (2, 3, 2)


OnInstance = Callable[[Received], Status]
OnRejected = Callable[[Rejection], None]
OnReleased = Callable[[str, frozenset[str]], None]
OnCommitment = Callable[[CommitmentRequest], ActionStatus]


@dataclass
class _Visit:
    """One association's stay: what it stored, and whether it ended while a request was still being answered."""

    association: Association
    association_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    studies: set[str] = field(default_factory=set)
    busy: int = 0
    ended: bool = False
    last_message: float = field(default_factory=time.monotonic)


class Listener:
    """A DICOM SCP for verification and storage of radiographs.

    Parameters
    ----------
    settings
        Where to listen and for whom.
    on_instance
        Makes an object durable and returns the status to answer; called in the association's thread.
    on_rejected
        Told of every association and object that the listener itself turned away.
    on_released
        Told once at the end of every established association, however it ended: its id and the UIDs of the studies
        of which it stored objects.
    on_commitment
        Makes a request for storage commitment durable and returns the status to answer; `report` follows later.
    begin
        Begins to put down an object while it arrives: `on_instance` gets the same; without it, the bytes.

    Raises
    ------
    dicom_io.network.tls.TlsProblem
        If TLS is asked for and cannot be spoken.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        on_instance: OnInstance,
        on_rejected: OnRejected | None = None,
        on_released: OnReleased | None = None,
        on_commitment: OnCommitment | None = None,
        begin: Begin | None = None,
    ) -> None:
        self.settings = settings
        self._on_instance = on_instance
        self._on_rejected = on_rejected or (lambda _rejection: None)
        self._on_released = on_released or (lambda _association, _studies: None)
        self._on_commitment = on_commitment or (lambda _request: ActionStatus.PROCESSING_FAILURE)
        self._begin = begin
        self._visits: dict[int, _Visit] = {}
        self._lock = threading.Lock()
        self._server: AssociationServer | None = None
        self._thread: threading.Thread | None = None
        self._ae = AE(ae_title=settings.ae_title)
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._ae.maximum_pdu_size = settings.maximum_pdu
        self._ae.maximum_associations = 10 * settings.maximum_associations  # ours counts established ones only
        self._tls = None if settings.tls is None else RenewedContext(settings.tls)
        self._ae.acse_timeout = settings.association_timeout
        self._ae.dimse_timeout = settings.idle_timeout
        self._ae.network_timeout = settings.idle_timeout
        self._ae.require_called_aet = settings.check_called_ae
        self._ae.supported_contexts = received_contexts()

    @property
    def port(self) -> int:
        """The port that is listened on, also where the settings say 0 for any."""
        return self.settings.port if self._server is None else int(self._server.server_address[1])

    @property
    def is_listening(self) -> bool:
        """Whether the thread that accepts associations lives."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Listen, in a thread of its own.

        Raises
        ------
        ListenerPortInUse
            If another process listens on the port.
        ListenerCannotBind
            If the address is not ours, or the port needs rights that we lack.
        """
        host, port = self.settings.host, self.settings.port
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._action),
            (evt.EVT_DIMSE_RECV, self._message),
            *((ending, self._ended) for ending in (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)),
        ]
        try:
            self._server = self._ae.make_server(
                (host, port),
                evt_handlers=handlers,
                server_class=AssociationServer,
                settings=self.settings,
                tls=self._tls,
                on_refused=self._reject,
                begin=self._begin,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ListenerPortInUse(f"DICOM port {port} on {host} is in use by another process") from error
            raise ListenerCannotBind(f"cannot listen for DICOM on {host} port {port}: {error.strerror}") from error
        self._ae._servers.append(self._server)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="dicom-listener", daemon=True
        )
        self._thread.start()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Accept no more, let requests that are being answered finish within the grace, then end every association."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        deadline = time.monotonic() + grace_seconds
        while time.monotonic() < deadline and self._is_busy():
            time.sleep(_POLL_SECONDS)
        server.closing.set()
        server.newcomers.end_all()
        associations = server.active_associations
        for association in associations:
            if association.is_established:
                association.abort()
            else:  # nothing was agreed that could be aborted
                server.hang_up(association)
        for association in associations:  # each lets go of the object that was arriving
            if association._dul_ready.wait(max(0.0, deadline - time.monotonic())):  # this moment's are only beginning
                association.dul.join(max(0.0, deadline - time.monotonic()))
        if self._thread is not None:
            self._thread.join(grace_seconds)

    def __enter__(self) -> "Listener":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _is_busy(self) -> bool:
        with self._lock:
            return any(visit.busy for visit in self._visits.values())

    # Association -----------------------------------------------------------------------------------------------------

    def _requested(self, event: evt.Event) -> None:
        """Reject who may not associate; pynetdicom knows no addresses, and counts idle sockets as associations."""
        association: Association = event.assoc
        request = association.requestor.primitive
        calling, called, address = request.calling_ae_title, request.called_ae_title, association.requestor.address
        established = self._count_established()
        if self.settings.check_called_ae and called.strip() != self.settings.ae_title.strip():
            rejection, reason = _REJECT_CALLED_TITLE, f"called AE title is {called.strip()!r}, ours is another"
        elif not is_allowed(calling, address, self.settings.allowed_callers):
            rejection, reason = _REJECT_CALLING_TITLE, "calling AE title and address are not among the allowed callers"
        elif established >= self.settings.maximum_associations:
            rejection, reason = _REJECT_LOCAL_LIMIT, f"{established} associations are open, the most allowed"
        else:
            return
        association.acse.send_reject(*rejection)
        status = Status.OUT_OF_RESOURCES if rejection is _REJECT_LOCAL_LIMIT else Status.NOT_AUTHORISED
        self._reject(calling.strip(), address, status, f"association rejected: {reason}")
        association.kill()

    def _established(self, event: evt.Event) -> None:
        if self._server is not None:
            self._server.settled(event.assoc)
        with self._lock:
            self._visits[id(event.assoc)] = _Visit(event.assoc)

    def _ended(self, event: evt.Event) -> None:
        self._end(event.assoc)

    def _end(self, association: Association) -> None:
        with self._lock:
            visit = self._visits.get(id(association))
            if visit is None:
                return
            visit.ended = True
            if visit.busy:
                return  # whoever is being answered reports the end
            del self._visits[id(association)]
        self._report_end(visit)

    def _count_established(self) -> int:
        """Count the open associations; one whose threads died without a word is over too, and must not take a place."""
        with self._lock:
            open_ones = [visit.association for visit in self._visits.values()]
        for association in open_ones:
            if not association.is_alive():
                self._end(association)
        with self._lock:
            return len(self._visits)

    def _report_end(self, visit: _Visit) -> None:
        try:
            self._on_released(visit.association_id, frozenset(visit.studies))
        except Exception as error:  # noqa: BLE001  (edge of the process: pynetdicom's thread must go on)
            _log.error("on_released failed for association %s: %s", visit.association_id, type(error).__name__)

    # Services --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _echo(event: evt.Event) -> int:
        with AssociationServer.answering(event.assoc):
            return Status.SUCCESS

    def _message(self, event: evt.Event) -> None:
        """Abort on a C-STORE request that names no object: pynetdicom drops it, and its sender would wait for ever."""
        command = event.message.command_set
        with self._lock:
            visit = self._visits.get(id(event.assoc))
            if visit is not None:
                visit.last_message = time.monotonic()
        if command.get("CommandField") != _C_STORE_RQ:
            return
        missing = [name for name in ("AffectedSOPClassUID", "AffectedSOPInstanceUID") if not command.get(name)]
        if missing:
            association: Association = event.assoc
            self._reject(
                association.requestor.ae_title.strip(),
                association.requestor.address,
                Status.CANNOT_UNDERSTAND,
                f"association aborted: a C-STORE request without {' and '.join(missing)}",
            )
            association.abort()

    def _action(self, event: evt.Event) -> tuple[int, None]:
        """Take a request for storage commitment; the answer says no more than that."""
        with AssociationServer.answering(event.assoc):
            with self._lock:
                visit = self._visits.get(id(event.assoc))
            try:
                return self._on_commitment(read_request(event, visit.association_id if visit else "")), None
            except ActionRefused as refusal:
                status, reason = refusal.status, refusal.reason
            except Exception as error:  # noqa: BLE001  (edge of the process: the peer must get an answer)
                status, reason = ActionStatus.PROCESSING_FAILURE, f"internal error: {type(error).__name__}"
                _log.error("a request for storage commitment failed: %s", reason)
        requestor = event.assoc.requestor
        told = Status.PROCESSING_FAILURE if status is ActionStatus.PROCESSING_FAILURE else Status.CANNOT_UNDERSTAND
        self._reject(requestor.ae_title.strip(), requestor.address, told, f"storage commitment refused: {reason}")
        return status, None

    def report(self, association_id: str, result: CommitmentResult, quiet_seconds: float) -> OnAssociation:
        """Report what was committed on the association that it was asked for on, once that has been quiet so long."""
        with self._lock:
            visit = next((each for each in self._visits.values() if each.association_id == association_id), None)
        if visit is None or not visit.association.is_alive() or not visit.association.is_established:
            return OnAssociation.OVER
        if visit.busy or time.monotonic() - visit.last_message < quiet_seconds:
            return OnAssociation.BUSY
        return report_on(visit.association, result)

    def _store(self, event: evt.Event) -> Dataset:
        with AssociationServer.answering(event.assoc):
            return self._store_counted(event)

    def _store_counted(self, event: evt.Event) -> Dataset:
        association: Association = event.assoc
        with self._lock:
            visit = self._visits.setdefault(id(association), _Visit(association))
            visit.busy += 1
        study = ""
        try:
            status, reason, study = self._answer(event, visit.association_id)
        finally:
            if isinstance(event.request.DataSet, ArrivingDataSet):
                event.request.DataSet.discard()
            with self._lock:
                if study:
                    visit.studies.add(study)
                visit.busy -= 1
                over = visit.ended and not visit.busy
                if over:
                    self._visits.pop(id(association), None)
        if over:
            self._report_end(visit)
        return _response(status, reason)

    def _answer(self, event: evt.Event, association_id: str) -> tuple[Status, str, str]:
        """Examine one request and hand it on; returns the status, an error comment, and the study's UID if stored."""
        calling, called = event.assoc.requestor.ae_title.strip(), event.assoc.acceptor.ae_title.strip()
        address = event.assoc.requestor.address
        try:
            data, facts = examined(event)
            status = self._on_instance(Received(data, facts, calling, called, address, association_id))
        except StoreRefused as refusal:
            self._reject(calling, address, refusal.status, refusal.reason)
            return refusal.status, refusal.reason, ""
        except Exception as error:  # noqa: BLE001  (edge of the process: the peer must get an answer)
            # the kind only: a database's or parser's message may quote patient data
            reason = f"internal error: {type(error).__name__}"
            _log.error("a C-STORE request failed: %s", reason)
            self._reject(calling, address, Status.PROCESSING_FAILURE, reason)
            return Status.PROCESSING_FAILURE, reason, ""
        stored = status in {Status.SUCCESS, Status.COERCED}
        return (
            status,
            "" if stored else status.name.replace("_", " ").lower(),
            facts.study_instance_uid if stored else "",
        )

    def _reject(self, calling: str, address: str, status: Status, reason: str) -> None:
        rejection = Rejection(calling, address, status, reason, datetime.now(UTC))
        # for debugging only: whoever is told says it aloud
        _log.debug("rejected from %s at %s: %s (%s)", calling, address, reason, status.name)
        try:
            self._on_rejected(rejection)
        except Exception as error:  # noqa: BLE001  (edge of the process: the answer must still go out)
            _log.error("on_rejected failed: %s", type(error).__name__)


def _response(status: Status, comment: str) -> Dataset:
    response = Dataset()
    response.Status = int(status)
    if comment:
        response.ErrorComment = comment[:_LONGEST_COMMENT]
    return response
