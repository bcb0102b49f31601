"""A sender that can violate the protocol: any bytes as a data set, any text as a UID, any bytes as a PDU."""

from __future__ import annotations

import socket
import ssl
import time
from io import BytesIO

from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import build_context

from dicom_io.network.association import ReactorCheckpoint


class AssociationRejected(Exception):
    """The peer rejected the association."""


def associated(
    port: int,
    *,
    calling: str = "MODALITY",
    called: str = "CXRTRIAGE",
    sop_class: str = ComputedRadiographyImageStorage,
    transfer_syntax: str = ExplicitVRLittleEndian,
    timeout: float = 60.0,
    tls: ssl.SSLContext | None = None,
) -> Association:
    """Request an association with one presentation context; it is not established where the peer rejects it."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout
    contexts = [build_context(sop_class, transfer_syntax)]
    tls_args = None if tls is None else (tls, "127.0.0.1")

    def connected(event: evt.Event) -> None:
        event.assoc._reactor_checkpoint = ReactorCheckpoint(event.assoc)

    return entity.associate(
        "127.0.0.1",
        port,
        contexts=contexts,
        ae_title=called,
        tls_args=tls_args,
        evt_handlers=[(evt.EVT_CONN_OPEN, connected)],
    )


def rejection(association: Association) -> tuple[int, int] | None:
    """Result and diagnostic of the A-ASSOCIATE-RJ (PS3.8 9.3.4); None where there was none.

    pynetdicom's `is_rejected` is false where the peer closes before the association's thread has looked.
    """
    answer = association.acceptor.primitive or association.dul.peek_next_pdu()
    return (answer.result, answer.diagnostic) if isinstance(answer, A_ASSOCIATE) and answer.result else None


def c_store(
    association: Association,
    data_set: bytes,
    sop_instance_uid: str,
    sop_class_uid: str = ComputedRadiographyImageStorage,
) -> C_STORE | None:
    """Send one C-STORE request; its response, None where the peer aborts or does not answer in time."""
    request = C_STORE()
    request.MessageID = 1
    # past the setters, which refuse UIDs of more than 64 characters
    request._affected_sop_class_uid = UID(sop_class_uid)
    request._affected_sop_instance_uid = UID(sop_instance_uid)
    request.Priority = 2
    request.DataSet = BytesIO(data_set)
    association._reactor_checkpoint.clear()  # as send_c_store does: else its reactor takes the response
    try:
        while not association._is_paused:
            time.sleep(0.001)
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id or 1)
        deadline = time.monotonic() + (association.dimse_timeout or 60.0)
        ended = False
        while (response := association.dimse.get_msg()[1]) is None and not ended:
            ended = association.is_aborted or association.acse.is_aborted() or time.monotonic() > deadline
            time.sleep(0.002)
    finally:
        association._reactor_checkpoint.set()
    return response


def store_bytes(
    port: int,
    data_set: bytes,
    sop_instance_uid: str,
    *,
    sop_class_uid: str = ComputedRadiographyImageStorage,
    transfer_syntax: str = ExplicitVRLittleEndian,
    called: str = "CXRTRIAGE",
    calling: str = "MODALITY",
) -> int | None:
    """Send `data_set` as it is by C-STORE, on an association of its own.

    Returns
    -------
    int or None
        The status of the response; None where the peer aborts instead of answering.

    Raises
    ------
    AssociationRejected
        If no association is established.
    """
    association = associated(
        port, calling=calling, called=called, sop_class=sop_class_uid, transfer_syntax=transfer_syntax, timeout=60
    )
    if not association.is_established:
        raise AssociationRejected(f"{called} on port {port} rejected {calling}")
    response = c_store(association, data_set, sop_instance_uid, sop_class_uid)
    if response is None:
        association.abort()
        return None
    association.release()
    return int(response.Status)


def send_pdu(port: int, pdu: bytes, seconds: float = 60) -> bytes:
    """Send raw bytes over TCP and return everything that comes back until the peer closes; b"" where it sends nothing.

    Raises
    ------
    TimeoutError
        Where the peer neither answers nor closes within `seconds`.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(pdu)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while True:
            try:
                more = connection.recv(4096)
            except ConnectionResetError:
                return received
            if not more:
                return received
            received += more
