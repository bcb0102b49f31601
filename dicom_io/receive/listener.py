"""The DICOM listener: C-ECHO, C-STORE of radiographs, storage commitment.

`ListenerHandlers.on_instance` makes an object durable and returns the status to answer: 0x0000 is sent only after it
returned `Status.SUCCESS`. Every other way out of a request is a named status too.
"""

import errno
import logging
import threading
import time
import uuid
from dataclasses import dataclass, field
from types import TracebackType

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association

from dicom_io.network.association_log import described
from dicom_io.network.presentation_contexts import received_contexts
from dicom_io.network.status_codes import ActionStatus, Status
from dicom_io.network.tls import RenewedContext
from dicom_io.receive.association_server import AssociationServer, requested
from dicom_io.receive.dimse_requests import C_STORE_RQ, unserved
from dicom_io.receive.handlers import ListenerHandlers
from dicom_io.receive.incoming_data_set import IncomingDataSet, examined, make_answerable
from dicom_io.receive.messages import ListenerCannotBind, ListenerPortInUse, ListenerSettings, Received, Rejection
from dicom_io.receive.pynetdicom_loop import abort_unserved
from dicom_io.receive.storage_commitment import (
    ActionRejected,
    CommitmentResult,
    ReportOutcome,
    read_request,
    report_on,
)
from dicom_io.receive.store_request import StoreRejected, is_allowed
from dicom_io.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

__all__ = [
    "Listener",
    "ListenerCannotBind",
    "ListenerHandlers",
    "ListenerPortInUse",
    "ListenerSettings",
    "Received",
    "Rejection",
]

_log = logging.getLogger(__name__)

_LONGEST_COMMENT = 64  # Error Comment (0000,0902) is LO
_POLL_SECONDS = 0.02

# A-ASSOCIATE-RJ: result, source, reason (PS3.8 Table 9-21)
_REJECT_CALLING_TITLE = (1, 1, 3)
_REJECT_CALLED_TITLE = (1, 1, 7)
_REJECT_LOCAL_LIMIT = (2, 3, 2)


@dataclass
class _Established:
    """An established association: the id that `Listener.report` finds it by, and when its last message came."""

    association: Association
    association_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    last_message: float = field(default_factory=time.monotonic)


class Listener:
    """A DICOM SCP: verification, storage of radiographs, storage commitment.

    Parameters
    ----------
    settings
        Address, port, limits and timeouts.
    handlers
        What stores objects, records rejections and takes commitment requests.

    Raises
    ------
    dicom_io.network.tls.TlsProblem
        If TLS is configured and its files cannot be used.
    """

    def __init__(self, settings: ListenerSettings, handlers: ListenerHandlers) -> None:
        self.settings = settings
        self._handlers = handlers
        self._established: dict[int, _Established] = {}
        self._answering: set[int] = set()
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
        """The TCP port, also where the settings say 0 for any free one."""
        return self.settings.port if self._server is None else int(self._server.server_address[1])

    @property
    def is_listening(self) -> bool:
        """Whether the thread that accepts connections is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def associations(self) -> int:
        """How many associations are established."""
        with self._lock:
            # one whose threads ended without an event is over too, and must not count against the limit
            ended = [key for key, each in self._established.items() if not each.association.is_alive()]
            for key in ended:
                del self._established[key]
            return len(self._established)

    @property
    def held_bytes(self) -> int:
        """Bytes held, in memory or in files, for requests that are not answered yet."""
        return 0 if self._server is None else self._server.budget.total

    def start(self) -> None:
        """Listen, in a thread of its own.

        Raises
        ------
        ListenerPortInUse
            If another process listens on the port.
        ListenerCannotBind
            If the address is not this machine's, or the port needs privileges that this process lacks.
        """
        host, port = self.settings.host, self.settings.port
        events = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ESTABLISHED, self._on_established),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_ACTION, self._on_action),
            (evt.EVT_DIMSE_RECV, self._on_message),
            *((ending, self._on_ended) for ending in (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)),
        ]
        try:
            self._server = self._ae.make_server(
                (host, port),
                evt_handlers=events,
                server_class=AssociationServer,
                settings=self.settings,
                tls=self._tls,
                on_rejected=self._reject,
                new_file=self._handlers.new_file,
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
        while time.monotonic() < deadline and self._answering:
            time.sleep(_POLL_SECONDS)
        server.closing.set()
        server.pending.close_all()
        associations = server.active_associations
        for association in associations:
            if association.is_established:
                association.abort()
            else:  # there is no association that could be aborted
                server.disconnect(association)
        for association in associations:  # each discards the object that it was receiving
            if association._dul_ready.wait(max(0.0, deadline - time.monotonic())):  # else its thread has not begun
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

    # Associations ----------------------------------------------------------------------------------------------------

    def _on_requested(self, event: evt.Event) -> None:
        """Reject who may not associate; pynetdicom checks no addresses, and counts idle sockets as associations."""
        association: Association = event.assoc
        request = requested(association)
        if request is None:  # it comes of the request that was read
            return
        calling, called, address = request.calling, request.called, association.requestor.address
        established = self.associations
        if request.refusal is not None:
            rejection, reason = request.refusal.codes, request.refusal.reason
        elif self.settings.check_called_ae and called != self.settings.ae_title.strip():
            rejection, reason = _REJECT_CALLED_TITLE, f"called AE title {called!r} not recognized"
        elif not is_allowed(calling, address, self.settings.allowed_callers):
            rejection, reason = _REJECT_CALLING_TITLE, "calling AE title and address are not among the allowed callers"
        elif established >= self.settings.maximum_associations:
            rejection, reason = _REJECT_LOCAL_LIMIT, f"{established} associations are open, the maximum"
        else:
            return
        association.acse.send_reject(*rejection)
        status = Status.OUT_OF_RESOURCES if rejection is _REJECT_LOCAL_LIMIT else Status.NOT_AUTHORISED
        self._reject(calling, address, status, f"association rejected: {reason}")
        association.kill()

    def _on_established(self, event: evt.Event) -> None:
        if self._server is not None:
            self._server.established(event.assoc)
        with self._lock:
            self._established[id(event.assoc)] = _Established(event.assoc)

    def _on_ended(self, event: evt.Event) -> None:
        with self._lock:
            if id(event.assoc) not in self._answering:  # else it counts until its thread ends
                self._established.pop(id(event.assoc), None)

    def _id_of(self, association: Association) -> str:
        with self._lock:
            found = self._established.get(id(association))
        return "" if found is None else found.association_id

    # Services --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _on_echo(event: evt.Event) -> int:
        with AssociationServer.answering(event.assoc):
            return Status.SUCCESS

    def _on_message(self, event: evt.Event) -> None:
        """Abort on a request that is not served; its sender would wait for an answer, or get a wrong one."""
        with self._lock:
            if (found := self._established.get(id(event.assoc))) is not None:
                found.last_message = time.monotonic()
        command = event.message.command_set
        reason = unserved(event.message, event.assoc._accepted_cx)
        if reason:
            abort_unserved(event.assoc)
            self._reject_request(event.assoc, Status.CANNOT_UNDERSTAND, f"association aborted: {reason}")
        elif command.get("CommandField") == C_STORE_RQ:
            make_answerable(command)

    def _on_action(self, event: evt.Event) -> tuple[int, None]:
        """Accept a request for storage commitment; the outcome is reported later."""
        with AssociationServer.answering(event.assoc):
            try:
                return self._handlers.on_commitment(read_request(event, self._id_of(event.assoc))), None
            except ActionRejected as rejected:
                status, reason = rejected.status, rejected.reason
            except Exception as error:  # noqa: BLE001  (edge of the process: the peer must get an answer)
                status, reason = ActionStatus.PROCESSING_FAILURE, f"internal error: {type(error).__name__}"
                _log.error("%s: a request for storage commitment failed: %s", described(event.assoc), reason)
        failed = status is ActionStatus.PROCESSING_FAILURE
        recorded = Status.PROCESSING_FAILURE if failed else Status.CANNOT_UNDERSTAND
        self._reject_request(event.assoc, recorded, f"storage commitment rejected: {reason}")
        return status, None

    def report(self, association_id: str, result: CommitmentResult, quiet_seconds: float) -> ReportOutcome:
        """Report what was committed on the association of the request, once no message came for `quiet_seconds`."""
        with self._lock:
            found = next((each for each in self._established.values() if each.association_id == association_id), None)
        if found is None or not found.association.is_alive() or not found.association.is_established:
            return ReportOutcome.ENDED
        if id(found.association) in self._answering or time.monotonic() - found.last_message < quiet_seconds:
            return ReportOutcome.BUSY
        return report_on(found.association, result)

    def _on_store(self, event: evt.Event) -> Dataset:
        with AssociationServer.answering(event.assoc):
            with self._lock:
                self._answering.add(id(event.assoc))
            try:
                status, comment = self._store(event)
            finally:
                if isinstance(event.request.DataSet, IncomingDataSet):
                    event.request.DataSet.discard()
                with self._lock:
                    self._answering.discard(id(event.assoc))
            response = Dataset()
            response.Status = int(status)
            if comment:
                response.ErrorComment = comment[:_LONGEST_COMMENT]
            return response

    def _store(self, event: evt.Event) -> tuple[Status, str]:
        """Check one request and hand it to `on_instance`; the status, and an error comment where it is not stored."""
        association: Association = event.assoc
        try:
            data, header = examined(event)
            status = self._handlers.on_instance(
                Received(
                    data=data,
                    header=header,
                    calling_ae=association.requestor.ae_title.strip(),
                    called_ae=association.acceptor.ae_title.strip(),
                    address=association.requestor.address,
                    association_id=self._id_of(association),
                )
            )
        except StoreRejected as rejected:
            status, reason = rejected.status, rejected.reason
        except Exception as error:  # noqa: BLE001  (edge of the process: the peer must get an answer)
            # the kind only: the message of a database or parser may quote patient data
            status, reason = Status.PROCESSING_FAILURE, f"internal error: {type(error).__name__}"
            _log.error("%s: a C-STORE request failed: %s", described(association), reason)
        else:
            return status, "" if status in {Status.SUCCESS, Status.COERCED} else status.name.replace("_", " ").lower()
        self._reject_request(association, status, reason)
        return status, reason

    def _reject_request(self, association: Association, status: Status, reason: str) -> None:
        self._reject(association.requestor.ae_title.strip(), association.requestor.address, status, reason)

    def _reject(self, calling: str, address: str, status: Status, reason: str) -> None:
        # at debug level: `on_rejected` decides what the log says
        _log.debug("rejected from %s at %s: %s (%s)", calling, address, reason, status.name)
        try:
            self._handlers.on_rejected(Rejection(calling, address, status, reason, self._handlers.clock()))
        except Exception as error:  # noqa: BLE001  (edge of the process: the answer must still be sent)
            _log.error("on_rejected failed: %s", type(error).__name__)
