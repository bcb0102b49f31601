"""The DICOM transport: outcomes as the protocol has them, and an association that ends when the caller stops."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_io.network.association import Peer
from tests.dicom_io.conftest import _listener_of_the_module as _listener_of_the_module
from tests.dicom_io.conftest import served as served
from tests.dicom_io.wire import Served
from tests.peers.radiographs import sample
from worker.config.destinations import DicomDestination
from worker.config.settings import load_settings
from worker.delivery.transports.c_store import CStoreTransport
from worker.delivery.transports.opening import open_transport
from worker.delivery.transports.transport import DestinationUnreachable, Item, SendOutcome


def test_dicom_destination_is_sent_to_by_c_store(tmp_path: Path, served: Served) -> None:
    witness, listener = served
    destination = DicomDestination(name="pacs", ae_title="CXRTRIAGE", host="127.0.0.1", port=listener.port)
    transport = open_transport(load_settings(home=tmp_path), destination)
    with pytest.raises(StopIteration):
        next(transport.send([]))
    items = [Item(str(number), sample("RG1_J2KR")) for number in range(3)]
    assert list(transport.send(items[:1])) == [SendOutcome("0", "stored", "stored (status 0x0000)", 0)]
    outcomes = transport.send(items[1:])
    assert next(outcomes).key == "1"
    outcomes.close()
    transport.close()
    assert len(witness.received) == 2


def test_destination_that_does_not_answer_is_unreachable() -> None:
    transport = CStoreTransport(Peer("PACS", "127.0.0.1", 1))
    with pytest.raises(DestinationUnreachable, match="PACS"):
        next(transport.send([Item("1", sample("RG1_J2KR"))]))
