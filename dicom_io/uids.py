"""UIDs: their syntax, and how ours are derived (not random: the same key gives the same UID)."""

import re
import uuid

MAXIMUM_LENGTH = 64
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")

# Our implementation (PS3.7 D.3.3.2), in the UUID-derived root that needs no registration (PS3.5 B.2).
_NAMESPACE = uuid.UUID("6f0d7a55-6c0e-5b63-9d6d-0b6b3f3f6a10")
IMPLEMENTATION_CLASS_UID = f"2.25.{uuid.uuid5(_NAMESPACE, 'implementation').int}"
IMPLEMENTATION_VERSION_NAME = "CXR_TRIAGE_1"


def is_uid(text: str) -> bool:
    """Whether a text is components of digits, at most 64 characters (PS3.5 9.1).

    Unlike in pydicom's `UID.is_valid`, a component may have a leading zero: many senders write one.
    """
    return len(text) <= MAXIMUM_LENGTH and _UID.fullmatch(text) is not None


def uid_problem(text: str) -> str:
    """Return what is wrong with a UID, to follow its name; empty where it is one."""
    if not text:
        return "is missing"
    if len(text) > MAXIMUM_LENGTH:
        return f"has {len(text)} characters, over {MAXIMUM_LENGTH}"
    return "" if is_uid(text) else "is not a UID"


def derive_uid(installation: uuid.UUID, key: str) -> str:
    """Derive the UID of one of our own objects, series or devices.

    Parameters
    ----------
    installation
        The installation's identity: two sites never make the same UID.
    key
        Identifies the object, series or device; the same key always gives the same UID.

    Returns
    -------
    str
        ``2.25.<decimal>``, at most 44 characters (PS3.5 B.2).

    Raises
    ------
    ValueError
        If the key is empty.
    """
    if not key:
        raise ValueError("the key that a UID is derived from is empty")
    return f"2.25.{uuid.uuid5(installation, key).int}"
