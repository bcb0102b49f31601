"""A DICOM file (PS3.10) examined like a C-STORE request of it, so that every way in applies the same rules."""

from io import BytesIO

from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_io.header import parsing
from dicom_io.header.completeness import check_complete
from dicom_io.header.instance_header import InstanceHeader, UnreadableDicom, read_header
from dicom_io.network.presentation_contexts import RECEIVED_SOP_CLASSES, RECEIVED_TRANSFER_SYNTAXES
from dicom_io.network.status_codes import Status
from dicom_io.receive.store_request import StoreRejected, StoreRequest, examine
from dicom_io.uids import is_uid

# the first group of a data set: 0008 (0004: a DICOMDIR), in either byte order
_FIRST_GROUPS = (b"\x08\x00", b"\x00\x08", b"\x04\x00", b"\x00\x04")


def examine_file(data: bytes) -> tuple[bytes, InstanceHeader]:
    """Check a file as the listener checks a C-STORE request, presentation context included.

    Parameters
    ----------
    data
        A DICOM file (PS3.10); preamble and file meta may be missing.

    Returns
    -------
    tuple of bytes and InstanceHeader
        The file to archive, the same as if its data set had been received by C-STORE, and its header values.

    Raises
    ------
    StoreRejected
        As `dicom_io.receive.store_request.examine`; `SOP_CLASS_NOT_SUPPORTED` and `TRANSFER_SYNTAX_NOT_SUPPORTED` for
        what the listener would not negotiate.
    """
    request = _store_request(data)
    if is_uid(request.sop_class_uid) and request.sop_class_uid not in RECEIVED_SOP_CLASSES:
        raise StoreRejected(
            Status.SOP_CLASS_NOT_SUPPORTED, f"SOP class {UID(request.sop_class_uid).name} is not accepted"
        )
    if is_uid(request.transfer_syntax_uid) and request.transfer_syntax_uid not in RECEIVED_TRANSFER_SYNTAXES:
        raise StoreRejected(
            Status.TRANSFER_SYNTAX_NOT_SUPPORTED,
            f"transfer syntax {UID(request.transfer_syntax_uid).name} is not accepted",
        )
    for name, value in (("SOP Class", request.sop_class_uid), ("Transfer Syntax", request.transfer_syntax_uid)):
        if not is_uid(value):
            raise StoreRejected(Status.CANNOT_UNDERSTAND, f"the file's {name} UID is missing or not a UID")
    return examine(request)


def claimed_uids(data: bytes) -> tuple[str, str]:
    """Return SOP Class UID and SOP Instance UID of a file, each empty where it is missing or not a UID."""
    try:
        request = _store_request(data)
    except StoreRejected:
        return "", ""
    sop_class, instance = request.sop_class_uid, request.sop_instance_uid
    return sop_class if is_uid(sop_class) else "", instance if is_uid(instance) else ""


def _store_request(data: bytes) -> StoreRequest:
    try:
        meta, start = parsing.file_meta(BytesIO(data))
    except parsing.VALUE_ERRORS as error:
        raise StoreRejected(
            Status.CANNOT_UNDERSTAND, f"not a DICOM file ({type(error).__name__} in its meta)"
        ) from error
    uids = [
        parsing.text(meta, keyword)
        for keyword in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")
    ]
    if not all(uids):  # a file without meta: the UIDs of its data set
        if start == 0 and data and data[:2] not in _FIRST_GROUPS:
            raise StoreRejected(
                Status.CANNOT_UNDERSTAND, "not a DICOM file: it begins with neither preamble nor data set"
            )
        try:  # the check also limits the elements that are parsed
            check_complete(data[start:], uids[2] or _encoding(data[start : start + 6]))
            header = read_header(data)
        except UnreadableDicom as error:
            raise StoreRejected(Status.CANNOT_UNDERSTAND, error.reason) from error
        own = (header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid)
        uids = [uid or other for uid, other in zip(uids, own, strict=True)]
    sop_class, instance, syntax = uids
    return StoreRequest(sop_class, instance, sop_class, syntax, data[start:])


def _encoding(first: bytes) -> str:
    """The transfer syntax of a data set by its first element (PS3.5 7.1)."""
    if first[:2] == b"\x00\x08":
        return str(ExplicitVRBigEndian)
    return str(ExplicitVRLittleEndian if first[4:6].isalpha() and first[4:6].isupper() else ImplicitVRLittleEndian)
