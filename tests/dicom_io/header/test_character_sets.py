"""Names in every encoding that senders write: read right, or shown with replacements, flagged and sent unchanged."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_io.header import parsing
from dicom_io.header.instance_header import read_header
from dicom_io.objects.heatmap_secondary_capture import heatmap_secondary_capture
from tests.dicom_io.images import dicom_file, item, raw_file, sequence, write
from tests.dicom_io.objects.test_heatmap_secondary_capture import REQUEST

KOREAN, CHINESE, JAPANESE = "홍^길동", "王^小东", "山田^太郎"

# SpecificCharacterSet, encoded name, the name
READ: list[tuple[str, bytes, str]] = [
    # code extensions: declared (PS3.5 H, I, K), at other places, undeclared, with the wrong set declared
    ("\\ISO 2022 IR 58", b"Wang^X=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab", f"Wang^X={CHINESE}"),
    ("\\ISO 2022 IR 58", b"\x1b$)A\xcd\xf5^\xd0\xa1\xb6\xab", CHINESE),
    ("\\ISO 2022 IR 58", CHINESE.encode("gb2312"), CHINESE),
    ("", b"Wang^X=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab", f"Wang^X={CHINESE}"),
    ("ISO_IR 100", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", JAPANESE),
    ("", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", JAPANESE),
    ("", b"\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf", KOREAN),
    ("\\ISO 2022 IR 159", b"X=\x1b$(D0!\x1b(B", "X=丂"),
    ("ISO 2022 IR 100\\ISO 2022 IR 144", b"J\xe9r\xf4me=\x1b-L\xbb\xee\xda", "Jérôme=Люк"),
    ("ISO 2022 IR 6\\ISO 2022 IR 100", b"Buc^J\x1b-A\xe9r\xf4me", "Buc^Jérôme"),
    ("ISO 2022 IR 100\\ISO 2022 IR 126", b"\x1b-F\xc4\xe9^\xe9", "Δι^é"),  # the caret ends Greek
    ("\\ISO 2022 IR 149", b"A=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab", "A=洪^吉洞=홍"),
    # terms that are not defined, and misspelt ones
    ("ISO_IR 149", KOREAN.encode("euc_kr"), KOREAN),
    ("EUC-KR", KOREAN.encode("euc_kr"), KOREAN),
    ("ISO 2022 IR 149", KOREAN.encode("euc_kr"), KOREAN),
    ("ISO_IR 58", CHINESE.encode("gb2312"), CHINESE),
    ("GB2312", CHINESE.encode("gb2312"), CHINESE),
    ("ISO 2022 GBK", CHINESE.encode("gbk"), CHINESE),
    ("ISO 8859-1", "Jörg".encode("latin-1"), "Jörg"),
    ("ISO-8859-5", "Иван".encode("iso8859-5"), "Иван"),
    ("ISO_IR_100", "Jörg".encode("latin-1"), "Jörg"),
    ("ISO_IR 203", "Šœ€".encode("iso8859-15"), "Šœ€"),
    ("WINDOWS-1251", "Иван".encode("cp1251"), "Иван"),
    ("UTF8", "Jörg".encode(), "Jörg"),
    ("UTF-8", "Jörg".encode(), "Jörg"),
    ("ISO IR 192", "Jörg".encode(), "Jörg"),
    ("ISO 2022 IR 192", "Jörg".encode(), "Jörg"),
    ("ISO_IR 192\\ISO 2022 IR 87", "Jörg".encode(), "Jörg"),
    # UTF-8 that is undeclared, or declared to be something that it cannot be
    ("", f"{KOREAN}=Jörg".encode(), f"{KOREAN}=Jörg"),
    ("ISO_IR 6", "Nováková".encode(), "Nováková"),
    ("KLINGON", "Nováková".encode(), "Nováková"),
    ("ISO_IR 100", "Müller^Jörg=Groß".encode(), "Müller^Jörg=Groß"),  # 9F of the last letter is no Latin-1
    ("", b"\xef\xbb\xbf" + "Jörg".encode(), "Jörg"),
    ("ISO_IR 192", b"\xef\xbb\xbfDoe", "Doe"),
    # a second byte that is a backslash, a caret or an equals sign
    ("GBK", b"\xd5\x5c\xb2\x5e^\x97\x3d".replace(b"\x97\x3d", b"\xb0\xa1"), "誠瞊^啊"),
    ("GB18030", b"\xd5\x5c^A", "誠^A"),
    ("SHIFT_JIS", "表^ソ".encode("cp932"), "表^ソ"),
    # what may stand in a name of Latin-1
    ("ISO_IR 100", "O´Brien^Mª=Gal·la^Ça".encode("latin-1"), "O´Brien^Mª=Gal·la^Ça"),
    # padding
    ("ISO_IR 100", b"Doe^Jane\0\0\0", "Doe^Jane"),
    ("ISO_IR 192", b"Doe^Jane \0 ", "Doe^Jane"),
    ("ISO_IR 100", b"Doe\0=J", "Doe=J"),
]


@pytest.mark.parametrize(("terms", "encoded", "name"), READ)
def test_a_name_is_read_without_escape_sequences_and_without_a_flag(terms: str, encoded: bytes, name: str) -> None:
    source = raw_file(SpecificCharacterSet=terms.encode(), PatientName=encoded, StudyDescription=encoded)
    header = read_header(source)
    assert (header.patient_name, header.flags) == (name, ())
    sent = sent_for(source)
    assert sent.SpecificCharacterSet == "ISO_IR 192"
    assert parsing.text(sent, "PatientName") == name


# SpecificCharacterSet, encoded name, how it is shown
UNREADABLE: list[tuple[str, bytes, str]] = [
    ("", "Jörg".encode("latin-1"), "J\ufffdrg"),
    ("", CHINESE.encode("gbk"), "\ufffd\ufffd^\ufffd\ufffd\ufffd\ufffd"),
    ("", KOREAN.encode("euc_kr"), "\ufffd\ufffd^\ufffd\ufffd\ufffd\ufffd"),
    ("KLINGON", "Jörg".encode("latin-1"), "J\ufffdrg"),
    ("ISO_IR 192", "Müller^Jörg".encode("latin-1"), "M\ufffdller^J\ufffdrg"),
    ("ISO_IR 192", "Jöß".encode()[:-1], "Jö\ufffd"),  # cut off within a character
    ("ISO_IR 100", "Jörg".encode(), "JÃ¶rg"),
    ("ISO_IR 100", b"Dvo\x9e^A", "Dvo\ufffd^A"),  # of Windows-1252
    ("ISO_IR 100", b"Doe\x07^J\x08ane", "Doe\ufffd^J\ufffdane"),
    ("", "Jörg\x01".encode(), "Jörg\ufffd"),
    ("ISO_IR 100", b"Doe\x1b^Jane", "Doe\ufffd^Jane"),
    ("ISO_IR 100", b"\x1b[31mDoe", "\ufffd[31mDoe"),
    ("", b"\x1b%GDoe", "\ufffdDoe"),
    ("\\ISO 2022 IR 87", b"\x1b$B;3E\x1b(B", "山\ufffd"),
    ("\\ISO 2022 IR 149", b"\x1b$)C\xfb", "\ufffd"),
]


@pytest.mark.parametrize(("terms", "encoded", "shown"), UNREADABLE)
def test_what_cannot_be_decoded_is_replaced_and_flagged_and_sent_with_its_own_bytes(
    terms: str, encoded: bytes, shown: str
) -> None:
    source = raw_file(
        SpecificCharacterSet=terms.encode(), PatientName=encoded, PatientID=encoded, StudyDescription=b"CHEST PA"
    )
    header = read_header(source)
    assert (header.patient_name, header.patient_id) == (shown, shown)
    assert header.flags == ("name not decodable", "patient ID not decodable")
    sent = sent_for(source)
    for keyword in ("PatientName", "PatientID"):
        assert sent.get_item(keyword).value.rstrip(b" ") == encoded, keyword
    assert parsing.character_set_terms(sent) == (terms.split("\\") if terms else [""])
    assert parsing.text(sent, "StudyDescription") == "CHEST PA"


@pytest.mark.parametrize("name", [CHINESE.encode("gbk"), KOREAN.encode("euc_kr"), "Jörg".encode()])
def test_a_name_that_is_hardly_latin_1_is_read_as_declared_and_flagged(name: bytes) -> None:
    source = raw_file(SpecificCharacterSet=b"ISO_IR 100", PatientName=name, StudyDescription="45° ±1".encode("latin-1"))
    header = read_header(source)
    assert (header.patient_name, header.flags) == (name.decode("latin-1"), ("name not decodable",))
    assert header.study_description == "45° ±1"
    assert sent_for(source).get_item("PatientName").value.rstrip(b" ") == name


@pytest.mark.parametrize("term", ["UTF-16", "ROT13", "IDNA"])
def test_a_term_that_is_only_a_codec_of_python_garbles_nothing_of_ours(term: str) -> None:
    sent = sent_for(raw_file(SpecificCharacterSet=term.encode(), PatientName=b"J\xf6rg"))
    assert "SpecificCharacterSet" not in sent
    assert sent.get_item("PatientName").value == b"J\xf6rg"
    assert sent.Manufacturer == "cxr-triage"


@pytest.mark.parametrize(
    ("keyword", "flag"),
    [("AccessionNumber", "accession number"), ("StudyDescription", "study description"), ("PatientID", "patient ID")],
)
def test_identifiers_have_flags_of_their_own(keyword: str, flag: str) -> None:
    header = read_header(raw_file(**{keyword: b"A\xff1"}))
    assert header.flags == (f"{flag} not decodable",)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_bytes_and_terms_of_items_are_kept_too(syntax: str) -> None:
    inner = item(SpecificCharacterSet="ISO_IR 144", PatientID="1", IssuerOfPatientID=("LO", "Иван".encode("iso8859-5")))
    source = dicom_file(
        syntax,
        PatientName=("PN", b"J\xf6rg"),
        OtherPatientNames=("PN", b"A\xff\\B"),
        OtherPatientIDsSequence=sequence(inner, item(PatientID=("LO", b"\xff\xfe"))),
    )
    sent = sent_for(source)
    assert "SpecificCharacterSet" not in sent
    assert sent.get_item("PatientName").value == b"J\xf6rg"
    assert sent.get_item("OtherPatientNames").value == b"A\xff\\B"
    first, second = sent.OtherPatientIDsSequence
    assert parsing.text(first, "IssuerOfPatientID") == "Иван"
    assert second.get_item("PatientID").value == b"\xff\xfe"


@pytest.mark.peer
def test_dcmtk_sees_the_same_bytes_in_source_and_object(tmp_path: Path) -> None:
    for terms, encoded, _ in UNREADABLE:
        source = raw_file(SpecificCharacterSet=terms.encode(), PatientName=encoded)
        made = heatmap_secondary_capture(source, np.zeros((4, 6, 3), np.uint8), REQUEST)[1]
        assert dumped(write(tmp_path, made)) == dumped(write(tmp_path, source))


def dumped(file: Path) -> dict[bytes, bytes]:
    """The values that dcmdump prints, undecoded; an empty SpecificCharacterSet is as good as none."""
    command = ["dcmdump", "+P", "SpecificCharacterSet", "+P", "PatientName", str(file)]
    lines = subprocess.run(command, check=True, capture_output=True).stdout.splitlines()
    return {line[:11]: line[16:].rpartition(b"#")[0].strip() for line in lines if b"(no value" not in line}


def sent_for(source: bytes):
    return dcmread(BytesIO(heatmap_secondary_capture(source, np.zeros((4, 6, 3), np.uint8), REQUEST)[1]))
