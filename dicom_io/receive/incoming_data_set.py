"""The data set of a message while it is received: a C-STORE request's is written to a file, others stay in memory.

Nothing is rejected here: a request that is invalid for its presentation context stays in memory until it is examined.
"""

from collections.abc import Callable
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage

from dicom_io.header.completeness import FileSlice
from dicom_io.header.incoming_file import IncomingFile
from dicom_io.header.instance_header import InstanceHeader
from dicom_io.network.status_codes import Status
from dicom_io.receive.dimse_requests import C_STORE_RQ
from dicom_io.receive.store_request import StoreRejected, StoreRequest, examine, examine_file_received, file_head
from dicom_io.uids import MAXIMUM_LENGTH, is_uid

_STORAGE_CLASSES = frozenset(context.abstract_syntax for context in AllStoragePresentationContexts)

NewFile = Callable[[], IncomingFile]


class IncomingDataSet(BytesIO):
    """What pynetdicom writes the fragments of a message to.

    Attributes
    ----------
    file
        The DICOM file that a C-STORE request's data set is written to; None: the data set is in memory.
    start
        The data set's offset in that file, in bytes.
    """

    def __init__(self, message: DIMSEMessage, association: Association, new_file: NewFile | None) -> None:
        super().__init__()
        self.file: IncomingFile | None = None
        self.start = 0
        self._unopened = None if new_file is None else (message, association, new_file)

    def write(self, piece: bytes | memoryview) -> int:  # type: ignore[override]
        """Add a fragment; at the first one the command set, which names the object, is complete (PS3.7 6.3.1)."""
        if self._unopened is not None:
            unopened, self._unopened = self._unopened, None
            self._open(*unopened)
        if self.file is None:
            return super().write(piece)
        self.file.write(piece)
        return len(piece)

    def discard(self) -> None:
        """Discard the file, unless it was kept."""
        if self.file is not None:
            self.file.discard()

    def _open(self, message: DIMSEMessage, association: Association, new_file: NewFile) -> None:
        command = message.command_set
        context = association._accepted_cx.get(message.context_id or 0)
        if command.get("CommandField") != C_STORE_RQ or context is None or not context.transfer_syntax:
            return
        sop_class, instance = (
            str(command.get(name) or "") for name in ("AffectedSOPClassUID", "AffectedSOPInstanceUID")
        )
        if sop_class == context.abstract_syntax and is_uid(instance):
            head = file_head(sop_class, instance, str(context.transfer_syntax[0]))
            self.start, self.file = len(head), new_file()
            self.file.write(head)


def make_answerable(command: Dataset) -> None:
    """Change the UIDs of a C-STORE request for which pynetdicom would end the association, and every object after it.

    It can hold no UID of more than 64 characters, and serves no SOP class that it does not know. The request is then
    refused alone: what stands there instead is no UID, and a class that no presentation context has.
    """
    instance = str(command.get("AffectedSOPInstanceUID") or "")
    if len(instance) > MAXIMUM_LENGTH:
        command["AffectedSOPInstanceUID"].value = f"{instance[: MAXIMUM_LENGTH - 3]}..."
    if command.get("AffectedSOPClassUID") not in _STORAGE_CLASSES:
        command["AffectedSOPClassUID"].value = CTImageStorage


def examined(event: evt.Event) -> tuple[bytes | IncomingFile, InstanceHeader]:
    """Examine a received C-STORE request.

    Returns
    -------
    tuple of bytes or IncomingFile, and InstanceHeader
        The complete DICOM file, in memory or as it was written, and its header values.

    Raises
    ------
    StoreRejected
        As `dicom_io.receive.store_request.examine`; `OUT_OF_RESOURCES` where the file could not be written.
    """
    request, data_set = event.request, event.request.DataSet
    file = data_set.file if isinstance(data_set, IncomingDataSet) else None
    if file is not None and file.problem:
        raise StoreRejected(Status.OUT_OF_RESOURCES, file.problem)
    store_request = StoreRequest(
        sop_class_uid=str(request.AffectedSOPClassUID or ""),
        sop_instance_uid=str(request.AffectedSOPInstanceUID or ""),
        abstract_syntax=str(event.context.abstract_syntax),
        transfer_syntax_uid=str(event.context.transfer_syntax),
        data_set=b"" if data_set is None else data_set.getvalue() if file is None else FileSlice(file, data_set.start),
    )
    return examine(store_request) if file is None else (file, examine_file_received(store_request, file))
