"""A DICOM file taken apart into what a C-STORE of it would bring, so that the same rules examine every way in."""

from io import BytesIO

from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_io.header import parsing
from dicom_io.header.completeness import check_whole
from dicom_io.header.facts import InstanceFacts, UnreadableDicom, read_facts
from dicom_io.network.presentation_contexts import RECEIVED_SOP_CLASSES, RECEIVED_TRANSFER_SYNTAXES
from dicom_io.network.status_codes import Status
from dicom_io.receive.store_request import StoreRefused, StoreRequest, examine
from dicom_io.uids import is_uid

# which class an object is of stands in group 0008, which comes first (0004: a directory); in either byte order
_FIRST_GROUPS = (b"\x08\x00", b"\x00\x08", b"\x04\x00", b"\x00\x04")


def examine_file(data: bytes) -> tuple[bytes, InstanceFacts]:
    """Check a file as the listener checks a C-STORE request, presentation context included.

    Parameters
    ----------
    data
        A DICOM file (PS3.10); preamble and file meta may be missing.

    Returns
    -------
    tuple of bytes and InstanceFacts
        The file to archive, the same as if its data set had come over C-STORE, and its facts.

    Raises
    ------
    StoreRefused
        As `dicom_io.receive.store_request.examine`; `SOP_CLASS_NOT_SUPPORTED` and `TRANSFER_SYNTAX_NOT_SUPPORTED` for
        what the listener would not have negotiated.
    """
    request = _store_request(data)
    if is_uid(request.sop_class_uid) and request.sop_class_uid not in RECEIVED_SOP_CLASSES:
        raise StoreRefused(
            Status.SOP_CLASS_NOT_SUPPORTED, f"SOP class {UID(request.sop_class_uid).name} is not received here"
        )
    if is_uid(request.transfer_syntax_uid) and request.transfer_syntax_uid not in RECEIVED_TRANSFER_SYNTAXES:
        raise StoreRefused(
            Status.TRANSFER_SYNTAX_NOT_SUPPORTED,
            f"transfer syntax {UID(request.transfer_syntax_uid).name} is not received here",
        )
    for name, value in (("SOP Class", request.sop_class_uid), ("Transfer Syntax", request.transfer_syntax_uid)):
        if not is_uid(value):
            raise StoreRefused(Status.CANNOT_UNDERSTAND, f"the file's {name} UID is missing or no UID")
    return examine(request)


def claimed_uids(data: bytes) -> tuple[str, str]:
    """Return SOP Class and SOP Instance UID of a file, each empty where it is missing or no UID."""
    try:
        request = _store_request(data)
    except StoreRefused:
        return "", ""
    sop_class, instance = request.sop_class_uid, request.sop_instance_uid
    return sop_class if is_uid(sop_class) else "", instance if is_uid(instance) else ""


def _store_request(data: bytes) -> StoreRequest:
    try:
        meta, start = parsing.file_meta(BytesIO(data))
    except parsing.VALUE_ERRORS as error:
        raise StoreRefused(
            Status.CANNOT_UNDERSTAND, f"not a DICOM file ({type(error).__name__} in its meta)"
        ) from error
    uids = [
        parsing.text(meta, keyword)
        for keyword in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
    ]
    if not all(uids):  # an old file without meta: what it is, its data set says
        if start == 0 and data and data[:2] not in _FIRST_GROUPS:
            raise StoreRefused(
                Status.CANNOT_UNDERSTAND, "not a DICOM file: it begins with neither preamble nor data set"
            )
        try:
            check_whole(data[start:], uids[2] or _encoding(data[start : start + 6]))  # which also bounds the reading
            facts = read_facts(data)
        except UnreadableDicom as error:
            raise StoreRefused(Status.CANNOT_UNDERSTAND, error.reason) from error
        said = (facts.sop_class_uid, facts.sop_instance_uid, facts.transfer_syntax_uid)
        uids = [uid or other for uid, other in zip(uids, said, strict=True)]
    sop_class, instance, syntax = uids
    return StoreRequest(sop_class, instance, sop_class, syntax, data[start:])


def _encoding(first: bytes) -> str:
    """The transfer syntax that a data set's first element is written in (PS3.5 7.1)."""
    if first[:2] == b"\x00\x08":
        return str(ExplicitVRBigEndian)
    return str(ExplicitVRLittleEndian if first[4:6].isalpha() and first[4:6].isupper() else ImplicitVRLittleEndian)
