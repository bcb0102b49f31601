"""DIMSE status codes by name: every way out of a handler is one of these, never a number in the text."""

from enum import IntEnum
from typing import Literal

Delivery = Literal["stored", "retry", "permanent"]


class Status(IntEnum):
    """Statuses of the C-STORE and C-ECHO services (PS3.4 B.2.3, PS3.7 C), and of STOW-RS (PS3.18 I.2)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NOT_AUTHORISED = 0x0124
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122  # a FailureReason of STOW-RS (PS3.18 I.2); over DIMSE it is negotiated
    COERCED = 0xB000
    ELEMENTS_DISCARDED = 0xB006
    DATA_SET_MISMATCH_WARNING = 0xB007


class ActionStatus(IntEnum):
    """Statuses of the N-ACTION service, as storage commitment answers (PS3.7 10.1.4.1.10)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    INVALID_ARGUMENT = 0x0115
    NO_SUCH_ACTION = 0x0123
    RESOURCE_LIMITATION = 0x0213


class FailureReason(IntEnum):
    """Why an instance is not committed (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    CLASS_NOT_SUPPORTED = 0x0122


# What a peer's answer to our C-STORE means for the object, first matching range first (PS3.4 Table B.2-1).
# 0111: the peer holds this instance already; as we resend the same bytes under the same UID, it is stored.
_MEANING: tuple[tuple[int, int, Delivery, str], ...] = (
    (0x0000, 0x0000, "stored", "stored"),
    (0x0107, 0x0107, "stored", "stored with a warning: attribute list error"),
    (0x0111, 0x0111, "stored", "stored before: duplicate SOP instance"),
    (0x0116, 0x0116, "stored", "stored with a warning: attribute value out of range"),
    (0xB000, 0xBFFF, "stored", "stored with a warning"),
    (0x0110, 0x0110, "retry", "processing failure at the peer"),
    (0xA700, 0xA7FF, "retry", "the peer is out of resources"),
    (0x0122, 0x0122, "permanent", "the peer does not support the SOP class"),
    (0x0124, 0x0124, "permanent", "the peer does not authorise us to store"),
    (0xA900, 0xA9FF, "permanent", "the peer says the data set does not match its SOP class"),
    (0xC000, 0xCFFF, "permanent", "the peer cannot understand the data set"),
)


def store_result(status: int) -> tuple[Delivery, str]:
    """Say what a C-STORE response status means for the object that was sent.

    Parameters
    ----------
    status
        The value of (0000,0900).

    Returns
    -------
    tuple of str
        ``"stored"``, ``"retry"`` or ``"permanent"``, and a sentence for people with the code in it.
    """
    for low, high, result, meaning in _MEANING:
        if low <= status <= high:
            return result, f"{meaning} (status 0x{status:04X})"
    return "permanent", f"the peer refused with the unlisted status 0x{status:04X}"
