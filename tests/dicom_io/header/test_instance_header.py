"""A header -> its values: decoded text, ages and views by table, and nothing that a header can hold makes it fail."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_io.header.instance_header import CodedValue, UnreadableDicom, read_header
from tests.dicom_io.images import (
    INSTANCE,
    NAMES,
    SERIES,
    STUDY,
    code,
    data_set_of,
    dicom_file,
    image_file,
    item,
    raw_file,
    sequence,
    write,
)
from tests.peers.radiographs import sample

PIXELS = np.zeros((3, 5), np.uint16)

UNUSUAL_NAMES: list[tuple[str | list[str], bytes, str]] = [
    # misspelled, unknown, unannounced, and not in the announced set at all: what is not UTF-8 is not guessed at
    ("ISO-IR 100", "Jörg".encode("latin-1"), "Jörg"),
    ("utf-8", "Jörg".encode(), "Jörg"),
    ("KLINGON", b"Worf^Son of Mogh", "Worf^Son of Mogh"),
    ("", "Jörg".encode(), "Jörg"),
    ("", "Jörg".encode("latin-1"), "J\ufffdrg"),
    ("ISO_IR 192", "Jörg".encode("latin-1"), "J\ufffdrg"),
]


@pytest.mark.parametrize(("character_set", "encoded", "decoded"), [*NAMES, *UNUSUAL_NAMES])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian])
def test_a_name_is_decoded_by_its_character_set(
    character_set: object, encoded: bytes, decoded: str, syntax: str
) -> None:
    data = dicom_file(syntax, SpecificCharacterSet=character_set, PatientName=("PN", encoded))
    assert read_header(data).patient_name == decoded


def test_every_fact_is_read_from_every_uncompressed_syntax() -> None:
    attributes = {
        "ImageType": ["DERIVED", "PRIMARY"],
        "Modality": "cr",
        "PatientID": "77",
        "PatientSex": "F",
        "AccessionNumber": "A1",
        "StudyDate": "20200102",
        "StudyTime": "030405",
        "BodyPartExamined": "chest",
        "SeriesNumber": "4",
        "PatientOrientation": ["L", "F"],
        "AnatomicRegionSequence": code("51185008", "SCT", "Thorax"),
        "ContributingEquipmentSequence": sequence(item(Manufacturer="M", ManufacturerModelName="N", DeviceUID="1.2")),
        "LossyImageCompression": "01",
    }
    for syntax in (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ):
        header = read_header(image_file(PIXELS, syntax, **attributes))
        assert (header.sop_instance_uid, header.study_instance_uid, header.series_instance_uid) == (
            INSTANCE,
            STUDY,
            SERIES,
        )
        assert header.transfer_syntax_uid == syntax
        assert header.image_type == ("DERIVED", "PRIMARY")
        assert (header.modality, header.body_part, header.series_number) == ("CR", "CHEST", 4)
        assert (header.patient_id, header.patient_sex, header.accession_number) == ("77", "F", "A1")
        assert header.patient_orientation == ("L", "F")
        assert header.anatomic_region == CodedValue("51185008", "SCT", "Thorax")
        assert header.contributing_equipment[0].device_uid == "1.2"
        assert (header.rows, header.columns, header.bits_stored, header.lossy) == (3, 5, 16, True)
        assert header.has_pixels


def test_missing_attributes_are_empty_and_not_none() -> None:
    header = read_header(dicom_file())
    assert (header.patient_id, header.patient_name, header.study_date, header.body_part) == ("", "", "", "")
    assert (header.rows, header.frames, header.image_type, header.view, header.age_years) == (0, 1, (), None, None)
    assert not header.has_pixels


def test_preamble_and_meta_may_be_missing(tmp_path: Path) -> None:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        bare = data_set_of(dicom_file(syntax, PatientID="7"))
        assert read_header(bare).patient_id == "7"
        assert read_header(write(tmp_path, bare)).transfer_syntax_uid == syntax


def test_empty_pixel_data_are_no_pixels() -> None:
    assert not read_header(dicom_file(Rows=3, Columns=3, PixelData=("OW", b""))).has_pixels


def test_a_line_of_the_log_cannot_carry_the_patient() -> None:
    header = read_header(
        dicom_file(
            PatientName="Secret^Name",
            PatientID="SECRET-ID",
            PatientBirthDate="19330303",
            AccessionNumber="SECRET-ACC",
            StudyDescription="SECRET-TEXT",
        )
    )
    assert header.patient_name == "Secret^Name"
    assert not any(secret in repr(header).upper() for secret in ("SECRET", "19330303"))


@pytest.mark.parametrize("junk", [b"", b"\0" * 500, b"Dear Mrs Smith, your radiograph", bytes(range(256)) * 4, b"DICM"])
def test_what_is_not_dicom_is_refused_without_quoting_it(junk: bytes) -> None:
    with pytest.raises(UnreadableDicom) as refusal:
        read_header(junk)
    assert "Smith" not in refusal.value.reason


def test_a_file_cut_off_in_its_header_is_not_one_without_pixels() -> None:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        whole = image_file(PIXELS, syntax, PatientName="Doe^Jane", StudyDescription="CHEST PA")
        with pytest.raises(UnreadableDicom, match=r"truncated: \(0010,0010\) PatientName has 3 of 8 bytes$"):
            read_header(whole[: whole.index(b"Doe^") + 3])


def test_a_missing_file_is_an_operating_system_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "absent.dcm")


def test_rg1_says_what_its_header_says() -> None:
    header = read_header(sample("RG1_UNCR"))
    assert (header.body_part, header.view, header.rows, header.columns) == ("CHEST", "PA", 1955, 1841)
    assert header.age_years is None  # a birth date, but no acquisition date: study dates are not trusted for ages
    assert header.image_type == ("DERIVED", "PRIMARY")


KEYWORDS = [
    *("SpecificCharacterSet", "PatientName", "PatientAge", "PatientBirthDate", "AcquisitionDate", "ImageType"),
    *("ViewPosition", "BodyPartExamined", "PatientOrientation", "StudyDescription", "SeriesNumber", "NumberOfFrames"),
    *("StudyDate", "SOPInstanceUID", "Modality", "ContentQualification", "SeriesDescription"),
]
VALUES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [b"", b"\\", b"\\\\\\", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"GB18030\\ISO_IR 100", b"\x1b$B\xff\xff"]
    ),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from([b"-01Y", b"1e9Y", b"00000000", b"99999999", b"20200230", b"NaN", b"inf", b"-5", b"9" * 40]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=st.dictionaries(st.sampled_from(KEYWORDS), VALUES, max_size=6))
@example(values={"SpecificCharacterSet": b"\x00\x01"})
@example(values={"SOPInstanceUID": b"\x80", "SpecificCharacterSet": b"ISO\x00IR 192"})
@example(values={"SpecificCharacterSet": b"ISO_IR 999", "PatientName": b"\xff\xfe=\x1b(J^"})
def test_any_value_of_any_attribute_gives_facts_unless_the_character_set_is_none(values: dict[str, bytes]) -> None:
    data = raw_file(**values)
    with warnings.catch_warnings(record=True) as warned:
        try:
            header = read_header(data)
        except UnreadableDicom as refusal:
            assert b"\0" in values["SpecificCharacterSet"]
            assert refusal.reason.startswith("SpecificCharacterSet contains a null character")
            return
    # pydicom warns of character sets, by their name; a warning that quotes a value would leak it into a log
    assert all("ncod" in str(each.message) or "Character Set" in str(each.message) for each in warned)
    assert header.age_years is None or 0 <= header.age_years <= 130
    assert isinstance(header.patient_name, str)
    assert all(isinstance(value, str) for value in header.image_type)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=600))
def test_any_bytes_give_facts_or_a_reason(data: bytes) -> None:
    for prefix in (b"", bytes(128) + b"DICM", b"\x08\x00\x16\x00UI"):
        try:
            read_header(prefix + data)
        except UnreadableDicom as refusal:
            assert refusal.reason
