"""STOW-RS: what it takes, from whom, in how much memory, and what it says of each instance."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from dicomweb_client import DICOMwebClient
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from requests import HTTPError
from sqlalchemy import select

from db.tables.audit import Rejection
from db.tables.studies import Instance
from db.views.ledger_details import ledger_details
from dicom_io.network.status_codes import Status
from dicom_io.receive.messages import Received
from dicom_io.receive.part10_files import examine_file
from tests.peers.radiographs import Radiograph, chests, sample
from worker.config.settings import IntakeSettings, Stow, Web
from worker.installation import Site
from worker.intake.intake import Intake
from worker.web.app import make_web
from worker.web.dicomweb.multipart import BadMultipart, Parts, Room
from worker.web.dicomweb.stow import Refused, check_caller, patient

TYPE = 'multipart/related; type="application/dicom"; boundary=xx'


def body(*parts: bytes, kind: str = "application/dicom", end: bytes = b"\r\n--xx--\r\n") -> bytes:
    head = b"Content-Type: " + kind.encode() + b"\r\n\r\n"
    return b"".join(b"\r\n--xx\r\n" + head + part for part in parts) + end


def client(site: Site, address: str = "127.0.0.1") -> TestClient:
    return TestClient(make_web(site), client=(address, 5), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> list[Radiograph]:
    return list(chests(tmp_path_factory.mktemp("images"), 4))


@contextmanager
def served(site: Site) -> Iterator[str]:
    """The web process on a port of its own; its address."""
    server = uvicorn.Server(uvicorn.Config(make_web(site), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
            assert thread.is_alive()
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


def test_dicomweb_client_stores_real_radiographs_once_whichever_way_they_come(
    site: Site, radiographs: list[Radiograph]
) -> None:
    with served(site) as address:
        foreign = DICOMwebClient(f"http://{address}/dicom-web")
        answer = foreign.store_instances([dcmread(each.path) for each in radiographs])
        again = foreign.store_instances([dcmread(radiographs[0].path)], radiographs[0].study_instance_uid)
    stored = {item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence}
    assert stored == {each.sop_instance_uid for each in radiographs}
    assert "FailedSOPSequence" not in answer
    assert len(again.ReferencedSOPSequence) == 1
    data, facts = examine_file(radiographs[1].path.read_bytes())
    listener = Intake(site, lambda _id: None)
    assert listener.receive(Received(data, facts, "MODALITY", "CXRTRIAGE", "", "")) == Status.SUCCESS
    with site.database.read() as session:
        rows = session.scalars(select(Instance)).all()
    assert {row.sop_instance_uid for row in rows} == stored
    assert {row.calling_ae for row in rows} == {"STOW-RS"}
    assert all(row.flags == [] for row in rows), "the same bytes by another way are no other content"


def test_each_instance_is_answered_with_its_own_reason_and_recorded(site: Site, radiographs: list[Radiograph]) -> None:
    good, cut = radiographs[0].path.read_bytes(), radiographs[1].path.read_bytes()[:-1000]
    with served(site) as address:
        foreign = DICOMwebClient(f"http://{address}/dicom-web")
        with pytest.raises(HTTPError) as raised:
            foreign.store_instances([dcmread(radiographs[0].path)], "1.2.3")
    assert raised.value.response.status_code == 409
    (failed,) = raised.value.response.json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [radiographs[0].sop_instance_uid]
    assert failed["00081197"]["Value"] == [int(Status.DATA_SET_MISMATCH)]
    answer = client(site).post(
        "/dicom-web/studies", content=body(good, cut, b"no dicom at all"), headers={"Content-Type": TYPE}
    )
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/dicom+json"
    said = answer.json()
    assert [item["00081155"]["Value"] for item in said["00081199"]["Value"]] == [[radiographs[0].sop_instance_uid]]
    assert [item["00081197"]["Value"] for item in said["00081198"]["Value"]] == [[0xC000]]
    assert [item["00081197"]["Value"] for item in said["0008119A"]["Value"]] == [[0xC000]]
    with site.database.read() as session:
        reasons = [each.reason for each in ledger_details(session).rejections]
    assert len(reasons) == 3
    assert any("truncated" in reason for reason in reasons)
    assert "the instance belongs to another study than the request" in reasons


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Content-Type": "application/dicom"}, b"x", 415),
        ({"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=x'}, b"x", 415),
        ({"Content-Type": "multipart/form-data; boundary=xx"}, body(b"x"), 415),
        ({"Content-Type": TYPE, "Content-Encoding": "gzip"}, body(b"x"), 415),
        ({"Content-Type": 'multipart/related; type="application/dicom"'}, b"x", 400),
        ({"Content-Type": TYPE.rpartition("=")[0] + "=" + "a" * 300}, b"x", 400),
        ({"Content-Type": TYPE.rpartition("boundary=")[0] + "boundary*=utf-8''%ff"}, b"x", 400),
        ({"Content-Type": TYPE.rpartition("boundary=")[0] + "boundary*9=x; boundary*=x"}, b"x", 415),
        ({"Content-Type": TYPE}, b"", 400),
        ({"Content-Type": TYPE}, b"no boundary here", 400),
        ({"Content-Type": TYPE}, b"\r\n--xx--\r\n", 400),
        ({"Content-Type": TYPE}, b"\r\n--xx\r\nA: " + b"b" * 100_000, 400),
        ({"Content-Type": TYPE, "Accept": "application/dicom+xml"}, body(b"x"), 406),
        ({"Content-Type": TYPE, "Origin": "http://evil.example"}, body(b"x"), 403),
        ({"Content-Type": TYPE, "Sec-Fetch-Site": "cross-site"}, body(b"x"), 403),
        ({"Content-Type": TYPE, "Host": "evil.example"}, body(b"x"), 421),
        ({"Content-Type": TYPE}, body(b"x"), 409),
    ],
)
def test_request_that_is_not_understood_is_told_so(
    site: Site, headers: dict[str, str], content: bytes, status: int
) -> None:
    answer = client(site).post("/dicom-web/studies", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    with site.database.read() as session:
        assert session.scalars(select(Instance)).all() == []
        own = status not in (403, 421) and answer.text != '{"error":"the body holds no instance"}'
        assert bool(session.scalars(select(Rejection)).all()) == own


def test_body_that_breaks_off_says_what_was_stored_and_that_the_rest_was_not(
    site: Site, radiographs: list[Radiograph]
) -> None:
    whole = body(*(each.path.read_bytes() for each in radiographs[:2]))
    answer = client(site).post("/dicom-web/studies", content=whole[:-500_000], headers={"Content-Type": TYPE})
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == len(answer.json()["0008119A"]["Value"]) == 1


def test_path_that_is_no_uid_and_other_methods_are_refused(site: Site) -> None:
    assert (
        client(site).post("/dicom-web/studies/x", content=body(b""), headers={"Content-Type": TYPE}).status_code == 400
    )
    assert client(site).get("/dicom-web/studies").status_code == 405


def test_under_backpressure_the_sender_is_told_when_to_come_back(site: Site, radiographs: list[Radiograph]) -> None:
    busy = Site(site.settings.model_copy(update={"storage": site.settings.storage.model_copy(
        update={"minimum_free_gigabytes": 1e9})}))  # fmt: skip
    content = body(radiographs[0].path.read_bytes())
    answer = client(busy).post("/dicom-web/studies", content=content, headers={"Content-Type": TYPE})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "minimum_free_gigabytes" in answer.json()["error"]
    assert client(site).post("/dicom-web/studies", content=content, headers={"Content-Type": TYPE}).status_code == 200


def test_limit_reached_within_a_request_fails_the_rest_of_it(site: Site, radiographs: list[Radiograph]) -> None:
    from db.model_registry import activation
    from tests.db.conftest import MODEL, NOON

    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)
    small = Site(site.settings.model_copy(update={"intake": IntakeSettings(maximum_backlog=2)}))
    answer = client(small).post(
        "/dicom-web/studies",
        content=body(*(each.path.read_bytes() for each in radiographs)),
        headers={"Content-Type": TYPE},
    )
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == 2
    assert [item["00081197"]["Value"] for item in answer.json()["00081198"]["Value"]] == [[0xA700]] * 2


@pytest.mark.parametrize(
    ("stow", "address", "authorization", "status"),
    [
        (Stow(), "127.0.0.1", "", 0),
        (Stow(), "::1", "", 0),
        (Stow(), "::ffff:127.0.0.1", "", 0),
        (Stow(), "10.0.0.5", "", 403),
        (Stow(), "no address", "", 403),
        (Stow(allowed_addresses=("10.0.0.0/8",)), "10.0.0.5", "", 0),
        (Stow(allowed_addresses=("10.0.0.0/8",)), "::ffff:10.0.0.5", "", 0),
        (Stow(allowed_addresses=("10.0.0.0/8",)), "11.0.0.5", "", 403),
        (Stow(token="s3cret"), "10.0.0.5", "", 401),
        (Stow(token="s3cret"), "127.0.0.1", "Bearer wrong", 401),
        (Stow(token="s3cret"), "127.0.0.1", "Basic s3cret", 401),
        (Stow(token="s3cret"), "10.0.0.5", "Bearer s3cret", 0),
        (Stow(token="s3cret", allowed_addresses=("10.0.0.5",)), "10.0.0.6", "Bearer s3cret", 403),
    ],
)
def test_only_who_may_store_is_let_in(stow: Stow, address: str, authorization: str, status: int) -> None:
    if not status:
        check_caller(stow, address, authorization)
        return
    with pytest.raises(Refused) as refused:
        check_caller(stow, address, authorization)
    assert refused.value.status_code == status


def test_opened_to_others_it_stores_for_this_machine_alone_until_the_site_says_who(site: Site) -> None:
    settings = site.settings.model_copy(update={"web": Web(host="0.0.0.0")})
    answer = client(Site(settings), "10.0.0.5").post(
        "/dicom-web/studies", content=body(b"x"), headers={"Content-Type": TYPE}
    )
    assert answer.status_code == 403
    assert "allowed_addresses" in answer.json()["error"]


def test_instance_that_trips_over_a_fault_of_ours_costs_no_other(
    site: Site, radiographs: list[Radiograph], monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = Intake.receive

    def trips(self: Intake, received: Received) -> Status:
        if received.header.sop_instance_uid == radiographs[0].sop_instance_uid:
            raise RuntimeError("quotes DOE^JOHN")
        return receive(self, received)

    monkeypatch.setattr(Intake, "receive", trips)
    answer = client(site).post(
        "/dicom-web/studies",
        content=body(*(each.path.read_bytes() for each in radiographs[:2])),
        headers={"Content-Type": TYPE},
    )
    assert answer.status_code == 202
    (failed,) = answer.json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [radiographs[0].sop_instance_uid]
    assert failed["00081197"]["Value"] == [int(Status.PROCESSING_FAILURE)]


def test_interface_is_described(site: Site) -> None:
    described = client(site).get("/openapi.json").json()["paths"]
    for path in ("/dicom-web/studies", "/dicom-web/studies/{study_instance_uid}"):
        post = described[path]["post"]
        assert 'multipart/related; type="application/dicom"' in post["requestBody"]["content"]
        assert {"200", "202", "400", "401", "403", "409", "413", "415", "503"} <= set(post["responses"])


# The parts of a body --------------------------------------------------------------------------------------------------


@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=5), cut=st.integers(1, 40))
def test_parts_come_out_as_they_went_in_however_the_body_is_cut(parts: list[bytes], cut: int) -> None:
    whole = body(*(part.replace(b"--xx", b"") for part in parts))
    room = Room(10_000)
    reader, found = Parts("xx", 1000, room), []
    for start in range(0, len(whole), cut):
        reader.feed(whole[start : start + cut])
        while (part := reader.next()) is not None:
            assert part.media_type == "application/dicom"
            found.append(part.data)
            reader.done(part)
    assert reader.is_whole
    assert found == [part.replace(b"--xx", b"") for part in parts]
    reader.close()
    assert room.take(10_000), "everything was given back"


@given(junk=st.binary(max_size=400))
def test_any_bytes_are_parts_or_a_bad_multipart(junk: bytes) -> None:
    reader = Parts("xx", 1000, Room(1000))
    for content in (junk, b"--xx\r\n" + junk):
        try:
            reader.feed(content)
        except BadMultipart:
            break


def test_part_that_is_too_large_or_finds_no_room_is_dropped_and_the_next_is_whole() -> None:
    room = Room(1500)
    assert room.take(800)  # another request
    reader = Parts("xx", 1000, room)
    reader.feed(body(b"a" * 1001, b"b" * 900, b"c" * 600))
    found = [reader.next() for _ in range(3)]
    assert [(part.size, part.data and len(part.data)) for part in found if part] == [
        (1001, None),
        (900, None),
        (600, 600),
    ]
    reader.close()
    assert room.take(700)


def test_sender_who_is_silent_or_drips_is_given_up() -> None:
    async def never() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    async def drips() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    async def read(pieces: AsyncIterator[bytes], **how: object) -> None:
        async for _ in patient(pieces, **how):  # type: ignore[arg-type]
            pass

    with pytest.raises(Refused, match="nothing came for"):
        asyncio.run(read(never(), patience=0.05))
    ticks = iter(range(0, 10_000, 5))
    with pytest.raises(Refused, match="slower than"):
        asyncio.run(read(drips(), clock=lambda: float(next(ticks))))


def test_body_is_never_held_as_a_whole(site: Site, images: Path) -> None:
    """Three hundred megabytes in parts of seven: the process grows by a few parts, not by the body."""
    import resource

    image = (images / "RG1_UNCR.dcm").read_bytes()
    assert sample("RG1_UNCR").stat().st_size == len(image)
    with served(site) as address:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        connection = http.client.HTTPConnection(address, timeout=120)
        pieces = [body(image, end=b"")] * 40 + [b"\r\n--xx--\r\n"]
        connection.request("POST", "/dicom-web/studies", iter(pieces), {"Content-Type": TYPE}, encode_chunked=True)
        assert connection.getresponse().status == 200
        connection.close()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    assert grown < 120, f"{grown:.0f} MB for a body of {len(image) * 40 / 1e6:.0f} MB"
