"""An object is written while it arrives: whole in its place in the end, or nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_STORE

from dicom_io.network.status_codes import Status
from dicom_io.receive.listener import Listener, ListenerSettings, Received
from tests.dicom_io.images import CR, INSTANCE, data_set_of, image_file
from tests.dicom_io.wire import Witness, store
from tests.peers.processes import wait_until
from tests.peers.raw_dicom import associated
from worker.storage.incoming_file import Arriving
from worker.storage.store import DICOM_SUFFIX, FolderStore, StoreUnavailable

IMAGE = bytes(range(256)) * 3000  # larger than a slice
DATA_SET = data_set_of(image_file(np.arange(60_000, dtype=np.uint16).reshape(200, 300)))


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def incoming(folder: FolderStore) -> Path:
    return folder.root / "incoming"


def names(path: Path) -> list[str]:
    return [each.name for each in path.iterdir()]


@pytest.mark.parametrize("size", [1, 1000, 40_000, 131_066, 1 << 20])
def test_whatever_the_pieces_the_same_file_is_kept(folder: FolderStore, incoming: Path, size: int) -> None:
    arriving, image = folder.arriving(), IMAGE[: 2000 if size == 1 else None]
    for start in range(0, len(image), size):
        arriving.write(memoryview(image)[start : start + size])
    assert len(arriving) == len(image)
    assert arriving.read(100, 50) == image[100:150]
    with arriving.open("rb") as handle:
        assert handle.read() == image
    stored = folder.keep(arriving)
    assert arriving.read(0, len(image)) == image  # also in its place
    arriving.discard()
    assert folder.whole(stored.uri, stored.sha256).read_bytes() == image
    assert stored == folder.put(image)
    assert names(incoming) == []


def test_what_is_not_kept_leaves_nothing(folder: FolderStore, incoming: Path) -> None:
    arriving = folder.arriving()
    arriving.write(IMAGE)
    assert len(names(incoming)) == 1
    arriving.discard()
    assert names(incoming) == []
    with pytest.raises(OSError, match="discarded"):
        arriving.read(0, 1)


def test_without_room_it_goes_at_once_and_is_heard_out(folder: FolderStore, incoming: Path) -> None:
    answers = iter(["", "less than 1 GB free"])
    arriving = folder.arriving(lambda: next(answers))
    arriving.write(IMAGE)
    assert names(incoming) != []
    for _ in range(11):  # some 8 MB
        arriving.write(IMAGE)
    assert arriving.problem == "less than 1 GB free"
    assert names(incoming) == []
    arriving.write(IMAGE)
    with pytest.raises(StoreUnavailable, match="less than 1 GB free"):
        folder.keep(arriving)


def test_a_disk_that_is_full_is_told_at_the_end(
    folder: FolderStore, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = folder.put(IMAGE)

    def full(*_arguments: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.storage.incoming_file.FileIO", full)
    arriving = folder.arriving()
    arriving.write(IMAGE)
    assert arriving.problem == "No space left on device"
    assert folder.keep(arriving) == known  # what is there already needs no space
    arriving.write(b"more")
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        folder.keep(arriving)
    assert names(incoming) == []


# Over the network


@pytest.fixture
def heard(folder: FolderStore) -> Iterator[tuple[Witness, Listener]]:
    """A listener that puts objects down in the store, and keeps those that `answer` is content with."""

    def keep(received: Received) -> Status:
        assert isinstance(received.data, Arriving)
        folder.keep(received.data, DICOM_SUFFIX)
        return Status.SUCCESS

    witness = Witness(keep)
    settings = ListenerSettings(host="127.0.0.1", port=0, maximum_pdu=1 << 14)
    with Listener(settings, witness.handlers(folder.arriving)) as listener:
        yield witness, listener


def test_an_object_is_put_down_exactly_as_it_is_from_memory(
    folder: FolderStore, incoming: Path, heard: tuple[Witness, Listener]
) -> None:
    witness, listener = heard
    association = associated(listener.port)
    assert store(association, DATA_SET, INSTANCE) == (Status.SUCCESS, "")
    association.release()
    kept = list(folder.root.rglob("*.dcm"))
    assert len(kept) == 1
    assert kept[0].read_bytes().endswith(DATA_SET)
    assert witness.received[0].header.sop_instance_uid == INSTANCE
    in_memory = Witness()
    with Listener(ListenerSettings(host="127.0.0.1", port=0), in_memory.handlers()) as other:
        association = associated(other.port)
        assert store(association, DATA_SET, INSTANCE)[0] == Status.SUCCESS
        association.release()
    assert in_memory.received[0].data == kept[0].read_bytes()
    assert in_memory.received[0].header == witness.received[0].header
    assert names(incoming) == []


@pytest.mark.parametrize(
    ("data_set", "uid", "status"),
    [
        (DATA_SET, "1.2.3.4", Status.DATA_SET_MISMATCH),
        (DATA_SET[:-7], INSTANCE, Status.CANNOT_UNDERSTAND),
        (DATA_SET, "no UID", Status.CANNOT_UNDERSTAND),
        (b"\0" * 50_000, INSTANCE, Status.CANNOT_UNDERSTAND),
    ],
    ids=["another object", "cut off", "no UID", "zeros"],
)
def test_a_refused_object_leaves_nothing(
    folder: FolderStore, heard: tuple[Witness, Listener], data_set: bytes, uid: str, status: Status
) -> None:
    witness, listener = heard
    association = associated(listener.port)
    assert store(association, data_set, uid)[0] == status
    assert store(association, DATA_SET, INSTANCE)[0] == Status.SUCCESS  # and the next one is taken
    association.release()
    assert [rejection.status for rejection in witness.rejected] == [status]
    assert len([each for each in folder.root.rglob("*") if each.is_file()]) == 1


@pytest.mark.parametrize("who", ["the sender", "the listener"])
def test_an_end_in_the_middle_leaves_nothing(
    incoming: Path, heard: tuple[Witness, Listener], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    _, listener = heard
    association = associated(listener.port)
    connection = association.dul.socket.socket
    sent: list[bytes] = []
    monkeypatch.setattr(association.dul.socket, "send", sent.append)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = UID(CR), UID(INSTANCE)
    request.DataSet = BytesIO(DATA_SET * 2)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    wait_until(lambda: sum(map(len, sent)) > len(DATA_SET), 60, "the message is encoded")
    connection.sendall(b"".join(sent)[: len(DATA_SET)])
    wait_until(lambda: len(names(incoming)) == 1, 60, "half of it has arrived")
    if who == "the sender":
        connection.close()
        wait_until(lambda: names(incoming) == [], 60, "it is gone")
    else:
        listener.stop()
        assert names(incoming) == []
    association.kill()
