"""The foreign programs themselves: what the other tests rest on is shown to work before ours is involved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers import dcmtk
from tests.peers.dicom3tools import Dicom3tools
from tests.peers.orthanc import Orthanc
from tests.peers.radiographs import chest, chests, described, sample
from tests.peers.valkey import Valkey

pytestmark = [pytest.mark.end_to_end, pytest.mark.peer]


def test_orthanc_keeps_what_storescu_sends_and_gives_it_back(orthanc: Orthanc, tmp_path: Path) -> None:
    sent = list(chests(tmp_path / "in", 4))
    for radiograph in sent:
        answer = dcmtk.storescu(
            orthanc.dicom_port, [radiograph.path], called="PACS", transfer_syntax=radiograph.transfer_syntax_uid
        )
        assert answer.statuses == (0,), answer.output
    kept = {each.sop_instance_uid: each for each in orthanc.instances()}
    assert set(kept) == {each.sop_instance_uid for each in sent}
    assert orthanc.count() == orthanc.count("CR") == 4
    assert sorted(orthanc.studies()) == sorted(each.study_instance_uid for each in sent)
    for radiograph in sent:
        back = described(orthanc.download(kept[radiograph.sop_instance_uid], tmp_path / "back.dcm"))
        assert (back.patient_name, back.patient_id) == (radiograph.patient_name, radiograph.patient_id)


def test_orthanc_counts_every_arrival_but_keeps_one(orthanc: Orthanc, tmp_path: Path) -> None:
    radiograph = chest(tmp_path)
    for _ in range(2):
        assert dcmtk.storescu(orthanc.dicom_port, [radiograph.path], called="PACS").statuses == (0,)
    assert orthanc.count() == 1
    assert orthanc.arrivals() == {radiograph.sop_instance_uid: 2}


def test_orthanc_survives_a_kill_with_what_it_acknowledged(orthanc: Orthanc, tmp_path: Path) -> None:
    assert dcmtk.storescu(orthanc.dicom_port, [chest(tmp_path).path], called="PACS").acknowledged == 1
    orthanc.kill()
    assert dcmtk.echoscu(orthanc.dicom_port, called="PACS").exit_code != 0
    orthanc.start()
    assert dcmtk.echoscu(orthanc.dicom_port, called="PACS").exit_code == 0
    assert orthanc.count() == 1


def test_a_killed_broker_comes_back_empty(broker: Valkey) -> None:
    broker.command("SET", "dispatcher", "queued")
    assert "queued" in broker.command("GET", "dispatcher")
    broker.kill()
    broker.start()
    assert broker.command("GET", "dispatcher").startswith("$-1")


def test_the_validators_tell_good_from_bad(foreign_validator: Dicom3tools, tmp_path: Path) -> None:
    good = chest(tmp_path, 1)
    bad = chest(tmp_path, 2, Modality=None, ImageType=["NONE"])
    other_patient = chest(tmp_path, 3, study_instance_uid=good.study_instance_uid)
    assert foreign_validator.object(good.path).errors == ()
    assert foreign_validator.object(bad.path).errors != ()
    assert foreign_validator.entities([good.path]).errors == ()
    assert foreign_validator.entities([good.path, other_patient.path]).errors != ()


def test_the_samples_are_the_radiographs_they_are_said_to_be() -> None:
    assert described(sample("RG1_UNCR")).patient_name == "CompressedSamples^RG1"
    assert described(sample("RG3_J2KR")).patient_name == "CompressedSamples^RG3"
    assert "EXTREMITY" in dcmtk.dcmdump(sample("RG3_UNCR"), "BodyPartExamined")
