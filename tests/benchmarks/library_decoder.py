"""``cxr-triage WORDS`` whose listener decodes and reads PDUs as pynetdicom does: what ours is compared with."""

from __future__ import annotations

import socket

from dicom_io.receive.pynetdicom_loop import ReadAhead, _EventDrivenDul
from worker.__main__ import main


def _read_as_asked(_ahead: ReadAhead, peer: socket.socket, view: memoryview) -> int:
    return peer.recv_into(view)


if __name__ == "__main__":
    del _EventDrivenDul._decode_pdu
    ReadAhead.recv_into = _read_as_asked  # type: ignore[assignment, method-assign]  # a function in place of a method
    main()
