"""Which callers may associate, and which C-STORE requests are accepted; nothing here needs a connection."""

from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from dicom_io.errors import StatedError
from dicom_io.header.completeness import FileSlice, check_complete
from dicom_io.header.incoming_file import IncomingFile
from dicom_io.header.instance_header import InstanceHeader, UnreadableDicom, read_header
from dicom_io.network.addresses import is_within
from dicom_io.network.status_codes import Status
from dicom_io.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, uid_problem


class StoreRejected(StatedError):
    """A C-STORE request is answered with a failure; `reason` contains no patient data."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class StoreRequest:
    """A C-STORE request: the UIDs of its command set, its presentation context, its encoded data set."""

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax_uid: str
    data_set: bytes | FileSlice


def is_allowed(ae_title: str, address: str, allowed_callers: tuple[str, ...]) -> bool:
    """Whether a caller matches an entry ``AETITLE`` or ``AETITLE@address or network``; True where there is no entry."""
    for entry in allowed_callers:
        title, _, where = entry.partition("@")
        if title.strip() == ae_title.strip() and (not where.strip() or is_within(address, where)):
            return True
    return not allowed_callers


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return preamble and file meta (PS3.10 7.1); followed by the received data set they are a complete file.

    They depend on the request alone: the same object sent twice, by any sender, gives the same file.
    """
    meta = create_file_meta(
        sop_class_uid=UID(sop_class_uid),
        sop_instance_uid=UID(sop_instance_uid),
        transfer_syntax=UID(transfer_syntax_uid),
        implementation_uid=UID(IMPLEMENTATION_CLASS_UID),
        implementation_version=IMPLEMENTATION_VERSION_NAME,
    )
    return bytes(128) + b"DICM" + encode_file_meta(meta)


def examine(request: StoreRequest) -> tuple[bytes, InstanceHeader]:
    """Check a C-STORE request and read its header.

    Returns
    -------
    tuple of bytes and InstanceHeader
        The complete file to archive, and its header values.

    Raises
    ------
    StoreRejected
        With ``CANNOT_UNDERSTAND`` for malformed UIDs and data sets, ``DATA_SET_MISMATCH`` where command set,
        presentation context and data set name different objects.
    """
    _check_command(request)
    data_set = bytes(request.data_set[:])
    try:
        check_complete(data_set, request.transfer_syntax_uid)
        head = file_head(request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid)
        data = b"".join((head, data_set))
        header = read_header(data)
    except UnreadableDicom as error:
        raise StoreRejected(Status.CANNOT_UNDERSTAND, error.reason) from error
    _check_header(request, header)
    return data, header


def examine_file_received(request: StoreRequest, file: IncomingFile) -> InstanceHeader:
    """Check a C-STORE request whose file was written while it was received; errors as for `examine`, and OSError."""
    _check_command(request)
    try:
        check_complete(request.data_set, request.transfer_syntax_uid)
        header = read_header(file)
    except UnreadableDicom as error:
        raise StoreRejected(Status.CANNOT_UNDERSTAND, error.reason) from error
    _check_header(request, header)
    return header


def _check_command(request: StoreRequest) -> None:
    if problem := uid_problem(request.sop_instance_uid):
        raise StoreRejected(Status.CANNOT_UNDERSTAND, f"Affected SOP Instance UID {problem}")
    if request.sop_class_uid != request.abstract_syntax:
        raise StoreRejected(Status.DATA_SET_MISMATCH, "SOP Class UID is not the presentation context's")


def _check_header(request: StoreRequest, header: InstanceHeader) -> None:
    for keyword, value in (
        ("SOP Instance UID", header.sop_instance_uid),
        ("Study Instance UID", header.study_instance_uid),
        ("Series Instance UID", header.series_instance_uid),
    ):
        if problem := uid_problem(value):
            raise StoreRejected(Status.CANNOT_UNDERSTAND, f"{keyword} {problem} in the data set")
    if header.sop_class_uid != request.sop_class_uid:
        raise StoreRejected(Status.DATA_SET_MISMATCH, "SOP Class UID differs between command and data set")
    if header.sop_instance_uid != request.sop_instance_uid:
        raise StoreRejected(Status.DATA_SET_MISMATCH, "SOP Instance UID differs between command and data set")
