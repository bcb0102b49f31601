"""The main job: a modality sends a chest radiograph, its heatmap arrives in the PACS under patient and study."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from tests.peers import dcmtk
from tests.peers.dicom3tools import Dicom3tools
from tests.peers.orthanc import Orthanc
from tests.peers.processes import wait_until
from tests.peers.radiographs import Coding, Radiograph, chest, chests, described, sample
from tests.peers.site import Site

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Of the source, and equal on every object made from it.
IDENTITY = (
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyID",
    "AccessionNumber",
)


def send(site: Site, radiograph: Radiograph) -> dcmtk.Answer:
    """Send one radiograph as a modality does, in its own transfer syntax."""
    return dcmtk.storescu(site.dicom_port, [radiograph.path], transfer_syntax=radiograph.transfer_syntax_uid)


def test_the_heatmap_of_a_real_radiograph_arrives_under_the_same_patient_and_study(
    site_with_pacs: Site, orthanc: Orthanc, foreign_validator: Dicom3tools, tmp_path: Path
) -> None:
    site, real = site_with_pacs, described(sample("RG1_UNCR"))
    assert dcmtk.storescu(orthanc.dicom_port, [real.path], called="PACS").statuses == (0,)
    assert dcmtk.echoscu(site.dicom_port).exit_code == 0
    assert send(site, real).statuses == (0,)
    ledger = site.wait_settled(1, sent=1)
    assert (ledger["received"], ledger["done"], ledger["failed"], ledger["not_applicable"]) == (1, 1, 0, 0)

    heatmaps = orthanc.instances_of("OT")
    assert heatmaps, "no heatmap in the PACS"
    files = [orthanc.download(each, tmp_path / f"heatmap-{number}.dcm") for number, each in enumerate(heatmaps)]
    source = dcmread(real.path, stop_before_pixels=True)
    for heatmap, file in zip(heatmaps, files, strict=True):
        assert heatmap.sop_class_uid == SECONDARY_CAPTURE
        assert foreign_validator.object(file).errors == (), foreign_validator.object(file).output
        made = dcmread(file)
        for keyword in IDENTITY:
            assert made.get(keyword) == source.get(keyword), keyword
        assert str(made.PatientName) == str(source.PatientName)
        assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == real.sop_instance_uid
        assert made.BurnedInAnnotation == "YES"
        assert "not for diagnosis" in made.SeriesDescription
        assert made.pixel_array.shape == (made.Rows, made.Columns, 3)
        assert made.pixel_array.std() > 10, "an empty picture"
    assert orthanc.studies() == [real.study_instance_uid]
    verdict = foreign_validator.entities([real.path, *files])
    assert verdict.errors == (), verdict.output

    (item,) = site.worklist()
    assert item["study_instance_uid"] == real.study_instance_uid
    assert (item["state"], item["accession_number"]) == ("done", "exam Number")
    assert item["priority"] in ("HIGH", "MEDIUM", "LOW")
    assert any("age unknown" in flag for flag in item["flags"]), item["flags"]
    assert item["findings"], "no findings on the worklist"
    for finding in item["findings"]:
        assert 0.0 <= finding["probability"] <= 1.0
        assert finding["positive"] == (finding["probability"] >= finding["threshold"])
    site.assert_logs_clean([real])


def test_the_same_image_sent_again_makes_no_second_result_nor_object(
    site_with_pacs: Site, orthanc: Orthanc, tmp_path: Path
) -> None:
    site, radiograph = site_with_pacs, chest(tmp_path / "in", 1)
    assert send(site, radiograph).statuses == (0,)
    first = site.wait_settled(1, sent=1)
    held, arrivals, worklist = orthanc.count(), orthanc.arrivals(), site.worklist()
    for _ in range(3):
        assert send(site, radiograph).statuses == (0,)
    # a newcomer through the same queues comes out behind whatever the repeats might have set going
    assert send(site, chest(tmp_path / "in", 2)).statuses == (0,)
    again = site.wait_settled(2, sent=2 * held)
    assert (again["received"], again["done"]) == (first["received"] + 1, first["done"] + 1)
    assert again["deliveries"]["sent"] == 2 * first["deliveries"]["sent"]
    assert orthanc.count() == 2 * held
    assert all(orthanc.arrivals()[uid] == count for uid, count in arrivals.items())
    (same,) = [item for item in site.worklist() if item["study_instance_uid"] == radiograph.study_instance_uid]
    assert same["findings"] == worklist[0]["findings"]


def test_an_extremity_is_refused_with_its_reason_and_no_object_is_made(site_with_pacs: Site, orthanc: Orthanc) -> None:
    site, extremity = site_with_pacs, described(sample("RG3_UNCR"))
    assert send(site, extremity).statuses == (0,), "the C-STORE itself succeeds"
    ledger = site.wait_settled(1)
    assert (ledger["received"], ledger["not_applicable"], ledger["done"]) == (1, 1, 0)
    assert sum(ledger["deliveries"].values()) == 0
    reasons = [item["reason"] for item in site.worklist()] + list(ledger.get("reasons", {}))
    assert any("EXTREMITY" in reason for reason in reasons), reasons
    explained = site.run("explain", str(extremity.path))
    assert explained.exit_code == 0
    assert "EXTREMITY" in explained.output
    assert orthanc.count() == 0


def test_an_own_heatmap_that_the_pacs_sends_back_is_not_analysed(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    with Orthanc(tmp_path / "orthanc") as orthanc, Site(folder, pacs=orthanc) as site:
        site.start()
        assert send(site, chest(tmp_path / "in", 3)).statuses == (0,)
        site.wait_settled(1, sent=1)
        before = orthanc.count()
        for number, heatmap in enumerate(orthanc.instances_of("OT")):
            back = orthanc.download(heatmap, tmp_path / f"back-{number}.dcm")
            assert dcmtk.storescu(site.dicom_port, [back]).statuses == (0,)
        ledger = site.wait_settled(1 + before)
        assert (ledger["done"], ledger["not_applicable"]) == (1, before)
        assert orthanc.count() == before
        assert sum(orthanc.arrivals().values()) == before


def test_every_coding_polarity_and_character_set_goes_through_with_its_identity(
    site_with_pacs: Site, orthanc: Orthanc, foreign_validator: Dicom3tools, tmp_path: Path
) -> None:
    site, sent = site_with_pacs, list(chests(tmp_path / "in", 8))
    for radiograph in sent:
        assert send(site, radiograph).statuses == (0,), radiograph.path.name
    ledger = site.wait_settled(len(sent), sent=len(sent))
    assert (ledger["done"], ledger["failed"]) == (len(sent), 0)
    by_study = {each.study_instance_uid: each for each in orthanc.instances_of("OT")}
    for radiograph in sent:
        file = orthanc.download(by_study[radiograph.study_instance_uid], tmp_path / "heatmap.dcm")
        made = described(file)
        assert made.patient_name == radiograph.patient_name
        assert (made.patient_id, made.patient_birth_date) == (radiograph.patient_id, radiograph.patient_birth_date)
        assert radiograph.patient_name in dcmtk.dcmdump(file, "PatientName"), "DCMTK reads another name"
        assert foreign_validator.object(file).errors == ()
        assert foreign_validator.entities([radiograph.path, file]).errors == ()
    site.assert_logs_clean(sent)


def test_the_same_pixels_in_another_coding_get_the_same_probabilities(site: Site, tmp_path: Path) -> None:
    codings: tuple[Coding, ...] = ("uncompressed", "rle", "jpeg2000")
    sent = [chest(tmp_path / f"{number}", 5, coding=coding) for number, coding in enumerate(codings)]
    sent.append(chest(tmp_path / "inverted", 5, polarity="MONOCHROME2"))
    for radiograph in sent:
        assert send(site, radiograph).statuses == (0,)
    site.wait_settled(len(sent))
    findings = {item["study_instance_uid"]: item["findings"] for item in site.worklist()}
    expected = {each["label"]: each["probability"] for each in findings[sent[0].study_instance_uid]}
    for radiograph in sent[1:]:
        got = {each["label"]: each["probability"] for each in findings[radiograph.study_instance_uid]}
        assert got == pytest.approx(expected, abs=1e-4), radiograph.path.name


def test_a_pacs_that_is_down_gets_everything_once_it_is_back(
    site_with_pacs: Site, orthanc: Orthanc, tmp_path: Path
) -> None:
    site = site_with_pacs
    orthanc.kill()
    sent = [chest(tmp_path / "in", number) for number in (6, 7)]
    for radiograph in sent:
        assert send(site, radiograph).statuses == (0,)
    ledger = site.wait_ledger(lambda now: now["done"] == 2, 60, "both read while the PACS is down")
    assert ledger["deliveries"]["pending"] >= 2
    assert ledger["deliveries"]["failed"] == 0
    orthanc.start()
    site.wait_settled(2, sent=2)
    wait_until(lambda: orthanc.count() >= 2, 10, "heatmaps in the PACS")
    assert {each.study_instance_uid for each in orthanc.instances()} == {each.study_instance_uid for each in sent}
