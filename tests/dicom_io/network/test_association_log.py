"""What pynetdicom logs: one line that names peer and AE titles, and nothing that a peer sent."""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import replace

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

from dicom_io.network.association import Peer, PeerUnreachable
from dicom_io.network.association_log import name_peers, uses
from dicom_io.send.storage_scu import echo
from tests.dicom_io.wire import PATIENCE, Served
from tests.peers.processes import wait_until
from tests.peers.raw_association import Request, answer, read_pdu
from tests.peers.raw_dicom import associated


def of_pynetdicom(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("pynetdicom")]


def test_undecodable_request_is_logged_with_its_peer_and_without_a_traceback(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    answer(served[1].port, replace(Request(), more=b"\x20\0\0\xff\1").pdu())
    wait_until(lambda: len(of_pynetdicom(caplog)) >= 2, PATIENCE, "it is logged", every=0.01)
    first, second = of_pynetdicom(caplog)
    peer = "association with MODALITY at 127.0.0.1 as CXRTRIAGE: "
    assert first == f"{peer}Unable to decode the received PDU data"
    assert second.startswith(f"{peer}MalformedPdu at pynetdicom_loop.py:")
    assert "Traceback" not in caplog.text


def test_lines_of_an_established_association_name_its_titles(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    association = associated(served[1].port, calling="ROOM_1")
    association.dul.socket.socket.sendall(b"\x99\0\0\0\0\4abcd")
    association.join(PATIENCE)
    wait_until(lambda: bool(of_pynetdicom(caplog)), PATIENCE, "it is logged", every=0.01)
    line = "association with ROOM_1 at 127.0.0.1 as CXRTRIAGE: Unknown PDU type received '0x99'"
    assert line in of_pynetdicom(caplog)


def test_lines_of_an_association_that_we_request_name_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        done = threading.Event()

        def close() -> None:
            connection, _ = silent.accept()
            with connection:
                read_pdu(connection)
            done.set()

        threading.Thread(target=close).start()
        with pytest.raises(PeerUnreachable):
            echo(Peer("PACS", "127.0.0.1", port, association_timeout=5))
        assert done.wait(PATIENCE)
    with pytest.raises(PeerUnreachable):
        echo(Peer("PACS", "127.0.0.1", port, connect_timeout=5))  # nobody listens there any more
    assert of_pynetdicom(caplog)
    assert all(
        line.startswith(f"association with PACS at 127.0.0.1 port {port} as CXRTRIAGE: ")
        for line in of_pynetdicom(caplog)
    )


def test_message_of_an_exception_is_left_out_whichever_thread_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    name_peers()
    name_peers()
    logger = logging.getLogger("pynetdicom.association")

    def fail() -> None:
        try:
            raise ValueError("Doe^Jane")
        except ValueError as error:
            logger.exception(error)

    uses("association with PACS")
    fail()
    uses("")
    fail()
    association = Association(AE("CXRTRIAGE"), "acceptor")
    provider = DULServiceProvider(association)
    provider.run = fail  # type: ignore[method-assign]
    provider.start()
    provider.join(PATIENCE)
    lines = of_pynetdicom(caplog)
    assert [line.rpartition("ValueError at ")[0] for line in lines] == [
        "association with PACS: ",
        "",
        "association with an unnamed AE at an unknown address as : ",
    ]
    assert "Doe" not in caplog.text
