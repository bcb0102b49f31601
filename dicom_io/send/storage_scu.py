"""The Storage SCU: C-STORE of many files over one association, and C-ECHO.

Every wait has a timeout. Outcomes distinguish what a later attempt may deliver from what fails permanently; retrying is
the caller's.
"""

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import config
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, STANDARD_VR
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from dicom_io.header import parsing
from dicom_io.header.parsing import PARSING_ERRORS, UnreadableDicom, parse_file, parse_header, text, transfer_syntax
from dicom_io.network.association import NothingAccepted, Peer, PeerUnreachable, associate, end
from dicom_io.network.presentation_contexts import UNCOMPRESSED
from dicom_io.network.status_codes import Status, StoreResult, store_result
from dicom_io.uids import is_uid

_log = logging.getLogger(__name__)

_MOST_CONTEXTS = 128  # presentation context IDs are the odd numbers of one byte (PS3.8 9.3.2.2)


@dataclass(frozen=True)
class Outgoing:
    """One file to send; `key` is the caller's and is returned with the outcome."""

    key: str
    path: Path


@dataclass(frozen=True)
class SendOutcome:
    """The outcome of one file: stored, to be retried, or failed permanently; `status` is that of the response."""

    key: str
    result: StoreResult
    status: int | None
    reason: str


@dataclass(frozen=True)
class _Prepared:
    """A file and its SOP class and transfer syntax, which decide the proposed presentation contexts."""

    item: Outgoing
    sop_class: str
    transfer_syntax: str

    @property
    def context(self) -> tuple[str, tuple[str, ...]]:
        return self.sop_class, UNCOMPRESSED if self.transfer_syntax in UNCOMPRESSED else (self.transfer_syntax,)


def echo(peer: Peer) -> None:
    """Verify that a peer responds (C-ECHO).

    Raises
    ------
    PeerUnreachable
        If no association is established, or the response is missing or not success.
    """
    association = associate(peer, [build_context(Verification, list(UNCOMPRESSED))])
    try:
        if not association.accepted_contexts:
            raise PeerUnreachable(f"{peer} accepts associations but not C-ECHO")
        status = association.send_c_echo()
        if "Status" not in status:
            raise PeerUnreachable(f"{peer} did not answer a C-ECHO within {peer.response_timeout:g} s")
        if status.Status != Status.SUCCESS:
            raise PeerUnreachable(f"{peer} answered C-ECHO with status 0x{status.Status:04X}")
    finally:
        end(association)


def send(peer: Peer, items: Sequence[Outgoing]) -> Generator[SendOutcome]:
    """Send files over one association, reading each when it is sent.

    A file is sent in its own transfer syntax, byte for byte. Only an uncompressed one is re-encoded, and only where
    the peer accepts just the other little endian syntax; its texts keep their bytes.

    Yields
    ------
    SendOutcome
        One for each item, in order, except that unreadable files come first. When the association is lost, the item
        being sent and all after it are ``retry``.

    Raises
    ------
    PeerUnreachable
        At the first step, when no association is established.
    """
    prepared: list[_Prepared] = []
    for item in items:
        problem = _prepare(item, prepared)
        if problem is not None:
            yield problem
    # files that need further contexts wait for the next association
    kinds = list(dict.fromkeys(entry.context for entry in prepared))[:_MOST_CONTEXTS]
    if not kinds:
        return
    try:
        association = associate(peer, [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in kinds])
    except NothingAccepted as error:
        yield from (SendOutcome(entry.item.key, "permanent", None, error.reason) for entry in prepared)
        return
    try:
        for entry in prepared:
            if entry.context not in kinds:
                yield SendOutcome(entry.item.key, "retry", None, "too many presentation contexts for one association")
            elif not association.is_established:
                yield SendOutcome(entry.item.key, "retry", None, f"the association with {peer} was lost")
            else:
                yield _store(association, entry, peer)
    finally:
        end(association)


def _prepare(item: Outgoing, prepared: list[_Prepared]) -> SendOutcome | None:
    try:
        header, _ = parse_header(item.path, ["SOPClassUID", "SOPInstanceUID"])
    except UnreadableDicom as error:
        return SendOutcome(item.key, "permanent", None, f"the file cannot be read: {error.reason}")
    except OSError as error:
        return _not_read(item, error)
    sop_class = text(header, "SOPClassUID")
    if not is_uid(sop_class) or not is_uid(text(header, "SOPInstanceUID")):
        return SendOutcome(item.key, "permanent", None, "the file has no valid SOP Class UID or SOP Instance UID")
    prepared.append(_Prepared(item, sop_class, transfer_syntax(header)))
    return None


def _store(association: Association, entry: _Prepared, peer: Peer) -> SendOutcome:
    key = entry.item.key
    offers = [context for context in association.accepted_contexts if context.abstract_syntax == entry.sop_class]
    accepted = {str(context.transfer_syntax[0]) for context in offers}
    try:
        if entry.transfer_syntax in accepted and _has_file_meta(entry.item.path):
            status = association.send_c_store(entry.item.path)
        elif accepted & set(entry.context[1]):
            status = association.send_c_store(_with_file_meta(entry))
        else:
            name = pydicom.uid.UID(entry.sop_class).name
            syntax = pydicom.uid.UID(entry.transfer_syntax).name
            return SendOutcome(key, "permanent", None, f"{peer} does not accept {name} in {syntax}")
    except OSError as error:
        return _not_read(entry.item, error)
    except RuntimeError:  # pynetdicom: the association ended before the request
        return SendOutcome(key, "retry", None, f"the association with {peer} was lost")
    except PARSING_ERRORS as error:
        return SendOutcome(key, "permanent", None, f"the file cannot be encoded: {type(error).__name__}")
    if "Status" not in status:
        return SendOutcome(
            key, "retry", None, f"{peer} did not answer within {peer.response_timeout:g} s, or closed the connection"
        )
    result, meaning = store_result(int(status.Status))
    return SendOutcome(key, result, int(status.Status), meaning)


def _not_read(item: Outgoing, error: OSError) -> SendOutcome:
    """An error of our own disk is no fault of the object: a missing mount comes back."""
    return SendOutcome(
        item.key, "retry", None, f"the file cannot be read now: {error.strerror or type(error).__name__}"
    )


def _has_file_meta(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(132)[128:] == b"DICM"


def _with_file_meta(entry: _Prepared) -> Dataset:
    dataset = parse_file(entry.item.path)
    _keep_text_bytes(dataset)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(entry.transfer_syntax)
    return dataset


def _keep_text_bytes(dataset: Dataset) -> None:
    """Make a writer write all texts as they came: it would decode and encode them, and lose what cannot be decoded."""
    for tag in list(dataset.keys()):
        element = parsing.raw_element(dataset, tag)
        if not isinstance(element, RawDataElement):
            inner = [] if element is None or element.VR != "SQ" else parsing.items(dataset, tag)
        else:
            vr = element.VR if element.VR in STANDARD_VR and element.VR != "UN" else parsing.dictionary_vr(tag)
            inner = parsing.items(dataset, tag) if vr == "SQ" else []
            if vr in CUSTOMIZABLE_CHARSET_VR and isinstance(element.value, bytes):
                dataset[tag] = DataElement(tag, vr, element.value, validation_mode=config.IGNORE)
        for item in inner:
            _keep_text_bytes(item)
