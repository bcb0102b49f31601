"""Which requests are served on which presentation context; every other one aborts the association, with a reason.

pynetdicom 3.0.4 serves a request by its SOP class alone: a C-FIND on the context of Verification is answered with the
success of a C-ECHO. One without its message id it drops, and the sender waits for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.uid import UID
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from dicom_io.network.presentation_contexts import RECEIVED_SOP_CLASSES

C_STORE_RQ, C_ECHO_RQ, _N_ACTION_RQ, _C_CANCEL_RQ = 0x0001, 0x0030, 0x0130, 0x0FFF  # PS3.7 E.1-1
_RESPONSE = 0x8000

_SERVED: dict[int, tuple[str, tuple[str, ...]]] = {
    C_STORE_RQ: ("C-STORE", RECEIVED_SOP_CLASSES),
    C_ECHO_RQ: ("C-ECHO", (str(Verification),)),
    _N_ACTION_RQ: ("N-ACTION", (str(StorageCommitmentPushModel),)),
}
_REQUIRED = {
    C_STORE_RQ: ("AffectedSOPClassUID", "AffectedSOPInstanceUID", "MessageID"),
    C_ECHO_RQ: ("AffectedSOPClassUID", "MessageID"),
    _N_ACTION_RQ: ("RequestedSOPClassUID", "RequestedSOPInstanceUID", "MessageID", "ActionTypeID"),
}


def unserved(message: DIMSEMessage, accepted: Mapping[int, PresentationContext]) -> str:
    """Return why a message cannot be served; empty where it can be, or needs no answer."""
    number = message.context_id or 0
    if number not in accepted:
        return f"a message on presentation context {number}, which was not accepted"
    abstract, command = str(accepted[number].abstract_syntax), message.command_set
    kind = int(command.get("CommandField") or 0)
    if kind & _RESPONSE or kind == _C_CANCEL_RQ:
        return ""
    name, classes = _SERVED.get(kind, (f"0x{kind:04X}", ()))
    if abstract not in classes:
        return f"a {name} request on the context of {UID(abstract).name}"
    missing = [each for each in _REQUIRED[kind] if command.get(each) in (None, "")]
    if missing:
        return f"a {name} request without {' and '.join(missing)}"
    if kind == C_STORE_RQ or command.get(_REQUIRED[kind][0]) == abstract:
        return ""  # an object of another class is answered, with its status
    return f"a {name} request of another SOP class than its context's"
