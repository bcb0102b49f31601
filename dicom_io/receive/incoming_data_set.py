"""A message's data set while it arrives: a C-STORE request's is put down at once, in its order; others stay in memory.

Nothing is decided here. What cannot be an object of its presentation context stays in memory, to be refused by name.
"""

from collections.abc import Callable
from io import BytesIO

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage

from dicom_io.header.completeness import Window
from dicom_io.header.facts import InstanceFacts
from dicom_io.header.incoming_file import Incoming
from dicom_io.network.status_codes import Status
from dicom_io.receive.store_request import StoreRefused, StoreRequest, examine, examine_file_put_down, file_head
from dicom_io.uids import is_uid

_C_STORE_RQ = 0x0001  # PS3.7 E.1-1

Begin = Callable[[], Incoming]


class ArrivingDataSet(BytesIO):
    """What pynetdicom writes a message's fragments to.

    Attributes
    ----------
    incoming
        Where a C-STORE request's complete file is put down; None: the data set is in memory.
    start
        At how many bytes of the file the data set begins.
    """

    def __init__(self, message: DIMSEMessage, association: Association, begin: Begin | None) -> None:
        super().__init__()
        self.incoming: Incoming | None = None
        self.start = 0
        self._first = None if begin is None else (message, association, begin)

    def write(self, piece: bytes | memoryview) -> int:  # type: ignore[override]
        """Add a fragment; the first one finds the command complete (PS3.7 6.3.1), which says what it is of."""
        if self._first is not None:
            first, self._first = self._first, None
            self._begin(*first)
        if self.incoming is None:
            return super().write(piece)
        self.incoming.write(piece)
        return len(piece)

    def discard(self) -> None:
        """Let go of what was put down and not kept."""
        if self.incoming is not None:
            self.incoming.discard()

    def _begin(self, message: DIMSEMessage, association: Association, begin: Begin) -> None:
        command = message.command_set
        context = association._accepted_cx.get(message.context_id or 0)
        if command.get("CommandField") != _C_STORE_RQ or context is None or not context.transfer_syntax:
            return
        sop_class, instance = (
            str(command.get(name) or "") for name in ("AffectedSOPClassUID", "AffectedSOPInstanceUID")
        )
        if sop_class == context.abstract_syntax and is_uid(instance):
            head = file_head(sop_class, instance, str(context.transfer_syntax[0]))
            self.start, self.incoming = len(head), begin()
            self.incoming.write(head)


def examined(event: evt.Event) -> tuple[bytes | Incoming, InstanceFacts]:
    """Examine what a C-STORE request brought.

    Returns
    -------
    tuple of bytes or Incoming, and InstanceFacts
        The complete file, or where it is put down, and its facts.

    Raises
    ------
    StoreRefused
        As `dicom_io.receive.store_request.examine`; `OUT_OF_RESOURCES` where it could not be put down.
    """
    request, data_set = event.request, event.request.DataSet
    file = data_set.incoming if isinstance(data_set, ArrivingDataSet) else None
    if file is not None and file.problem:
        raise StoreRefused(Status.OUT_OF_RESOURCES, file.problem)
    store_request = StoreRequest(
        sop_class_uid=str(request.AffectedSOPClassUID or ""),
        sop_instance_uid=str(request.AffectedSOPInstanceUID or ""),
        abstract_syntax=str(event.context.abstract_syntax),
        transfer_syntax_uid=str(event.context.transfer_syntax),
        data_set=b"" if data_set is None else data_set.getvalue() if file is None else Window(file, data_set.start),
    )
    return examine(store_request) if file is None else (file, examine_file_put_down(store_request, file))
