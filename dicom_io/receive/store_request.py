"""Who may associate, and which C-STORE requests are understood: decisions that need no socket."""

from dataclasses import dataclass

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from dicom_io.header.completeness import Window, check_whole
from dicom_io.header.facts import InstanceFacts, UnreadableDicom, read_facts
from dicom_io.header.incoming_file import Incoming
from dicom_io.network.addresses import is_within
from dicom_io.network.status_codes import Status
from dicom_io.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, is_uid


class StoreRefused(Exception):
    """A C-STORE request that is answered with a failure; `reason` holds no patient data."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class StoreRequest:
    """A C-STORE request as it came: the command's UIDs, the presentation context, the encoded data set."""

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax_uid: str
    data_set: bytes | Window


def is_allowed(ae_title: str, address: str, allowed_callers: tuple[str, ...]) -> bool:
    """Tell whether a caller is among ``AETITLE`` or ``AETITLE@address or network`` entries; with none, anyone is."""
    for entry in allowed_callers:
        title, _, place = entry.partition("@")
        if title.strip() == ae_title.strip() and (not place.strip() or is_within(address, place)):
            return True
    return not allowed_callers


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return preamble and file meta (PS3.10 7.1), which the data set as it came makes a complete file.

    They depend on nothing but the request: the same object sent twice, by whomever, gives the same file.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return bytes(128) + b"DICM" + buffer.getvalue()


def examine(request: StoreRequest) -> tuple[bytes, InstanceFacts]:
    """Check a C-STORE request and read its header.

    Returns
    -------
    tuple of bytes and InstanceFacts
        The complete file to archive, and its facts.

    Raises
    ------
    StoreRefused
        With ``CANNOT_UNDERSTAND`` for malformed UIDs and data sets, ``DATA_SET_MISMATCH`` where command, presentation
        context and data set name different objects.
    """
    _check_command(request)
    data_set = bytes(request.data_set[:])
    try:
        check_whole(data_set, request.transfer_syntax_uid)
        head = file_head(request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid)
        data = b"".join((head, data_set))
        facts = read_facts(data)
    except UnreadableDicom as error:
        raise StoreRefused(Status.CANNOT_UNDERSTAND, error.reason) from error
    _check_facts(request, facts)
    return data, facts


def examine_file_put_down(request: StoreRequest, file: Incoming) -> InstanceFacts:
    """Check a C-STORE request whose complete file is put down already; errors as for `examine`, and OSError."""
    _check_command(request)
    try:
        check_whole(request.data_set, request.transfer_syntax_uid)
        facts = read_facts(file)
    except UnreadableDicom as error:
        raise StoreRefused(Status.CANNOT_UNDERSTAND, error.reason) from error
    _check_facts(request, facts)
    return facts


def _check_command(request: StoreRequest) -> None:
    if not is_uid(request.sop_instance_uid):
        raise StoreRefused(Status.CANNOT_UNDERSTAND, "Affected SOP Instance UID is not a UID")
    if request.sop_class_uid != request.abstract_syntax:
        raise StoreRefused(Status.DATA_SET_MISMATCH, "SOP Class UID is not the presentation context's")


def _check_facts(request: StoreRequest, facts: InstanceFacts) -> None:
    for keyword, value in (
        ("SOP Instance UID", facts.sop_instance_uid),
        ("Study Instance UID", facts.study_instance_uid),
        ("Series Instance UID", facts.series_instance_uid),
    ):
        if not is_uid(value):
            reason = f"{keyword} is not a UID" if value else f"{keyword} is missing"
            raise StoreRefused(Status.CANNOT_UNDERSTAND, f"{reason} in the data set")
    if facts.sop_class_uid != request.sop_class_uid:
        raise StoreRefused(Status.DATA_SET_MISMATCH, "SOP Class UID differs between command and data set")
    if facts.sop_instance_uid != request.sop_instance_uid:
        raise StoreRefused(Status.DATA_SET_MISMATCH, "SOP Instance UID differs between command and data set")
