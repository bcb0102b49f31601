"""The region: by code, body part and words in many spellings and languages; what is not known says nothing."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes

from dicom_io.gate.region import Region, region_of
from dicom_io.header.instance_header import read_header
from tests.dicom_io.images import code, dicom_file


def region(**attributes: object) -> Region:
    return region_of(read_header(dicom_file(**attributes)))


# a value of Body Part Examined -> whether it is the chest
BODY_PARTS = {
    True: """
        CHEST|chest|CHEST PA|CHEST_PA|CHESTPA|CHESTAP|CHEST 2 VIEWS|CHEST2VIEWS|PORT CHEST|PORTCHEST|CHEST PORTABLE|
        THORAX|THORAX AP|TORAX|TÓRAX|TORACE|TORAKS|LUNG|LUNGS|Lunge|POUMONS|PULMÕES|płuca|Röntgenthorax|BRUSTKORB|
        CHEST,ABDOMEN|CHEST_TO_ABDOMEN|CHESTABDOMEN|CHESTABDPELVIS|NECKCHEST|NECKCHESTABDPELV|BABYGRAM|胸部|흉부|ОГК|
        RIBS AND CHEST
        """,
    False: """
        ABDOMEN|RIB|RIBS|SPINE|CSPINE|TSPINE|T-SPINE|THORACIC SPINE|CTSPINE|LSSPINE|BWS|Brustwirbelsäule|SHOULDER|
        LEFT SHOULDER|CLAVICLE|NECK|HEADNECK|EXTREMITY|HAND|KNEE|LEFTKNEE|Kniegelenk|Hüfte|GENOU|MAIN|CADERA|PIE|
        GINOCCHIO|JOELHO|KNIE|SKULL|FACE|HEAD|ARM|PELVIS|胸椎|腹部|흉추|колено|STERNUM|BREAST|COSTILLAS|CRANEO|POLSO|CRÂNE|TEEN
        """,
    None: "UNKNOWN|NONE|DEFAULT|OTHER|UNDEFINED|XYZ|.|1|HEART|MEDIASTINUM|WHOLEBODY|THORACIC|BRUST|грудной",
}


@pytest.mark.parametrize(
    ("written", "is_chest"),
    [(each.strip(), is_chest) for is_chest, listed in BODY_PARTS.items() for each in listed.split("|")],
)
def test_body_part_is_known_by_its_words(written: str, is_chest: bool | None) -> None:
    assert region(SpecificCharacterSet="ISO_IR 192", BodyPartExamined=("LO", written.encode())).is_chest is is_chest


@pytest.mark.parametrize("unknown", ["UNKNOWN", "NONE", "DEFAULT", "OTHER", ""])
def test_body_part_without_a_known_word_leaves_it_to_the_descriptions(unknown: str) -> None:
    assert region(BodyPartExamined=unknown, StudyDescription="CHEST PA").is_chest
    assert region(BodyPartExamined=unknown, StudyDescription="Left knee").is_chest is False
    assert region(BodyPartExamined=unknown, ProtocolName="Thorax p.a.").is_chest
    assert region(BodyPartExamined=unknown).is_chest is None


CODES: list[tuple[str, str, str, bool | None]] = [
    ("816094009", "SCT", "", True),
    ("51185008", "SCT", "", True),
    ("43799004", "SCT", "", True),
    ("39607008", "SCT", "", True),
    ("T-D3000", "SRT", "", True),
    ("T-D3000", "SNM3", "", True),
    ("T-28000", "SRT", "", True),
    ("416550000", "SCT", "Chest and Abdomen", True),
    ("86598002", "SCT", "Apex of Lung", True),
    ("67734004", "SCT", "", None),
    ("T-28000", "", "", None),
    ("CH1", "99LOCAL", "Chest", True),
    ("KN", "99LOCAL", "Knee", False),
    ("X", "99LOCAL", "X", None),
    ("T-D4000", "SRT", "Abdomen", False),  # of an older edition of the context group
    ("72696002", "SCT", "", False),
    ("122495006", "SCT", "Thoracic spine", False),
    ("T-11300", "SRT", "", False),
    ("113197003", "SCT", "Chest", False),  # a rib, whatever the item calls it
    ("38266002", "SCT", "Entire body", None),
    ("80891009", "SCT", "Heart", None),
]


@pytest.mark.parametrize(("value", "scheme", "meaning", "is_chest"), CODES)
def test_code_of_the_region_counts_where_it_is_known(
    value: str, scheme: str, meaning: str, is_chest: bool | None
) -> None:
    assert region(AnatomicRegionSequence=code(value, scheme, meaning)).is_chest is is_chest
    beside_chest = region(AnatomicRegionSequence=code(value, scheme, meaning), BodyPartExamined="CHEST")
    assert beside_chest.is_chest is (is_chest is not False)


def test_each_region_code_of_the_standard_without_chest_or_lung_in_its_name_is_no_chest() -> None:
    for concept in codes.cid4031.concepts.values():
        found = region(AnatomicRegionSequence=code(concept.value, concept.scheme_designator, "Chest")).is_chest
        assert bool(found) is ("Chest" in concept.meaning or "Lung" in concept.meaning), concept.meaning


FLAGS: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"BodyPartExamined": "CHEST"}, ()),
    ({"BodyPartExamined": "CHEST,ABDOMEN"}, ("more than the chest: ABDOMEN",)),
    ({"BodyPartExamined": "BABYGRAM"}, ("more than the chest: BABYGRAM",)),
    ({"StudyDescription": "CHEST AND ABDOMEN"}, ()),
    (
        {"BodyPartExamined": "HAND", "AnatomicRegionSequence": code("T-D3000", "SRT")},
        ("region contradictory: BodyPartExamined is HAND",),
    ),
    (
        {"BodyPartExamined": "CHEST", "SeriesDescription": "left KNEE of Miller"},
        ("region contradictory: a description of study, series or protocol says KNEE",),
    ),
    ({"BodyPartExamined": "CHEST", "StudyDescription": "CHEST AND ABDOMEN"}, ()),
]


@pytest.mark.parametrize(("attributes", "flags"), FLAGS)
def test_what_contradicts_the_chest_or_is_shown_beside_it_is_flagged(
    attributes: dict[str, object], flags: tuple[str, ...]
) -> None:
    found = region(**attributes)
    assert (found.is_chest, found.flags) == (True, flags)


@pytest.mark.parametrize("text", ["Dr. Crane", "TEEN, PEDIATRIC", "MAIN CAMPUS", "HEAD OF BED 30", "port a cath"])
def test_word_that_is_a_region_only_as_a_body_part_refuses_no_image(text: str) -> None:
    assert region(StudyDescription=text).is_chest is None


def test_series_says_more_of_an_image_than_its_study() -> None:
    assert region(StudyDescription="CHEST AND KNEE", SeriesDescription="KNEE AP").is_chest is False
    assert region(StudyDescription="KNEE", SeriesDescription="CHEST AP").is_chest
