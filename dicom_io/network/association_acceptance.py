"""An A-ASSOCIATE-AC PDU (PS3.8 9.3.3): what of it counts for an association that we requested."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dicom_io.network.association_items import (
    APPLICATION,
    APPLICATION_CONTEXT,
    ASSOCIATE_AC,
    FIXED,
    TRANSFER,
    USER,
    MalformedPdu,
    association_pdu,
    item,
    items,
    length_fault,
    uid_of,
    user_information,
)

_RESULT = 0x21
_ACCEPTED, _NO_REASON, _TRANSFER_SYNTAXES = 0, 2, 4  # PS3.8 Table 9-18
_ANY_SYNTAX = b"1.2.840.10008.1.2"  # of a context that is not accepted: not significant


def read_acceptance(pdu: bytes, proposed: Mapping[int, Collection[str]]) -> bytes:
    """Return an A-ASSOCIATE-AC PDU as pynetdicom decodes it.

    Parameters
    ----------
    proposed
        The transfer syntaxes of each presentation context that we proposed, by its id: a context that is accepted with
        another one counts as rejected, for nothing could be sent on it.

    Raises
    ------
    MalformedPdu
        If its items cannot be told apart, or the peer takes no message.
    """
    if len(pdu) < FIXED:
        raise MalformedPdu(f"an acceptance of {len(pdu)} bytes, which ends before its first item")
    contexts, user = b"", []
    for kind, value in items(pdu[FIXED:]):
        if kind == _RESULT and len(value) >= 4 and value[0] in proposed:
            contexts += _context(value, proposed[value[0]])
        elif kind == USER:
            user.append(value)
    information, longest = user_information(user)
    if fault := length_fault(longest):
        raise MalformedPdu(fault)
    # the titles "shall not be tested when received" (PS3.8 Table 9-17)
    return association_pdu(ASSOCIATE_AC, b"?", b"?", item(APPLICATION, APPLICATION_CONTEXT) + contexts + information)


def _context(value: bytes, proposed: Collection[str]) -> bytes:
    number, result = value[0], value[2]
    syntax = b""
    if result == _ACCEPTED:
        syntax = next((uid_of(sub) for kind, sub in items(value[4:]) if kind == TRANSFER), b"")
        if syntax.decode("ascii") not in proposed:
            result, syntax = _TRANSFER_SYNTAXES, b""
    elif result > _TRANSFER_SYNTAXES:
        result = _NO_REASON
    return item(_RESULT, bytes((number, 0, result, 0)) + item(TRANSFER, syntax or _ANY_SYNTAX))
