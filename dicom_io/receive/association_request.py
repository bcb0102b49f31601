"""An A-ASSOCIATE-RQ PDU (PS3.8 9.3.2): what of it this listener uses, and why it is rejected.

What cannot be accepted has a reason, with the sender's AE titles wherever they can be read.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicom_io.network.association_items import (
    APPLICATION,
    APPLICATION_CONTEXT,
    ASSOCIATE_RQ,
    FIXED,
    TRANSFER,
    USER,
    MalformedPdu,
    association_pdu,
    item,
    items,
    length_fault,
    title,
    uid_of,
    user_information,
)

_CONTEXT, _ABSTRACT = 0x20, 0x30
_NO_SYNTAX = b"2.25.0"  # stands for one that cannot be read, so that its context alone is rejected

# A-ASSOCIATE-RJ: result, source, reason (PS3.8 Table 9-21)
_NO_REASON, _APPLICATION_CONTEXT_NAME, _CALLING_TITLE, _PROTOCOL_VERSION = (1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 2, 2)


@dataclass(frozen=True)
class Refusal:
    """Why an association is rejected, and the three codes of its A-ASSOCIATE-RJ."""

    codes: tuple[int, int, int]
    reason: str


@dataclass(frozen=True)
class AssociationRequest:
    """A request to associate.

    Attributes
    ----------
    calling, called
        AE titles without padding; what is not a character of an AE title is shown as ``?``. Empty where blank.
    echoed
        The 64 bytes of titles and reserved fields that the acceptance repeats (PS3.8 Table 9-17).
    pdu
        The same request as pynetdicom decodes it.
    refusal
        Why it is rejected; None where nothing in it speaks against it.
    """

    calling: str
    called: str
    echoed: bytes
    pdu: bytes
    refusal: Refusal | None


def titles(pdu: bytes) -> tuple[str, str]:
    """Calling and called AE title of a PDU, as far as it holds them."""
    return title(pdu[26:42]), title(pdu[10:26])


def read_association_request(pdu: bytes) -> AssociationRequest:
    """Read an A-ASSOCIATE-RQ PDU.

    Raises
    ------
    MalformedPdu
        If its items cannot be told apart, or its presentation contexts not be answered.
    """
    if len(pdu) < FIXED:
        raise MalformedPdu(f"an association request of {len(pdu)} bytes, which ends before its first item")
    calling, called = titles(pdu)
    application = b""
    contexts: dict[int, bytes] = {}
    user: list[bytes] = []
    for kind, value in items(pdu[FIXED:]):
        if kind == APPLICATION:
            application = application or value.strip(b"\0 ")
        elif kind == _CONTEXT:
            number, context = _context(value)
            if number in contexts:  # the data of which of them?
                raise MalformedPdu(f"presentation context id {number} is there twice")
            contexts[number] = context
        elif kind == USER:
            user.append(value)
    information, longest = user_information(user)
    variable = item(APPLICATION, APPLICATION_CONTEXT) + b"".join(contexts.values()) + information
    decodable = [(each or "?").encode("ascii") for each in (called, calling)]
    return AssociationRequest(
        calling=calling,
        called=called,
        echoed=pdu[10:FIXED],
        pdu=association_pdu(ASSOCIATE_RQ, decodable[0], decodable[1], variable),
        refusal=_refusal(int.from_bytes(pdu[6:8], "big"), calling, application, len(contexts), longest),
    )


def _refusal(version: int, calling: str, application: bytes, contexts: int, longest: int) -> Refusal | None:
    if not version & 1:  # PS3.8 Table 9-11: only bit 0 is tested
        return Refusal(_PROTOCOL_VERSION, f"protocol version 0x{version:04X} does not include version 1")
    if application != APPLICATION_CONTEXT:
        return Refusal(_APPLICATION_CONTEXT_NAME, "application context name is not that of DICOM")
    if not calling:
        return Refusal(_CALLING_TITLE, "calling AE title is blank")
    if not contexts:
        return Refusal(_NO_REASON, "no presentation context is proposed")
    if fault := length_fault(longest):
        return Refusal(_NO_REASON, fault)
    return None


def _context(value: bytes) -> tuple[int, bytes]:
    """A presentation context item (PS3.8 9.3.2.2): its id, and the item anew."""
    if len(value) < 4:
        raise MalformedPdu("a presentation context item is cut off")
    number = value[0]
    if number % 2 == 0:
        raise MalformedPdu(f"presentation context id {number} is not odd")
    abstract, transfer = b"", []
    for kind, sub in items(value[4:]):
        if kind == _ABSTRACT:
            abstract = abstract or uid_of(sub)
        elif kind == TRANSFER and uid_of(sub):
            transfer.append(uid_of(sub))
    syntaxes = [
        item(_ABSTRACT, abstract or _NO_SYNTAX),
        *(item(TRANSFER, each) for each in transfer or [_NO_SYNTAX]),
    ]
    return number, item(_CONTEXT, bytes((number, 0, 0, 0)) + b"".join(syntaxes))
