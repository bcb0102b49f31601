"""Whatever stands in a header: header, gate and copied identity come to an end, and the patient stays the same."""

from __future__ import annotations

from io import BytesIO

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from dicom_io.gate.decision import GateRules, decide
from dicom_io.header.instance_header import InstanceHeader, UnreadableDicom, read_header
from dicom_io.header.parsing import parse_header, text
from dicom_io.objects.patient_and_study import copy_identity
from dicom_io.receive.store_request import StoreRejected, StoreRequest, examine
from tests.dicom_io.images import CR, INSTANCE, data_set_of, raw_file

TERMS = [b"", b"ISO_IR 6", b"ISO_IR 100", b"ISO_IR 192", b"GB18030", b"GBK", b"ISO_IR 13", b"ISO_IR 166", b"utf8"]
TERMS += [b"ISO 2022 IR 6", b"ISO 2022 IR 87", b"ISO 2022 IR 149", b"ISO 2022 IR 58", b"ISO 2022 IR 159", b"LATIN-9"]
TERMS += [b"\0", b"\xff", b"ISO_IR", b"../../x", b" ISO_IR 100 ", b"iso-ir-101", b"-" * 64]
CHARACTER_SETS = st.lists(st.one_of(st.sampled_from(TERMS), st.binary(max_size=20)), max_size=4).map(b"\\".join)
PIECES = [b"Yamada^Tarou", b"=", b"^", b"\\", b"\x1b$B;3ED\x1b(J", b"\x1b$)C\xfb\xf3", b"\x1b", b"\xc4\xe4\xff", b"\0"]
PIECES += ["Nováková".encode(), "山田".encode("gb18030"), b"\xef\xbb\xbf", b" ", b"a" * 3000, b"\x1b$"]
WORDS = st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join))
DATES = [b"", b"19700101", b"00000000", b"99999999", b"20250230", b"1970.01.01", b"-1", b"19700101\\20000101", b"1970"]
DATES += [b"10000101-20000101", "１９７０".encode(), b"\0" * 8, b"197001011"]
AGES = [
    b"",
    b"054Y",
    b"999Y",
    b"-01Y",
    b"0.5Y",
    b"000D",
    b"054",
    b"Y",
    b"54 Y",
    b"054Y\\003M",
    b"1e3Y",
    "٠٥٤Y".encode(),
]
NUMBERS = [b"", b"0", b"-1", b"65536", b"1e309", b"nan", b"inf", b"1\\2\\3", b"0x10", b"9" * 400, b"2147483648"]
TEXT_KEYWORDS = ("PatientName", "PatientID", "StudyDescription", "SeriesDescription", "ProtocolName", "AccessionNumber")
CODED_KEYWORDS = ("BodyPartExamined", "ViewPosition", "ImageType", "PatientSex", "PatientOrientation", "Manufacturer")
HEADERS = st.fixed_dictionaries(
    {"SpecificCharacterSet": CHARACTER_SETS},
    optional={
        **dict.fromkeys((*TEXT_KEYWORDS, *CODED_KEYWORDS, "PatientSpeciesDescription", "ContentQualification"), WORDS),
        **dict.fromkeys(
            ("PatientBirthDate", "AcquisitionDate", "StudyDate", "StudyTime"), st.one_of(st.sampled_from(DATES), WORDS)
        ),
        "PatientAge": st.one_of(st.sampled_from(AGES), WORDS),
        **dict.fromkeys(("SeriesNumber", "InstanceNumber", "NumberOfFrames"), st.sampled_from(NUMBERS)),
        **dict.fromkeys(("StudyInstanceUID", "SOPInstanceUID", "SeriesInstanceUID"), st.sampled_from(DATES + PIECES)),
    },
)


@settings(max_examples=150, deadline=None)
@given(header=HEADERS)
def test_any_header_gives_facts_and_a_decision_or_a_named_refusal(header: dict[str, bytes]) -> None:
    file = raw_file(**header)
    try:
        header = read_header(file)
    except UnreadableDicom as refusal:
        assert refusal.reason
        return
    assert isinstance(header, InstanceHeader)
    assert header.age_years is None or 0 <= header.age_years <= 130
    for rules in (GateRules(), GateRules(unknown_region="refuse", small_images="flag", accept_secondary_capture=True)):
        decision = decide(header, rules)
        assert decision.reason
        assert len(decision.reason) < 400
        decision.reason.encode("utf-8")
    try:
        examine(StoreRequest(CR, INSTANCE, CR, ExplicitVRLittleEndian, data_set_of(file)))
    except StoreRejected as refusal:
        assert refusal.reason


@settings(max_examples=120, deadline=None)
@given(header=HEADERS)
@example(header={"SpecificCharacterSet": b"", "PatientName": b"\x01\x00="})
def test_identity_of_any_header_is_copied_and_reads_the_same_in_the_copy(header: dict[str, bytes]) -> None:
    try:
        source, _ = parse_header(raw_file(**header))
        before = {keyword: text(source, keyword) for keyword in TEXT_KEYWORDS[:2]}
    except UnreadableDicom:
        return
    copied = _written(source)
    for keyword, value in before.items():
        # padding of a member and of the whole is no part of a value (PS3.5 6.2)
        is_, was = _members(text(copied, keyword)), _members(value)
        if (
            keyword == "PatientName"
        ):  # nor are delimiters of missing component groups, and padding before them (6.2.1.1)
            is_, was = [name.rstrip("=\0 ") for name in is_], [name.rstrip("=\0 ") for name in was]
        assert is_ == was


ENCODED = {
    "ISO_IR 100": "latin-1",
    "ISO_IR 101": "iso8859-2",
    "ISO_IR 144": "iso8859-5",
    "ISO_IR 126": "iso8859-7",
    "ISO_IR 127": "iso8859-6",
    "ISO_IR 138": "iso8859-8",
    "ISO_IR 148": "iso8859-9",
    "ISO_IR 166": "iso8859-11",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
}


def _letters(codec: str) -> str:
    """Letters and signs of a character set, without those that part a name's components."""
    if codec in {"utf-8", "gb18030"}:
        return "".join(map(chr, (*range(0xA1, 0x250), *range(0x4E00, 0x4F00), 0x20000, 0x1F480)))
    return bytes(range(0xA1, 0x100)).decode(codec, "ignore").replace("\xad", "") + "Az09'-"


@settings(max_examples=150, deadline=None)
@given(term=st.sampled_from(sorted(ENCODED)), data=st.data())
def test_a_name_in_any_character_set_round_trips_exactly(term: str, data: st.DataObject) -> None:
    name = data.draw(st.text(st.sampled_from(LETTERS[term]), min_size=1, max_size=20))
    file = raw_file(SpecificCharacterSet=term.encode(), PatientName=f"{name}^Q1".encode(ENCODED[term]))
    header, _ = parse_header(file)
    assert text(header, "PatientName") == f"{name}^Q1"
    assert str(_written(header).PatientName) == f"{name}^Q1"


LETTERS = {term: _letters(codec) for term, codec in ENCODED.items()}


def _members(value: str) -> list[str]:
    return [member.strip("\0 \t\r\n") for member in value.split("\\")]


def _written(source: Dataset) -> Dataset:
    """The identity of `source` in an object of ours, written and read back."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    copy_identity(source, made)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, made, implicit_vr=False, little_endian=True)
    return dcmread(BytesIO(buffer.getvalue()), force=True)
