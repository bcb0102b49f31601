"""Bad input: each kind has its stated answer, nothing dies of it, and nothing is written outside the home folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from tests.peers import dcmtk
from tests.peers.radiographs import Radiograph, chest
from tests.peers.raw_dicom import AssociationRejected, send_pdu, store_bytes
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]

# PS3.4 Table B.2-1
SUCCESS = 0x0000


def cannot_understand(status: int | None) -> bool:
    """Whether the status is of the class "Cannot understand" (Cxxx) or "Data set does not match SOP class" (A9xx)."""
    return status is not None and (0xC000 <= status <= 0xCFFF or 0xA900 <= status <= 0xA9FF)


def encoded(radiograph: Radiograph) -> bytes:
    """The data set's bytes, explicit VR little endian, without the file meta."""
    data_set = dcmread(radiograph.path)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, Dataset(data_set))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One installation for all of them: what one kind of bad input broke, the next would meet."""
    with Site(tmp_path_factory.mktemp("bad-input")) as running:
        yield running.start()


@pytest.fixture(autouse=True)
def nothing_dies(site: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """After each kind of bad input a good study still goes through the same processes, and no file lies astray."""
    pids = {name: process.pid for name, process in site.processes.items() if process.running}
    before = site.ledger_by_web()
    yield
    good = chest(tmp_path / "good", 200)
    assert dcmtk.storescu(site.dicom_port, [good.path]).statuses == (SUCCESS,)
    ledger = site.wait_ledger(
        lambda now: now["done"] > before["done"] and now["pending"] == 0, 60, f"a good study after {request.node.name}"
    )
    assert ledger["received"] == ledger["done"] + ledger["not_applicable"] + ledger["failed"]
    assert {name: process.pid for name, process in site.processes.items() if process.running} == pids
    assert outside(site) == [], "written outside the home folder"


def outside(site: Site) -> list[str]:
    """Files below the site's folder that neither the test nor the home folder accounts for."""
    known = {site.home.name, site.logs.name, "broker", site.configuration.name}
    above = [each.name for each in site.folder.parent.iterdir() if each.name in ("x", "etc")]
    return [each.name for each in site.folder.iterdir() if each.name not in known] + above


def test_a_text_file_sent_as_an_image_is_not_understood_and_leaves_nothing(site: Site) -> None:
    before = site.ledger()["received"]
    status = store_bytes(site.dicom_port, b"Dear colleague, please find attached ...\n" * 40, "1.2.3.4.5.1")
    assert cannot_understand(status), status
    assert site.ledger()["received"] == before


def test_a_data_set_cut_in_its_header_is_not_understood(site: Site, tmp_path: Path) -> None:
    before, radiograph = site.ledger()["received"], chest(tmp_path, 201)
    status = store_bytes(site.dicom_port, encoded(radiograph)[:150], radiograph.sop_instance_uid)
    assert cannot_understand(status), status
    assert site.ledger()["received"] == before


def test_a_data_set_cut_in_its_pixels_is_refused_or_failed_with_the_reason(site: Site, tmp_path: Path) -> None:
    radiograph = chest(tmp_path, 202)
    whole = encoded(radiograph)
    status = store_bytes(site.dicom_port, whole[: len(whole) // 2], radiograph.sop_instance_uid)
    if status == SUCCESS:
        assert_ended_unread(site, radiograph)
    else:
        assert cannot_understand(status), status


def test_an_image_without_pixels_ends_with_the_reason(site: Site, tmp_path: Path) -> None:
    radiograph = chest(tmp_path, 203, PixelData=None)
    assert dcmtk.storescu(site.dicom_port, [radiograph.path]).statuses == (SUCCESS,)
    assert "pixel" in assert_ended_unread(site, radiograph).lower()


@pytest.mark.parametrize(
    ("number", "rows", "columns"), [(204, 1100, 960), (205, 65535, 65535), (206, 1024, 2000), (207, 0, 0)]
)
def test_lying_rows_and_columns_end_with_the_reason(
    site: Site, tmp_path: Path, number: int, rows: int, columns: int
) -> None:
    radiograph = chest(tmp_path, number, Rows=rows, Columns=columns)
    status = store_bytes(site.dicom_port, encoded(radiograph), radiograph.sop_instance_uid)
    assert status == SUCCESS
    assert_ended_unread(site, radiograph)


def test_compressed_pixels_that_are_not_what_they_say_end_with_the_reason(site: Site, tmp_path: Path) -> None:
    radiograph = chest(tmp_path, 208, coding="jpeg2000", Rows=1030, Columns=700)
    answer = dcmtk.storescu(site.dicom_port, [radiograph.path], transfer_syntax=radiograph.transfer_syntax_uid)
    assert answer.statuses == (SUCCESS,)
    assert_ended_unread(site, radiograph)


@pytest.mark.parametrize(
    "pdu",
    [
        b"\x01\x00\x00\x00",
        b"GET ",
        b"\xff\x00\x00\x00\x00\x04abcd",
        b"\x01\x00\xff\xff\xff\xff",
        b"\x04\x00\x00\x00\x00\x04\x00\x00\x00\x00",
    ],
    ids=["four bytes", "four letters", "unknown type", "endless length", "data before any association"],
)
def test_a_pdu_that_is_none_is_aborted_or_closed(site: Site, pdu: bytes) -> None:
    answer = send_pdu(site.dicom_port, pdu)
    assert answer == b"" or answer[0] in (0x03, 0x07), answer  # closed, A-ASSOCIATE-RJ, A-ABORT (PS3.8 9.3)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["../../x", "/etc/cron.d/x", "..\\..\\x", "1.2.3\x00.4", ""])
def test_a_uid_that_is_a_path_never_becomes_one(site: Site, tmp_path: Path, uid: str) -> None:
    data_set = dcmread(chest(tmp_path, 209).path)
    data_set.SOPInstanceUID = data_set.StudyInstanceUID = data_set.SeriesInstanceUID = uid
    path = tmp_path / "hostile.dcm"
    data_set.save_as(path)
    radiograph = Radiograph(path, uid, uid, "", "", "", "")
    before = site.ledger()["rejected"]
    status = store_bytes(site.dicom_port, encoded(radiograph), uid)
    if uid:
        assert status == SUCCESS or cannot_understand(status), status
    else:  # a request that names no object cannot be answered, only aborted; that it came is not forgotten
        assert status is None
        assert site.ledger()["rejected"] == before + 1
    written = [each for each in site.home.rglob("*") if each.is_file()]
    assert all(each.name != "x" and ".." not in each.name for each in written)
    assert not Path("/etc/cron.d/x").exists()
    assert not (Path.cwd() / "x").exists()


def test_an_image_of_a_class_that_is_not_said_is_not_understood(site: Site, tmp_path: Path) -> None:
    radiograph = chest(tmp_path, 210)
    status = store_bytes(
        site.dicom_port, encoded(radiograph), radiograph.sop_instance_uid, sop_class_uid="1.2.840.10008.5.1.4.1.1.7"
    )
    assert cannot_understand(status), status


def test_a_caller_that_is_not_on_the_list_gets_no_association(site: Site, tmp_path: Path) -> None:
    radiograph = chest(tmp_path / "in", 211)
    with Site(tmp_path / "restricted", allowed_callers=["MODALITY"]) as restricted:
        restricted.start("listen")
        assert dcmtk.storescu(restricted.dicom_port, [radiograph.path], calling="STRANGER").association_refused
        with pytest.raises(AssociationRejected):
            store_bytes(restricted.dicom_port, encoded(radiograph), radiograph.sop_instance_uid, calling="STRANGER")
        with pytest.raises(AssociationRejected):
            store_bytes(restricted.dicom_port, encoded(radiograph), radiograph.sop_instance_uid, called="OTHER")
        assert restricted.ledger()["received"] == 0
        assert dcmtk.storescu(restricted.dicom_port, [radiograph.path], calling="MODALITY").statuses == (SUCCESS,)
        assert restricted.ledger()["received"] == 1


def test_connections_that_say_nothing_keep_nobody_out(site: Site) -> None:
    import socket

    idle = [socket.create_connection(("127.0.0.1", site.dicom_port)) for _ in range(5)]
    try:
        assert dcmtk.echoscu(site.dicom_port).exit_code == 0
    finally:
        for each in idle:
            each.close()


def test_analyse_says_of_each_bad_file_what_is_wrong_with_it(site: Site, tmp_path: Path) -> None:
    text = tmp_path / "letter.dcm"
    text.write_text("Dear colleague\n" * 20)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(chest(tmp_path / "whole", 212).path.read_bytes()[:500_000])
    empty = tmp_path / "empty.png"
    empty.touch()
    missing = tmp_path / "missing.dcm"
    done = site.run("analyse", str(text), str(cut), str(empty), "--json")
    assert done.exit_code == 1, done.output
    results = {Path(each["source"]).name: each for each in done.json()["results"]}
    for file in (text, cut, empty):
        assert results[file.name]["status"] == "failed", results
        assert results[file.name]["reason"], "no reason"
    gone = site.run("analyse", str(missing))
    assert gone.exit_code in (1, 2)
    assert missing.name in re.sub(r"[\s│]", "", gone.output)  # however the frame folds it
    assert "Traceback" not in done.output + gone.output


def test_the_logs_show_no_traceback_and_no_identity_after_all_that(site: Site) -> None:
    assert (site.logs / "listen.log").exists()
    names = [chest(site.logs.parent.parent / "names", number) for number in range(200, 213)]
    site.assert_logs_clean(names)


def assert_ended_unread(site: Site, radiograph: Radiograph) -> str:
    """The instance was received and ended as failed or not applicable; returns the reason."""
    site.wait_ledger(lambda now: now["pending"] == 0, 60, "no instance is pending")
    (item,) = [each for each in site.worklist() if each["study_instance_uid"] == radiograph.study_instance_uid]
    assert item["state"] in ("failed", "not_applicable"), item
    assert item["reason"], item
    assert item["findings"] == []
    return str(item["reason"])
