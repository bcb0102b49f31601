"""Bodies of STOW-RS as RFC 2046 5.1.1 allows them, and as clients write them."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from db.tables.audit import Rejection
from db.tables.studies import Instance
from tests.peers.radiographs import sample
from worker.installation import Site
from worker.web.app import make_web
from worker.web.dicomweb.multipart import BadMultipart, Parts, Room

HEAD = b"Content-Type: application/dicom\r\n\r\n"
FIRST, NEXT, LAST = b"--xx\r\n" + HEAD, b"\r\n--xx\r\n" + HEAD, b"\r\n--xx--"

BODIES = {
    "as usual": FIRST + b"one" + NEXT + b"two" + LAST + b"\r\n",
    "nothing after the last boundary": FIRST + b"one" + NEXT + b"two" + LAST,
    "a blank line first": b"\r\n" + FIRST + b"one" + NEXT + b"two" + LAST,
    "blank lines first": b"\r\n\r\n\r\n" + FIRST + b"one" + NEXT + b"two" + LAST,
    "a preamble": b"This is a multi-part message in MIME format.\r\n" + FIRST + b"one" + NEXT + b"two" + LAST,
    "a preamble of many lines": b"a\r\n\r\n-\r\n--x\r\n-- xx\r\n--y--xx\r\n" + FIRST + b"one" + NEXT + b"two" + LAST,
    "a preamble with LF line ends": b"a\nb--xx\nc\r\n" + FIRST + b"one" + NEXT + b"two" + LAST,
    "a preamble of noise": bytes(range(256)) + b"\r\n" + FIRST + b"one" + NEXT + b"two" + LAST,
    "padding after the first boundary": b"--xx \t\r\n" + HEAD + b"one" + NEXT + b"two" + LAST,
    "padding after each boundary": b"--xx \r\n" + HEAD + b"one\r\n--xx \t \r\n" + HEAD + b"two" + LAST + b"  \r\n",
    "preamble and padding": b"preamble\r\n--xx\t\r\n" + HEAD + b"one" + NEXT + b"two" + LAST,
    "an epilogue": FIRST + b"one" + NEXT + b"two" + LAST + b"\r\nepilogue\r\n--xx\r\n" + HEAD + b"three\r\n--xx--",
    "further headers": b"--xx\r\nContent-Length: 3\r\nContent-Location: http://x/y\r\nX-Empty:\r\n"
    + HEAD
    + b"one"
    + NEXT
    + b"two"
    + LAST,
    "another length than the part has": b"--xx\r\nContent-Length: 999\r\n" + HEAD + b"one" + NEXT + b"two" + LAST,
}
FILES = {name: [("application/dicom", b"one"), ("application/dicom", b"two")] for name in BODIES}
BODIES["no headers"] = b"--xx\r\n\r\none\r\n--xx \r\n\r\ntwo" + LAST
FILES["no headers"] = [("", b"one"), ("", b"two")]
BODIES["headers in any case"] = b"--xx\r\ncONTENT-tYPE:application/dicom; transfer-syntax=1.2\r\n\r\none" + LAST
FILES["headers in any case"] = [("application/dicom; transfer-syntax=1.2", b"one")]
BODIES["a boundary's beginning in the data"] = FIRST + b"\r\n--x\r\n--xy\r\n-\r\r\n--xxx" + LAST
FILES["a boundary's beginning in the data"] = [("application/dicom", b"\r\n--x\r\n--xy\r\n-\r\r\n--xxx")]
BODIES["an empty part"] = FIRST + NEXT + b"two" + LAST
FILES["an empty part"] = [("application/dicom", b""), ("application/dicom", b"two")]


@pytest.mark.parametrize("name", BODIES)
def test_parts_are_found_however_the_body_arrives(name: str) -> None:
    content = BODIES[name]
    for cut in (*range(1, 12), 64, len(content)):
        reader, found = Parts("xx", 1000, Room(10_000)), []
        for start in range(0, len(content), cut):
            reader.feed(content[start : start + cut])
            while (part := reader.next()) is not None:
                found.append((part.media_type, part.data))
                reader.done(part)
        assert (found, reader.fault) == (FILES[name], ""), cut


LONGEST = "".join(chr(48 + n % 10) for n in range(70))


@pytest.mark.parametrize("boundary", [LONGEST, "a'()+_,-./:=?b", "--", "x y", "=_NextPart_000.1"])
def test_every_boundary_of_the_rfc_is_used(boundary: str) -> None:
    reader = Parts(boundary, 1000, Room(10_000))
    reader.feed(b"preamble\r\n" + FIRST.replace(b"xx", boundary.encode()) + b"one\r\n--" + boundary.encode() + b"--")
    part = reader.next()
    assert part is not None
    assert (part.data, reader.fault) == (b"one", "")


NO_BOUNDARY = "the body has no line that is the content type's boundary and ends with CR LF"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", NO_BOUNDARY),
        (b"no boundary here", NO_BOUNDARY),
        (b"--xx\nContent-Type: application/dicom\n\none\n--xx--\n", NO_BOUNDARY),
        (b"--yy\r\n" + HEAD + b"one\r\n--yy--\r\n", NO_BOUNDARY),
        (FIRST + b"one\r\n--xx", "the body ends before its last boundary"),
    ],
)
def test_body_that_lacks_a_boundary_says_which(content: bytes, reason: str) -> None:
    reader = Parts("xx", 1000, Room(10_000))
    reader.feed(content)
    assert reader.fault == reason


def test_preamble_is_not_endless_and_takes_no_room() -> None:
    room = Room(10)
    reader = Parts("xx", 1000, room)
    for _ in range(64):
        reader.feed(b"a" * 1000)
    assert room.take(10)
    with pytest.raises(BadMultipart, match="more than 65536 bytes before the first boundary"):
        reader.feed(b"a" * 2000)


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/related; type="application/dicom"; boundary=xx',
        "multipart/related; type=application/dicom; boundary=xx",
        "Multipart/Related;Boundary=xx;Type=Application/DICOM",
        'multipart/related; boundary="xx"; start="<1>"; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1',
        "multipart/related; boundary=xx",
        "multipart/related; boundary=xx; type*=us-ascii'en'application%2Fdicom",
    ],
)
def test_content_type_is_read_however_it_is_written(site: Site, content_type: str) -> None:
    image = sample("RG1_UNCR").read_bytes()
    content = b"preamble\r\n--xx \r\nContent-Type: application/dicom; transfer-syntax=*\r\n\r\n" + image + LAST
    client = TestClient(make_web(site), client=("127.0.0.1", 5), base_url="http://127.0.0.1")
    answer = client.post("/dicom-web/studies", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 200, answer.text
    with site.database.read() as session:
        assert len(session.scalars(select(Instance)).all()) == 1
        assert session.scalars(select(Rejection)).all() == []
