"""UIDs: which texts are one, and how ours are derived (never drawn at random: the same key gives the same UID)."""

import re
import uuid

MAXIMUM_LENGTH = 64
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")

# Our implementation (PS3.7 D.3.3.2), in the UUID-derived root that needs no registration (PS3.5 B.2).
_NAMESPACE = uuid.UUID("6f0d7a55-6c0e-5b63-9d6d-0b6b3f3f6a10")
IMPLEMENTATION_CLASS_UID = f"2.25.{uuid.uuid5(_NAMESPACE, 'implementation').int}"
IMPLEMENTATION_VERSION_NAME = "CXR_TRIAGE_1"


def is_uid(text: str) -> bool:
    """Tell whether a text is digits and dots of at most 64 characters (PS3.5 9.1).

    A component with a leading zero passes: the standard forbids it, the field is full of it, and it harms nobody.
    """
    return len(text) <= MAXIMUM_LENGTH and _UID.fullmatch(text) is not None


def derive_uid(installation: uuid.UUID, key: str) -> str:
    """Derive the UID of one of our own objects, series or devices.

    Parameters
    ----------
    installation
        The installation's identity: two sites never make the same UID.
    key
        What the UID is of; the same key always gives the same UID.

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
        raise ValueError("a UID needs a key that says what it is of; the key is empty")
    return f"2.25.{uuid.uuid5(installation, key).int}"
