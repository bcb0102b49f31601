"""DIMSE status codes by name: every handler returns one of these, never a literal number."""

from enum import IntEnum
from typing import Literal

StoreResult = Literal["stored", "retry", "permanent"]


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
    TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122  # of STOW-RS (PS3.18 I.2); over DIMSE it is negotiated
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


# What the response to a C-STORE means for the object; the first range that matches counts (PS3.4 Table B.2-1).
# 0111: the peer has this instance already; it is resent with the same bytes under the same UID, so it is stored.
_MEANING: tuple[tuple[int, int, StoreResult, str], ...] = (
    (0x0000, 0x0000, "stored", "stored"),
    (0x0107, 0x0107, "stored", "stored with a warning: attribute list error"),
    (0x0111, 0x0111, "stored", "stored before: duplicate SOP instance"),
    (0x0116, 0x0116, "stored", "stored with a warning: attribute value out of range"),
    (0xB000, 0xBFFF, "stored", "stored with a warning"),
    (0x0110, 0x0110, "retry", "processing failure at the peer"),
    (0xA700, 0xA7FF, "retry", "the peer is out of resources"),
    (0x0122, 0x0122, "permanent", "the peer does not support the SOP class"),
    (0x0124, 0x0124, "permanent", "not authorised to store at the peer"),
    (0xA900, 0xA9FF, "permanent", "data set does not match SOP class, says the peer"),
    (0xC000, 0xCFFF, "permanent", "the peer cannot understand the data set"),
)


def store_result(status: int) -> tuple[StoreResult, str]:
    """Interpret the status of a C-STORE response for the object that was sent.

    Parameters
    ----------
    status
        The value of (0000,0900).

    Returns
    -------
    tuple of str
        ``"stored"``, ``"retry"`` or ``"permanent"``, and a description with the code.
    """
    for low, high, result, meaning in _MEANING:
        if low <= status <= high:
            return result, f"{meaning} (status 0x{status:04X})"
    return "permanent", f"rejected by the peer with the unlisted status 0x{status:04X}"
