"""An association's threads wake when there is something to do, and only then; no byte is lost on the way."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from dicom_io.network.status_codes import Status
from dicom_io.receive.pynetdicom_loop import ReadAhead
from tests.dicom_io.images import INSTANCE, data_set_of, image_file
from tests.dicom_io.wire import (
    PATIENCE,
    Witness,
    assert_aborted,
    association_threads,
    listening,
    store,
    wait_for_the_end_of_associations,
)
from tests.peers.processes import wait_until
from tests.peers.raw_dicom import associated

NOISE = np.random.default_rng(7).integers(0, 65536, (600, 500), np.uint16)
OBJECT = data_set_of(image_file(NOISE))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts how often a thread woke")
def test_idle_associations_cost_next_to_nothing() -> None:
    # pynetdicom's own threads look a thousand times a second each: ten associations were a quarter of a core
    before = association_threads()  # of the test before, which may still be ending
    with listening(Witness()) as listener, ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), timeout=PATIENCE))
            connection.sendall(_ASSOCIATE_REQUEST)
            assert connection.recv(1) == b"\x02", "A-ASSOCIATE-AC"
        threads = [thread for thread in association_threads() if thread not in before]
        assert len(threads) == 10
        time.sleep(0.5)  # what the start of an association does is over, or counts for it
        woken = _woken(threads)
        time.sleep(1)
        assert _woken(threads) - woken < 10 * 20


def _woken(threads: list[threading.Thread]) -> int:
    """How often the kernel gave these threads something to do after they had waited."""
    statuses = [Path(f"/proc/self/task/{thread.native_id}/status").read_text() for thread in threads]
    return sum(int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.M)[0]) for status in statuses)


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


_PRESENTATION_CONTEXT = b"\x01\0\0\0" + _item(0x30, b"1.2.840.10008.1.1") + _item(0x40, b"1.2.840.10008.1.2")
_USER = _item(0x51, (16384).to_bytes(4, "big")) + _item(0x52, b"1.2.3")
_REQUEST = struct.pack(">HH16s16s32x", 1, 0, b"CXRTRIAGE".ljust(16), b"IDLE".ljust(16))
_REQUEST += _item(0x10, b"1.2.840.10008.3.1.1.1") + _item(0x20, _PRESENTATION_CONTEXT) + _item(0x50, _USER)
_ASSOCIATE_REQUEST = struct.pack(">BBI", 1, 0, len(_REQUEST)) + _REQUEST  # PS3.8 9.3.2


@pytest.mark.parametrize("pdu", [64, 1000, 16384, 131072, 1 << 20])
def test_whatever_the_size_of_the_pdus_every_byte_arrives(pdu: int) -> None:
    witness = Witness()
    data_set = OBJECT[: len(OBJECT) if pdu > 1000 else 0] or data_set_of(image_file(NOISE[:40]))
    with listening(witness) as listener:
        association = associated(listener.port)
        association.acceptor.primitive.maximum_length_received = pdu  # what the listener is believed to take at most
        assert store(association, data_set, INSTANCE)[0] == Status.SUCCESS
        assert store(association, data_set, INSTANCE)[0] == Status.SUCCESS
        association.release()
    assert [each.data.endswith(data_set) for each in witness.received] == [True, True]


def test_two_requests_in_one_piece_are_both_answered() -> None:
    with listening(Witness()) as listener:
        association = associated(listener.port, sop_class="1.2.840.10008.1.1")
        connection = association.dul.socket.socket
        association._reactor_checkpoint.clear()
        connection.sendall(_echo_request(1) + _echo_request(2))
        answered = [association.dimse.msg_queue.get(timeout=60)[1].MessageIDBeingRespondedTo for _ in range(2)]
        assert answered == [1, 2]
        association._reactor_checkpoint.set()
        association.release()


def _echo_request(message_id: int) -> bytes:
    """A C-ECHO-RQ (PS3.7 9.3.5.1) in two fragments, each in a PDU of its own."""
    elements = [(0x0002, b"1.2.840.10008.1.1\0"), (0x0100, b"\x30\0"), (0x0110, message_id.to_bytes(2, "little"))]
    elements.append((0x0800, b"\x01\x01"))
    command = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements)
    command = struct.pack("<HHII", 0, 0, 4, len(command)) + command
    return _data_pdu(1, 1, command[:30]) + _data_pdu(1, 3, command[30:])


def _data_pdu(context: int, control: int, fragment: bytes) -> bytes:
    value = struct.pack(">IBB", len(fragment) + 2, context, control) + fragment
    return struct.pack(">BBI", 4, 0, len(value)) + value


@pytest.mark.parametrize(
    "values",
    [
        b"\0\0\0\x01\x01",  # no room for its control header
        b"\0\0\0\x00",
        b"\0\0",
        b"\0\0\0\xff\x01\x03abc",  # longer than the PDU
        b"\xff\xff\xff\xff\x01\x03abc",
        _data_pdu(1, 3, b"")[6:] + b"\0\0\0\x05",  # the second is cut off
    ],
)
def test_a_data_value_of_a_wrong_length_is_aborted_and_others_are_served(values: bytes) -> None:
    witness = Witness()
    with listening(witness) as listener:
        assert_aborted(listener, struct.pack(">BBI", 4, 0, len(values)) + values)


def test_what_was_read_ahead_comes_in_order_and_whole_pdus_are_found_in_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ahead = ReadAhead()
        pdus = [b"\x04\0" + struct.pack(">I", length) + bytes([length % 251]) * length for length in (5, 900, 0, 70)]
        theirs.sendall(b"".join(pdus) + b"\x05\0\0\0\0\x04abcd" + b"\x04\0\0\0\0\x09half")
        head = bytearray(11)
        assert ahead.recv_into(ours, memoryview(head)) == 11
        assert bytes(head) == pdus[0]
        bodies = [bytes(body) for body in iter(lambda: ahead.take_whole_pdu(4), None)]
        assert bodies == [pdu[6:] for pdu in pdus[1:]]
        rest = bytearray(10)
        assert ahead.recv_into(ours, memoryview(rest)) == 10
        assert rest == b"\x05\0\0\0\0\x04abcd"
        assert ahead.take_whole_pdu(4) is None
        assert len(ahead) == 10


def test_small_pdus_that_are_read_ahead_count_towards_the_largest_object() -> None:
    witness = Witness()
    with listening(witness, maximum_object=300_000) as listener:
        association = associated(listener.port)
        piece = _data_pdu(1, 0, bytes(500)) * 200
        command = _data_pdu(1, 1, b"")
        with contextlib.suppress(OSError):
            for _ in range(50):
                association.dul.socket.socket.sendall(command + piece)
        wait_for_the_end_of_associations(listener)
    assert [each.status for each in witness.rejected] == [Status.OUT_OF_RESOURCES]


RELEASE = b"\x05\0\0\0\0\x04\0\0\0\0"


@pytest.mark.parametrize("kind", [1, 3, 4, 5])
def test_a_connection_that_never_becomes_an_association_keeps_no_thread(kind: int) -> None:
    # it waited for the whole association timeout, long after the peer was gone
    with listening(Witness(), association_timeout=600) as listener:
        with socket.create_connection(("127.0.0.1", listener.port)) as connection:
            connection.sendall(bytes([kind]) + RELEASE[1:] + RELEASE)
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
        wait_until(lambda: not association_threads(), PATIENCE, "no thread is left")
