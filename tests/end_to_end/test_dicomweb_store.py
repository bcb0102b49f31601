"""A PACS that stores over HTTP: Orthanc's DICOMweb plugin as the client, from the image to its reading."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread

from tests.peers.orthanc import Orthanc
from tests.peers.processes import wait_until
from tests.peers.radiographs import chest
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]


def test_orthanc_stores_by_stow_rs_and_the_images_are_read(tmp_path: Path) -> None:
    images = [chest(tmp_path / "in", 1), chest(tmp_path / "in", 2, coding="jpeg2000")]
    with Site(tmp_path / "site") as site:
        site.start("web", "work", "schedule")
        with Orthanc(tmp_path / "orthanc", dicomweb={"triage": f"http://127.0.0.1:{site.web_port}/dicom-web/"}) as pacs:
            identifiers = [pacs.upload(image.path) for image in images]
            for _ in range(2):
                pacs.store_over_http("triage", identifiers)
        assert site.wait_settled(2)["done"] == 2
        assert {item["study_instance_uid"] for item in site.worklist()} == {each.study_instance_uid for each in images}
        assert site.ledger()["received"] == 2
        assert all(
            flag != "received again with different content" for item in site.worklist() for flag in item["flags"]
        )
        site.assert_logs_clean(images)


def test_same_image_by_every_way_is_one_instance(tmp_path: Path) -> None:
    folder, image = tmp_path / "watched", chest(tmp_path / "in", 3)
    folder.mkdir()
    more = f'[imports]\nfolder = "{folder}"\nsettle_seconds = 0.2\n'
    with Site(tmp_path / "site", more=more) as site:
        site.start("web", "listen", "schedule")
        assert site.run("send", str(image.path)).exit_code == 0
        with image.path.open("rb") as file:
            foreign = DICOMwebClient(f"http://127.0.0.1:{site.web_port}/dicom-web")
            assert len(foreign.store_instances([dcmread(file)]).ReferencedSOPSequence) == 1
        (folder / "image.part").write_bytes(image.path.read_bytes())
        (folder / "image.part").rename(folder / "image.dcm")
        wait_until(lambda: (folder / "done" / "image.dcm").exists(), 60, "the file is imported")
        assert site.ledger()["received"] == 1
        (item,) = site.worklist()
        assert item["flags"] == []
        other = dcmread(image.path)
        other.PatientID, other.StudyInstanceUID = "SOMEBODY-ELSE", "1.2.3.4"
        other.save_as(folder / "other.dcm")
        wait_until(lambda: (folder / "done" / "other.dcm").exists(), 60, "the file is imported")
        assert site.ledger()["received"] == 1
        flags = site.worklist()[0]["flags"]
        assert flags == [
            "received again with different content",
            "received again for another patient: ID",
            "received again under another study",
        ]
        address = f"http://127.0.0.1:{site.web_port}"
        for path in ("/", f"/studies/{image.study_instance_uid}"):
            with urllib.request.urlopen(address + path, timeout=60) as answer:
                page = answer.read().decode()
            assert all(flag in page for flag in flags), path
        assert "Another file with the same SOP Instance UID" in page
        assert 'for another study, <a href="/studies/1.2.3.4">' in page
        assert "SOMEBODY-ELSE" not in site.all_logs()
