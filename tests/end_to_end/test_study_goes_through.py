"""The main job: a modality sends a chest radiograph, its heatmap arrives in the PACS under patient and study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydicom import dcmread

from tests.peers import dcmtk
from tests.peers.dicom3tools import Dicom3tools
from tests.peers.orthanc import Orthanc
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


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, database_settings: str) -> Iterator[Orthanc]:
    """One PACS for all tests of one database, as a hospital has."""
    with Orthanc(tmp_path_factory.mktemp("pacs")) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc, database_settings: str) -> Iterator[Site]:
    """One installation for all of them, once on each database; each test asks what changed."""
    with Site(tmp_path_factory.mktemp("site"), pacs=orthanc, more=database_settings) as running:
        yield running.start()


def went_through(site: Site, before: dict[str, Any], received: int, sent: int | None = None) -> dict[str, int]:
    """Wait until `received` more instances have their end and `sent` more objects were sent; what was added since."""
    old = before["deliveries"]["sent"]
    now = site.wait_settled(before["received"] + received, sent=None if sent is None else old + sent)
    added = {name: now[name] - before[name] for name in ("received", "done", "not_applicable", "failed")}
    return {**added, "sent": now["deliveries"]["sent"] - old}


def send(site: Site, radiograph: Radiograph) -> dcmtk.Answer:
    """Send one radiograph as a modality does, in its own transfer syntax."""
    return dcmtk.storescu(site.dicom_port, [radiograph.path], transfer_syntax=radiograph.transfer_syntax_uid)


def test_the_heatmap_of_a_real_radiograph_arrives_under_the_same_patient_and_study(
    site: Site, orthanc: Orthanc, foreign_validator: Dicom3tools, tmp_path: Path
) -> None:
    real, before = described(sample("RG1_UNCR")), site.ledger()
    assert dcmtk.storescu(orthanc.dicom_port, [real.path], called="PACS").statuses == (0,)
    assert dcmtk.echoscu(site.dicom_port).exit_code == 0
    assert send(site, real).statuses == (0,)
    added = went_through(site, before, 1, sent=1)
    assert (added["received"], added["done"], added["failed"], added["not_applicable"]) == (1, 1, 0, 0)

    heatmaps = [each for each in orthanc.instances_of("OT") if each.study_instance_uid == real.study_instance_uid]
    assert len(heatmaps) == added["sent"] >= 1
    files = [orthanc.download(each, tmp_path / f"heatmap-{number}.dcm") for number, each in enumerate(heatmaps)]
    source = dcmread(real.path, stop_before_pixels=True)
    for heatmap, file in zip(heatmaps, files, strict=True):
        assert heatmap.sop_class_uid == SECONDARY_CAPTURE
        made = dcmread(file)
        for keyword in IDENTITY:
            assert made.get(keyword) == source.get(keyword), keyword
        assert str(made.PatientName) == str(source.PatientName)
        assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == real.sop_instance_uid
        assert made.BurnedInAnnotation == "NO"
        assert "not for diagnosis" in made.SeriesDescription
        assert made.pixel_array.shape == (made.Rows, made.Columns, 3)
        assert made.pixel_array.std() > 10, "an empty picture"
        assert foreign_validator.object(file).errors == (), foreign_validator.object(file).output
    assert orthanc.studies() == [real.study_instance_uid]
    verdict = foreign_validator.entities([real.path, *files])
    assert verdict.errors == (), verdict.output

    (item,) = [each for each in site.worklist() if each["study_instance_uid"] == real.study_instance_uid]
    assert (item["state"], item["accession_number"]) == ("done", "exam Number")
    assert item["priority"] in ("HIGH", "MEDIUM", "LOW")
    assert any("age unknown" in flag for flag in item["flags"]), item["flags"]
    assert item["findings"], "no findings on the worklist"
    for finding in item["findings"]:
        assert 0.0 <= finding["probability"] <= 1.0
        assert finding["positive"] == (finding["probability"] >= finding["threshold"])


def test_the_same_image_sent_again_makes_no_second_result_nor_object(
    site: Site, orthanc: Orthanc, tmp_path: Path
) -> None:
    radiograph, start = chest(tmp_path / "in", 1), site.ledger()
    assert send(site, radiograph).statuses == (0,)
    first = went_through(site, start, 1, sent=1)
    (worklist_before,) = on_worklist(site, radiograph)
    held, arrivals, before = orthanc.count(), orthanc.arrivals(), site.ledger()
    for _ in range(3):
        assert send(site, radiograph).statuses == (0,)
    # a newcomer through the same queues comes out behind whatever the repeats might have set going
    assert send(site, chest(tmp_path / "in", 2)).statuses == (0,)
    again = went_through(site, before, 1, sent=1)
    assert (first["received"], first["done"]) == (1, 1)
    assert (again["received"], again["done"]) == (1, 1)
    assert orthanc.count() == held + again["sent"]
    assert all(orthanc.arrivals()[uid] == count for uid, count in arrivals.items())
    (worklist_after,) = on_worklist(site, radiograph)
    assert worklist_after["findings"] == worklist_before["findings"]


def test_an_extremity_is_refused_with_its_reason_and_no_object_is_made(site: Site, orthanc: Orthanc) -> None:
    extremity, before, held = described(sample("RG3_UNCR")), site.ledger(), orthanc.count()
    assert send(site, extremity).statuses == (0,), "the C-STORE itself succeeds"
    added = went_through(site, before, 1)
    assert (added["received"], added["not_applicable"], added["done"], added["sent"]) == (1, 1, 0, 0)
    reasons = [item["reason"] for item in on_worklist(site, extremity)]
    assert any("EXTREMITY" in reason for reason in reasons), reasons
    explained = site.run("explain", str(extremity.path))
    assert explained.exit_code == 0
    assert "EXTREMITY" in explained.output
    assert orthanc.count() == held


def test_an_own_heatmap_that_the_pacs_sends_back_is_not_analysed(site: Site, orthanc: Orthanc, tmp_path: Path) -> None:
    radiograph, start = chest(tmp_path / "in", 3), site.ledger()
    assert send(site, radiograph).statuses == (0,)
    sent = went_through(site, start, 1, sent=1)["sent"]
    before, held, arrived = site.ledger(), orthanc.count(), orthanc.arrivals().total()
    ours = [each for each in orthanc.instances_of("OT") if each.study_instance_uid == radiograph.study_instance_uid]
    assert len(ours) == sent
    for number, heatmap in enumerate(ours):
        back = orthanc.download(heatmap, tmp_path / f"back-{number}.dcm")
        assert dcmtk.storescu(site.dicom_port, [back]).statuses == (0,)
    added = went_through(site, before, len(ours))
    assert (added["done"], added["not_applicable"], added["sent"]) == (0, len(ours), 0)
    assert orthanc.count() == held
    assert orthanc.arrivals().total() == arrived


def test_every_coding_polarity_and_character_set_goes_through_with_its_identity(
    site: Site, orthanc: Orthanc, foreign_validator: Dicom3tools, tmp_path: Path
) -> None:
    sent, before = list(chests(tmp_path / "in", 8)), site.ledger()
    for radiograph in sent:
        assert send(site, radiograph).statuses == (0,), radiograph.path.name
    added = went_through(site, before, len(sent), sent=len(sent))
    assert (added["done"], added["failed"]) == (len(sent), 0)
    by_study = {each.study_instance_uid: each for each in orthanc.instances_of("OT")}
    for radiograph in sent:
        file = orthanc.download(by_study[radiograph.study_instance_uid], tmp_path / "heatmap.dcm")
        made = described(file)
        assert made.patient_name == radiograph.patient_name
        assert (made.patient_id, made.patient_birth_date) == (radiograph.patient_id, radiograph.patient_birth_date)
        assert radiograph.patient_name in dcmtk.dcmdump(file, "PatientName"), "DCMTK reads another name"
        assert foreign_validator.object(file).errors == ()
        # dcentvfy compares the bytes of names, not what they mean: it can judge where both are written as UTF-8
        if dcmread(radiograph.path, stop_before_pixels=True).SpecificCharacterSet == "ISO_IR 192":
            assert foreign_validator.entities([radiograph.path, file]).errors == ()


def test_the_same_pixels_in_another_coding_get_the_same_probabilities(site: Site, tmp_path: Path) -> None:
    before, codings = site.ledger(), get_args(Coding)
    sent = [chest(tmp_path / f"{number}", 5, coding=coding) for number, coding in enumerate(codings)]
    sent.append(chest(tmp_path / "inverted", 5, polarity="MONOCHROME2"))
    for radiograph in sent:
        assert send(site, radiograph).statuses == (0,)
    assert went_through(site, before, len(sent))["done"] == len(sent)
    read = [{each["label"]: each["probability"] for each in on_worklist(site, each)[0]["findings"]} for each in sent]
    for radiograph, probabilities in zip(sent, read, strict=True):
        assert probabilities == pytest.approx(read[0], abs=1e-4), radiograph.path.name


def test_a_pacs_that_is_down_gets_everything_once_it_is_back(site: Site, orthanc: Orthanc, tmp_path: Path) -> None:
    before, held = site.ledger(), orthanc.count()
    orthanc.kill()
    sent = [chest(tmp_path / "in", number) for number in (6, 7)]
    for radiograph in sent:
        assert send(site, radiograph).statuses == (0,)
    ledger = site.wait_ledger(lambda now: now["done"] == before["done"] + 2, 60, "both read while the PACS is down")
    assert ledger["deliveries"]["pending"] >= 2
    assert ledger["deliveries"]["failed"] == 0
    orthanc.start()
    added = went_through(site, before, 2, sent=2)
    assert orthanc.count() == held + added["sent"]
    assert {each.study_instance_uid for each in sent} <= set(orthanc.studies())


def test_the_logs_of_all_that_show_no_traceback_and_no_identity(site: Site, tmp_path: Path) -> None:
    names = [chest(tmp_path, number) for number in range(8)]
    site.assert_logs_clean([*names, described(sample("RG1_UNCR")), described(sample("RG3_UNCR"))])


def on_worklist(site: Site, radiograph: Radiograph) -> list[dict[str, Any]]:
    """The worklist's items of the study that the radiograph belongs to."""
    return [item for item in site.worklist() if item["study_instance_uid"] == radiograph.study_instance_uid]
