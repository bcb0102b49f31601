"""A message's data set while it arrives: a C-STORE request's is put down at once, in its order; others stay in memory.

Nothing is decided here. What cannot be an object of its presentation context stays in memory, to be refused by name.
"""

from collections.abc import Callable
from io import BytesIO

from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage

from dicom_io.admission import file_head
from dicom_io.reception import Incoming
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
