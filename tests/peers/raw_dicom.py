"""A sender without manners: any bytes as a data set, any text as a UID, any bytes as a PDU."""

from __future__ import annotations

import socket
import time
from io import BytesIO

from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"


class AssociationRefused(Exception):
    """The peer rejected the association."""


def store_bytes(
    port: int,
    data_set: bytes,
    sop_instance_uid: str,
    *,
    sop_class_uid: str = COMPUTED_RADIOGRAPHY,
    transfer_syntax: str = ExplicitVRLittleEndian,
    called: str = "CXRTRIAGE",
    calling: str = "MODALITY",
) -> int | None:
    """Send `data_set` as it is by C-STORE.

    Returns
    -------
    int or None
        The response's status; None where the peer aborted instead of answering.

    Raises
    ------
    AssociationRefused
        Where no association came to be.
    """
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 45
    entity.add_requested_context(sop_class_uid, transfer_syntax)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        raise AssociationRefused(f"{called} on port {port} refused {calling}")
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = UID(sop_class_uid)
    request.AffectedSOPInstanceUID = UID(sop_instance_uid)
    request.Priority = 2
    request.DataSet = BytesIO(data_set)
    # As pynetdicom's own send_c_store does: keep its reactor from taking the response away.
    association._reactor_checkpoint.clear()
    try:
        while not association._is_paused:
            time.sleep(0.001)
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id or 1)
        _, response = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
    if response is None:
        association.abort()
        return None
    association.release()
    return int(response.Status)


def send_pdu(port: int, pdu: bytes, seconds: float = 15) -> bytes:
    """Send raw bytes over TCP and return everything that comes back until the peer closes; b"" where it says nothing.

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
