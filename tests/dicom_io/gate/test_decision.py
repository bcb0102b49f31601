"""Which images are read: every rule with what it refuses and what it lets pass, then the real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from dicom_io.gate.decision import GateRules, decide
from dicom_io.header.instance_header import read_header
from tests.dicom_io.images import code, dicom_file, image_file, item, sequence
from tests.peers.radiographs import sample

PIXELS = np.zeros((512, 600), np.uint8)
CHEST: dict[str, object] = {"BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientAge": "050Y"}
DX, DX_PROCESSING = DigitalXRayImageStorageForPresentation, DigitalXRayImageStorageForProcessing
SC, CT = SecondaryCaptureImageStorage, CTImageStorage


def decided(rules: GateRules | None = None, is_own: bool = False, **attributes: object):
    return decide(read_header(image_file(PIXELS, **{**CHEST, **attributes})), rules, is_own)


ACCEPTED = [
    ({}, ()),
    ({"SOPClassUID": DX}, ()),
    ({"BodyPartExamined": "THORAX"}, ()),
    ({"BodyPartExamined": "lung"}, ()),
    ({"BodyPartExamined": "", "AnatomicRegionSequence": code("816094009", "SCT")}, ()),
    (
        {"BodyPartExamined": "HAND", "AnatomicRegionSequence": code("T-D3000", "SRT")},
        ("region contradictory: BodyPartExamined is HAND",),
    ),
    ({"ViewPosition": "AP SUPINE"}, ()),
    ({"ViewPosition": "PORTABLE"}, ()),
    ({"ViewPosition": "STEHEND"}, ("view unknown",)),
    (
        {"ViewCodeSequence": code("399348003", "SCT")},
        ("view contradictory: ViewPosition is PA, ViewCodeSequence is AP", "view unknown"),
    ),
    ({"SeriesDescription": "PA AND LAT"}, ()),
    ({"StudyDescription": "CHEST 2 VIEWS PA/LAT"}, ()),
    ({"StudyDescription": "CHEST LATERAL"}, ()),
    ({"ViewPosition": "LLD"}, ("view LLD: neither PA nor AP",)),
    ({"BodyPartExamined": "", "StudyDescription": "CHEST AND ABDOMEN"}, ()),
    ({"BodyPartExamined": "", "ProcedureCodeSequence": code("X1", "99L", "XR Thorax")}, ()),
    ({"BodyPartExamined": ""}, ("region unknown",)),
    ({"BodyPartExamined": "", "StudyDescription": "emergency"}, ("region unknown",)),
    ({"ViewPosition": ""}, ("view unknown",)),
    ({"ViewPosition": "AP"}, ()),
    ({"PatientAge": ""}, ("age unknown",)),
    ({"PatientAge": "003Y"}, ()),
    (
        {"PatientAge": "050Y", "PatientBirthDate": "20190101", "AcquisitionDate": "20240601"},
        ("age contradictory: PatientAge and PatientBirthDate are more than two years apart",),
    ),
    ({"ImageType": ["DERIVED", "PRIMARY"]}, ()),
    ({"ContentQualification": "PRODUCT"}, ()),
    ({"QualityControlImage": "NO"}, ()),
    ({"PatientSpeciesDescription": "Homo sapiens"}, ()),
    ({"PatientSpeciesCodeSequence": code("337915000", "SCT")}, ()),
    ({"ContributingEquipmentSequence": sequence(item(Manufacturer="Another"))}, ()),
]

REFUSED = [
    ({"SOPClassUID": CT}, "sop class", "SOPClassUID is CT Image Storage: not a radiograph (CR or DX)"),
    ({"SOPClassUID": SC}, "sop class", "SOPClassUID is Secondary Capture Image Storage: not a radiograph (CR or DX)"),
    ({"SOPClassUID": "9.8.7"}, "sop class", "SOPClassUID is 9.8.7: not a radiograph (CR or DX)"),
    (
        {"SOPClassUID": DX_PROCESSING},
        "sop class",
        "SOPClassUID is Digital X-Ray Image Storage - For Processing: only images for presentation are read",
    ),
    (
        {"PresentationIntentType": "FOR PROCESSING"},
        "presentation intent",
        "PresentationIntentType is FOR PROCESSING: only images for presentation are read",
    ),
    ({"PixelData": ("OW", b"")}, "pixel data", "PixelData is missing or empty: no pixel data"),
    ({"Rows": 0}, "pixel data", "Rows is 0 and Columns is 600: no pixel data"),
    ({"NumberOfFrames": "2"}, "single frame", "NumberOfFrames is 2: only single images are read"),
    ({"SamplesPerPixel": 3}, "grayscale", "SamplesPerPixel is 3: not a grayscale image"),
    (
        {"PhotometricInterpretation": "PALETTE COLOR"},
        "grayscale",
        "PhotometricInterpretation is PALETTE COLOR: not a grayscale image",
    ),
    ({"Rows": 511}, "size", "Rows x Columns is 511 x 600: the short side is under 512 pixels"),
    ({"BodyPartExamined": "EXTREMITY"}, "region", "BodyPartExamined is EXTREMITY: not a chest"),
    (
        {"AnatomicRegionSequence": code("72696002", "SCT", "Knee")},
        "region",
        "AnatomicRegionSequence is 72696002 SCT: not a chest",
    ),
    (
        {"BodyPartExamined": "", "SeriesDescription": "Left knee of Mr Miller"},
        "region",
        "a description of study, series or protocol says KNEE: not a chest",
    ),
    ({"ViewPosition": "LL"}, "view", "ViewPosition is LATERAL: only frontal views are read"),
    (
        {"ViewPosition": "", "ViewCodeSequence": code("399173006", "SCT")},
        "view",
        "ViewCodeSequence is LATERAL: only frontal views are read",
    ),
    (
        {"PatientOrientation": ["A", "F"]},
        "view",
        "PatientOrientation is LATERAL, although ViewPosition is PA: only frontal views are read",
    ),
    (
        {"ViewPosition": "", "PatientOrientation": ["P", "F"]},
        "view",
        "PatientOrientation is LATERAL: only frontal views are read",
    ),
    ({"ViewCodeSequence": code("399173006", "SCT")}, "view", None),
    ({"ViewPosition": "", "StudyDescription": "CHEST LATERAL"}, "view", None),
    ({"ImageType": ["DERIVED", "SECONDARY"]}, "image type", "ImageType contains SECONDARY: not an original image"),
    ({"ImageType": "ORIGINAL PRIMARY LOCALIZER"}, "image type", "ImageType contains LOCALIZER: not an original image"),
    ({"QualityControlImage": "YES"}, "quality control", "QualityControlImage is YES: not an image of a patient"),
    ({"BodyPartExamined": "PHANTOM"}, "quality control", None),
    ({"BodyPartExamined": "CHEST PHANTOM"}, "quality control", None),
    ({"AnatomicRegionSequence": code("R-FE0C7", "SRT")}, "quality control", None),
    ({"SeriesDescription": "phantom, daily"}, "quality control", None),
    (
        {"ContentQualification": "RESEARCH"},
        "content qualification",
        "ContentQualification is RESEARCH: only PRODUCT images are read",
    ),
    (
        {"PatientSpeciesDescription": "Canis lupus"},
        "species",
        "PatientSpeciesDescription is other than human: not a human",
    ),
    ({"PatientSpeciesCodeSequence": code("125099002", "SCT")}, "species", None),
    (
        {"ProtocolName": "CANINE THORAX"},
        "species",
        "a description of study, series or protocol says CANINE: not a human",
    ),
    ({"Manufacturer": "cxr-triage", "ManufacturerModelName": "cxr-triage"}, "own object", None),
    (
        {
            "ContributingEquipmentSequence": sequence(
                item(Manufacturer="PACS"), item(Manufacturer="cxr-triage", ManufacturerModelName="cxr-triage")
            )
        },
        "own object",
        None,
    ),
]


@pytest.mark.parametrize(("attributes", "flags"), ACCEPTED)
def test_what_is_or_may_be_a_frontal_chest_is_read_with_its_flags(
    attributes: dict[str, object], flags: tuple[str, ...]
) -> None:
    decision = decided(**attributes)
    assert decision.accepted, decision.reason
    assert decision.rule == "accepted"
    assert decision.flags == flags


@pytest.mark.parametrize(("attributes", "rule", "reason"), REFUSED)
def test_what_is_something_else_is_refused_with_attribute_and_value(
    attributes: dict[str, object], rule: str, reason: str | None
) -> None:
    decision = decided(**attributes)
    assert not decision.accepted
    assert decision.rule == rule
    assert reason is None or decision.reason == reason
    assert decision.flags == ()


def test_no_reason_and_no_fact_quotes_free_text() -> None:
    secrets: dict[str, object] = {
        "PatientName": "Miller^Jane",
        "PatientID": "ID-4711",
        "PatientBirthDate": "19331224",
        "StudyDescription": "knee of Miller",
        "BodyPartExamined": "",
        "AccessionNumber": "ACC-4711",
    }
    for attributes in (
        secrets,
        {**secrets, "StudyDescription": "Miller chest"},
        {**secrets, "BodyPartExamined": "Müller!"},
    ):
        decision = decided(**attributes)
        shown = f"{decision.reason} {decision.header_values}".upper()
        assert not any(secret in shown for secret in ("MILLER", "4711", "19331224", "JANE", "MÜLLER"))


def test_no_pixels_at_all_is_refused() -> None:
    decision = decide(read_header(dicom_file(**CHEST, Rows=2000, Columns=2000)))
    assert (decision.accepted, decision.rule) == (False, "pixel data")


def test_our_own_instance_is_refused_before_anything_else() -> None:
    assert decided(is_own=True, SOPClassUID=CT).rule == "own object"


def test_a_site_decides_size_region_and_secondary_captures() -> None:
    assert decided(GateRules(minimum_short_side=1000)).rule == "size"
    assert decided(GateRules(minimum_short_side=100), Rows=200).accepted
    flagged = decided(GateRules(small_images="flag"), Rows=200)
    assert flagged.accepted
    assert flagged.flags == ("small image: 200 pixels, under 512",)
    assert decided(GateRules(unknown_region="refuse"), BodyPartExamined="").rule == "region"
    capture = {"SOPClassUID": SC, "ImageType": ["DERIVED", "SECONDARY"]}
    assert decided(GateRules(accept_secondary_capture=True), **capture).accepted
    assert decided(GateRules(accept_secondary_capture=True), ImageType=["DERIVED", "SECONDARY"]).rule == "image type"


@pytest.mark.parametrize("name", ["RG1_UNCR", "RG1_UNCI", "RG1_J2KR", "RG1_J2KI"])
def test_rg1_is_read_with_its_age_unknown(name: str) -> None:
    decision = decide(read_header(sample(name)))
    assert decision.accepted
    assert decision.flags == ("age unknown",)
    assert decision.reason == "BodyPartExamined is CHEST, view PA: read as a frontal chest radiograph"


@pytest.mark.parametrize("name", ["RG3_UNCR", "RG3_UNCI", "RG3_J2KR", "RG3_J2KI"])
def test_rg3_is_refused_as_an_extremity(name: str) -> None:
    decision = decide(read_header(sample(name)))
    assert (decision.accepted, decision.reason) == (False, "BodyPartExamined is EXTREMITY: not a chest")


@pytest.mark.shared_data
def test_every_shared_file_gets_its_verdict(shared_data: Path) -> None:
    verdicts = {path.name: decide(read_header(path)).rule for path in sorted((shared_data / "dicom").glob("*.dcm"))}
    expected = {
        "fodicom_CR-MONO1-10-chest_no_meta.dcm": "size",
        "highdicom_dx_dog_thorax.dcm": "size",
        "wg04_RG1_chest_J2KI.dcm": "accepted",
        "wg04_RG1_chest_JLSN.dcm": "accepted",
        "wg04_RG2_hip_JPLL.dcm": "region",
        **{
            f"wg04_RG3_extremity_{kind}.dcm": "region"
            for kind in ("J2KI", "J2KR", "JLSL", "JLSN", "JPLL", "JPLY", "RLE")
        },
    }
    assert verdicts == expected
    dog = decide(read_header(shared_data / "dicom" / "highdicom_dx_dog_thorax.dcm"), GateRules(small_images="flag"))
    assert (dog.rule, dog.accepted) == ("view", False)
    sample_radiograph = read_header(shared_data / "dicom" / "fodicom_CR-MONO1-10-chest_no_meta.dcm")
    assert decide(sample_radiograph, GateRules(small_images="flag")).flags == (
        "age unknown",
        "small image: 440 pixels, under 512",
    )
