"""The heatmap object: identity as the source's, valid by an independent validator, the same bytes each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from uuid import UUID

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread, uid

from dicom_io.gate.decision import decide
from dicom_io.header.instance_header import read_header
from dicom_io.objects.heatmap_pixels import read_heatmap_pixels
from dicom_io.objects.heatmap_secondary_capture import HeatmapRequest, heatmap_secondary_capture
from dicom_io.pixels.grayscale import PixelsUnreadable
from dicom_io.uids import derive_uid
from tests.dicom_io.images import (
    JAPANESE_NAME,
    NAMES,
    STUDY,
    code,
    data_set_of,
    dicom_file,
    image_file,
    item,
    sequence,
    write,
)
from tests.dicom_io.pixels.test_encapsulation import encapsulated, offsets, pieces
from tests.peers.dcmtk import dcmdump
from tests.peers.dicom3tools import Dicom3tools
from tests.peers.radiographs import sample

SITE = UUID("0b9f0f9e-6d0f-4b43-8d23-5b7f1f9f0a11")
PICTURE = np.random.default_rng(7).integers(0, 256, (37, 41, 3), np.uint8)
REQUEST = HeatmapRequest(
    installation_id=SITE,
    object_key="heatmap/1.2.3/abc/Pneumonia/1",
    series_key="series/1.2/abc",
    label="Pneumonia",
    probability=0.8125,
    threshold=0.5,
    model_name="demonstration",
    model_digest="abcdef0123456789",
    application_version="0.1.0",
    created=datetime(2026, 3, 4, 5, 6, 7, 890, tzinfo=UTC),
    pixel_spacing=(0.31234567890123456, 0.4),
    patient_orientation="L\\F",
)


def made(source: Path | bytes, **changes: object):
    _, data = heatmap_secondary_capture(source, PICTURE, replace(REQUEST, **changes))  # type: ignore[arg-type]
    return dcmread(BytesIO(data))


def test_the_picture_and_what_it_says_are_read_back_as_written() -> None:
    sop_instance_uid, data = heatmap_secondary_capture(sample("RG1_UNCR"), PICTURE, REQUEST)
    made_object, source = dcmread(BytesIO(data)), dcmread(sample("RG1_UNCR"), stop_before_pixels=True)
    assert np.array_equal(made_object.pixel_array, PICTURE)
    assert made_object.SOPInstanceUID == sop_instance_uid == derive_uid(SITE, REQUEST.object_key)
    assert made_object.file_meta.MediaStorageSOPInstanceUID == sop_instance_uid
    assert made_object.SeriesInstanceUID == derive_uid(SITE, REQUEST.series_key)
    assert made_object.StudyInstanceUID == source.StudyInstanceUID
    assert (made_object.Modality, made_object.ConversionType, made_object.SeriesNumber) == ("OT", "WSD", 9001)
    assert made_object.ImageType == ["DERIVED", "SECONDARY", "OTHER"]
    assert made_object.SeriesDescription == "AI demonstration - not for diagnosis"
    assert made_object.BurnedInAnnotation == "NO"
    assert made_object.ContentQualification == "RESEARCH"
    assert made_object.PatientOrientation == ["L", "F"]
    assert [float(value) for value in made_object.PixelSpacing] == pytest.approx([0.31234567890123456, 0.4])
    assert "probability 0.8125, threshold 0.5000" in made_object.DerivationDescription
    image = made_object.SourceImageSequence[0]
    assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert "SpatialLocationsPreserved" not in image
    equipment = made_object.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert equipment.DeviceUID == derive_uid(SITE, "device:abcdef0123456789")
    assert equipment.SoftwareVersions == ["0.1.0", "demonstration abcdef0123456789"]
    preserved = made(sample("RG1_UNCR"), spatial_locations_preserved=True, pixel_spacing=None)
    assert preserved.SourceImageSequence[0].SpatialLocationsPreserved == "YES"
    assert "PixelSpacing" not in preserved


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, "NO"),
        ({"BurnedInAnnotation": "NO"}, "NO"),
        ({"BurnedInAnnotation": "YES"}, "YES"),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage}, None),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage, "BurnedInAnnotation": "NO"}, "NO"),
    ],
)
def test_what_identifies_the_patient_in_the_radiograph_does_so_in_its_heatmap(
    attributes: dict[str, object], expected: str | None
) -> None:
    assert made(dicom_file(**attributes)).get("BurnedInAnnotation") == expected


def test_an_int8_copy_is_another_device_and_says_so() -> None:
    whole, int8 = made(sample("RG1_UNCR")), made(sample("RG1_UNCR"), model_variant="int8", instance_number=7)
    assert int8.SoftwareVersions == [*whole.SoftwareVersions, "int8"]
    assert int8.ContributingEquipmentSequence[0].SoftwareVersions == int8.SoftwareVersions
    assert int8.ContributingEquipmentSequence[0].DeviceUID != whole.ContributingEquipmentSequence[0].DeviceUID
    assert "abcdef0123456789 int8;" in int8.DerivationDescription
    assert (whole.InstanceNumber, int8.InstanceNumber) == (1, 7)


def test_the_same_request_gives_the_same_bytes_and_no_clock_or_chance_is_in_them() -> None:
    first = heatmap_secondary_capture(sample("RG1_UNCR"), PICTURE, REQUEST)
    assert heatmap_secondary_capture(sample("RG1_UNCR").read_bytes(), PICTURE.copy(), replace(REQUEST)) == first
    assert heatmap_secondary_capture(sample("RG1_UNCR"), PICTURE, replace(REQUEST, label="Mass"))[1] != first[1]
    other_site = replace(REQUEST, installation_id=UUID(int=3))
    assert heatmap_secondary_capture(sample("RG1_UNCR"), PICTURE, other_site)[0] != first[0]


def test_a_face_can_show_the_picture_of_the_file(tmp_path: Path) -> None:
    assert np.array_equal(read_heatmap_pixels(write(tmp_path, _bytes(sample("RG1_UNCR")))), PICTURE)
    for other in (b"no dicom", dicom_file(), image_file(np.zeros((4, 4), np.uint8))):
        with pytest.raises(PixelsUnreadable):
            read_heatmap_pixels(write(tmp_path, other))


def test_our_own_object_is_never_read_again() -> None:
    _, data = heatmap_secondary_capture(sample("RG1_UNCR"), PICTURE, REQUEST)
    assert decide(read_header(data)).rule == "own object"


@pytest.mark.parametrize(("character_set", "encoded", "decoded"), NAMES)
def test_identity_survives_any_character_set_in_text_and_in_sequences(
    character_set: object, encoded: bytes, decoded: str, tmp_path: Path
) -> None:
    first = encoded.split(b"=")[0]
    plain = decoded.split("=")[0].replace("^", " ")
    source = dicom_file(
        SpecificCharacterSet=character_set,
        PatientName=("PN", encoded),
        PatientID="ID 1",
        StudyDescription=("LO", first),
        OtherPatientNames=("PN", first + b"\\" + first),
        ProcedureCodeSequence=code("1", "99L", meaning=""),
        ReferencedStudySequence=sequence(item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.3")),
        OtherPatientIDsSequence=sequence(item(PatientID="ID 2", IssuerOfPatientID=plain)),
    )
    result = made(source)
    assert result.SpecificCharacterSet == "ISO_IR 192"
    assert result.PatientName == decoded
    assert str(result.StudyDescription) == decoded.split("=")[0]
    assert [str(name) for name in result.OtherPatientNames] == [decoded.split("=")[0]] * 2
    assert result.OtherPatientIDsSequence[0].IssuerOfPatientID == plain
    assert read_header(source).patient_name == read_header(_bytes(source)).patient_name == decoded


@pytest.mark.parametrize("vr", ["UN", "OB", "OW", "US", "FD", "AT", "DS", "DA", "IS", "UI", "UT", "CS"])
def test_identity_in_a_vr_that_is_not_its_own_is_neither_lost_nor_made_a_number(vr: str) -> None:
    source = dicom_file(
        PatientName=(vr, b"Doe^Jane"), PatientID=(vr, b"ID 12345"), PatientBirthDate=(vr, b"19600101"),
        OtherPatientIDsSequence=("LO", b"no items"),
    )  # fmt: skip
    header, result = read_header(source), made(source)
    assert (header.patient_name, header.patient_id, header.patient_birth_date) == ("Doe^Jane", "ID 12345", "19600101")
    written = [result[keyword] for keyword in ("PatientName", "PatientID", "PatientBirthDate")]
    assert [str(element.value) for element in written] == ["Doe^Jane", "ID 12345", "19600101"]
    assert [element.VR for element in written] == ["PN", "LO", "DA"]
    assert "OtherPatientIDsSequence" not in result


@pytest.mark.peer
def test_dcmtk_reads_the_japanese_name_too(tmp_path: Path) -> None:
    source = dicom_file(SpecificCharacterSet=JAPANESE_NAME[0], PatientName=("PN", JAPANESE_NAME[1]))
    assert "山田^太郎" in dcmdump(write(tmp_path, _bytes(source)), "PatientName")


def _bytes(source: Path | bytes) -> bytes:
    return heatmap_secondary_capture(source, PICTURE, REQUEST)[1]


def test_what_the_source_lacks_is_empty_and_what_is_malformed_is_put_right_or_kept() -> None:
    result = made(
        dicom_file(StudyDate=b"1995.07.20", StudyTime=b"11:22:07", PatientAge=b"about 50", PatientSize=b"tall")
    )
    assert (result.PatientName, result.PatientID, result.AccessionNumber, result.StudyID) == ("", "", "", "")
    assert (result.StudyDate, result.StudyTime) == ("19950720", "112207")
    assert (result.PatientAge, result.PatientSize) == ("", None)
    assert result.StudyInstanceUID == STUDY


def test_dates_are_in_the_zone_of_the_source_or_of_the_request() -> None:
    west = made(dicom_file(TimezoneOffsetFromUTC="-0800"))
    assert (west.ContentDate, west.ContentTime, west.TimezoneOffsetFromUTC) == ("20260303", "210607.000890", "-0800")
    local = made(dicom_file(), created=REQUEST.created.astimezone(timezone(timedelta(hours=2))))
    assert (local.ContentDate, local.ContentTime) == ("20260304", "070607.000890")
    assert "TimezoneOffsetFromUTC" not in local
    for malformed in ("+9999", "+0570", "0100", "Z"):
        assert "TimezoneOffsetFromUTC" not in made(dicom_file(TimezoneOffsetFromUTC=malformed))


@pytest.mark.parametrize(
    ("attributes", "syntax", "expected"),
    [
        ({}, uid.ExplicitVRLittleEndian, ("00", None, None)),
        ({"LossyImageCompression": "00"}, uid.ExplicitVRLittleEndian, ("00", None, None)),
        (
            {
                "LossyImageCompression": "01",
                "LossyImageCompressionRatio": "12.5",
                "LossyImageCompressionMethod": "ISO_10918_1",
            },
            uid.ExplicitVRLittleEndian,
            ("01", "12.5", "ISO_10918_1"),
        ),
        ({"LossyImageCompression": "01"}, uid.ExplicitVRLittleEndian, ("01", None, None)),
        ({}, uid.JPEGLosslessSV1, ("00", None, None)),
    ],
)
def test_a_lossy_past_is_carried_over(attributes: dict[str, object], syntax: str, expected: tuple[str, ...]) -> None:
    file = image_file(b"x" * 40, syntax, Rows=8, Columns=8, **attributes)
    if syntax == uid.ExplicitVRLittleEndian:
        file = image_file(np.zeros((8, 8), np.uint16), syntax, **attributes)
    result = made(file)
    written = (
        result.LossyImageCompression,
        result.get("LossyImageCompressionRatio"),
        result.get("LossyImageCompressionMethod"),
    )
    assert tuple(None if value is None else str(value) for value in written) == expected


def test_a_lossy_transfer_syntax_is_a_lossy_past_though_the_header_says_nothing() -> None:
    result = made(image_file(b"x" * 3000, uid.JPEG2000, Rows=100, Columns=100))
    assert (result.LossyImageCompression, result.LossyImageCompressionMethod) == ("01", "ISO_15444_1")
    assert 5 < result.LossyImageCompressionRatio < 7


IMAGE = np.random.default_rng(3).integers(0, 4096, (64, 64)).astype(np.uint16)
BRIGHT = (IMAGE >> 4).astype(np.uint8)


@pytest.mark.parametrize(
    ("frame", "syntax", "stated", "expected"),
    [
        (
            lambda: imagecodecs.jpeg2k_encode(IMAGE, reversible=True, codecformat="J2K"),
            uid.JPEG2000,
            None,
            ("00", None),
        ),
        (
            lambda: imagecodecs.jpeg2k_encode(IMAGE, reversible=True, codecformat="JP2"),
            uid.JPEG2000,
            "00",
            ("00", None),
        ),
        (
            lambda: imagecodecs.jpeg2k_encode(IMAGE, reversible=True, codecformat="J2K"),
            uid.JPEG2000,
            "01",
            ("01", None),
        ),
        (
            lambda: imagecodecs.jpeg2k_encode(IMAGE, level=30, reversible=False, codecformat="J2K"),
            uid.JPEG2000,
            "00",
            ("01", "ISO_15444_1"),
        ),
        (lambda: imagecodecs.jpegls_encode(IMAGE, level=0), uid.JPEGLSNearLossless, None, ("00", None)),
        (lambda: imagecodecs.jpegls_encode(IMAGE, level=3), uid.JPEGLSNearLossless, None, ("01", "ISO_14495_1")),
        (lambda: imagecodecs.ljpeg_encode(IMAGE), uid.JPEGLosslessSV1, None, ("00", None)),
        (lambda: imagecodecs.jpeg8_encode(BRIGHT), uid.JPEG2000Lossless, None, ("01", "ISO_10918_1")),
        (lambda: imagecodecs.jpeg8_encode(BRIGHT), uid.JPEGLosslessSV1, None, ("01", "ISO_10918_1")),
        (lambda: imagecodecs.jpeg8_encode(BRIGHT), uid.JPEGBaseline8Bit, None, ("01", "ISO_10918_1")),
    ],
)
def test_the_codestream_says_whether_it_is_lossy_where_its_transfer_syntax_allows_both(
    frame: Callable[[], bytes], syntax: str, stated: str | None, expected: tuple[str, str | None]
) -> None:
    attributes = {} if stated is None else {"LossyImageCompression": stated}
    result = made(image_file(frame(), syntax, Rows=64, Columns=64, **attributes))
    assert (result.LossyImageCompression, result.get("LossyImageCompressionMethod")) == expected


def test_pixels_under_a_wrong_label_or_offset_table_say_themselves_whether_they_are_lossy() -> None:
    baseline = pieces(imagecodecs.jpeg8_encode(BRIGHT), 3)
    reversible = pieces(imagecodecs.jpeg2k_encode(IMAGE, reversible=True, codecformat="J2K"), 3)
    for syntax in (uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless, uid.JPEG2000):
        result = made(encapsulated(syntax, [offsets(4, 9, 10**6), *baseline]))
        assert (result.LossyImageCompression, result.LossyImageCompressionMethod) == ("01", "ISO_10918_1"), syntax
        assert made(encapsulated(syntax, [offsets(4, 9, 10**6), *reversible])).LossyImageCompression == "00", syntax
    pixels = b"\xe0\x7f\x10\x00OW\0\0" + IMAGE.nbytes.to_bytes(4, "little") + IMAGE.tobytes()
    native = dicom_file(uid.JPEGBaseline8Bit, Rows=64, Columns=64)
    assert made(native + pixels).LossyImageCompression == "00"


@pytest.mark.parametrize(
    ("picture", "changes", "message"),
    [
        (np.zeros((4, 4), np.uint8), {}, r"uint8 \(4, 4\); it must be"),
        (np.zeros((4, 4, 3), np.float32), {}, r"float32 \(4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), {}, "it must be"),
        (PICTURE, {"created": datetime(2026, 1, 1)}, "must have a time zone"),  # noqa: DTZ001
    ],
)
def test_what_cannot_be_made_is_refused_by_name(picture: np.ndarray, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heatmap_secondary_capture(sample("RG1_UNCR"), picture, replace(REQUEST, **changes))  # type: ignore[arg-type]


def test_a_source_without_a_study_gets_no_object() -> None:
    with pytest.raises(ValueError, match="StudyInstanceUID is missing"):
        made(dicom_file(StudyInstanceUID=None))


SOURCES = {
    "RG1": lambda: sample("RG1_UNCR").read_bytes(),
    "RG3": lambda: sample("RG3_J2KR").read_bytes(),
    "bare": dicom_file,
    "thorax": lambda: dicom_file(BodyPartExamined="THORAX", Laterality="L"),
    "hip": lambda: dicom_file(BodyPartExamined="HIP", Laterality="R", TimezoneOffsetFromUTC="+0530"),
    "japanese": lambda: dicom_file(SpecificCharacterSet=JAPANESE_NAME[0], PatientName=("PN", JAPANESE_NAME[1])),
    "no meta": lambda: data_set_of(dicom_file(uid.ImplicitVRLittleEndian)),
}


@pytest.mark.peer
@pytest.mark.parametrize("name", SOURCES)
def test_dciodvfy_finds_no_error(name: str, tmp_path: Path, foreign_validator: Dicom3tools) -> None:
    source, int8 = SOURCES[name](), replace(REQUEST, model_variant="int8", instance_number=12)
    for data in (_bytes(source), heatmap_secondary_capture(source, PICTURE, int8)[1]):
        verdict = foreign_validator.object(write(tmp_path, data))
        assert verdict.errors == (), verdict.output
    assert "SCImage" in verdict.output


@pytest.mark.peer
@pytest.mark.parametrize("name", ["RG1_UNCR", "RG3_UNCR"])
def test_dcentvfy_finds_source_and_heatmap_agree(name: str, tmp_path: Path, foreign_validator: Dicom3tools) -> None:
    verdict = foreign_validator.entities([sample(name), write(tmp_path, _bytes(sample(name)))])
    assert (verdict.errors, verdict.warnings) == ((), ()), verdict.output


@pytest.mark.peer
@pytest.mark.shared_data
def test_every_shared_radiograph_gets_a_valid_heatmap(
    tmp_path: Path, shared_data: Path, foreign_validator: Dicom3tools
) -> None:
    paths = sorted((shared_data / "dicom").glob("*.dcm"))
    assert len(paths) == 12
    for path in paths:
        verdict = foreign_validator.object(write(tmp_path, _bytes(path)))
        assert verdict.errors == (), f"{path.name}: {verdict.output}"
