"""Small DICOM objects with exactly the attributes a test is about, and the real files by name."""

from __future__ import annotations

import struct
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_data_element
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

CR = ComputedRadiographyImageStorage
STUDY, SERIES, INSTANCE = "1.2.3.1", "1.2.3.2", "1.2.3.3"
ENCAPSULATED = "1.2.840.10008.1.2.4"
# SpecificCharacterSet, an encoded name, the name
JAPANESE_NAME = (
    ["", "ISO 2022 IR 87"],
    b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
)
NAMES: list[tuple[str | list[str], bytes, str]] = [
    ("ISO_IR 192", "Nováková^Božena".encode(), "Nováková^Božena"),
    ("ISO_IR 100", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
    ("ISO_IR 144", "Люкceмбypг^Иван".encode("iso8859_5"), "Люкceмбypг^Иван"),
    ("ISO_IR 126", "Διονυσιος".encode("iso8859_7"), "Διονυσιος"),
    ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
    JAPANESE_NAME,
    (["", "ISO 2022 IR 149"], b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
    (
        ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
    ),
]


def item(**attributes: object) -> Dataset:
    """A data set of these attributes; values are taken as they are, valid or not."""
    result = Dataset()
    for keyword, value in attributes.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        vr = "SQ" if isinstance(value, Sequence) else dictionary_VR(tag)
        if isinstance(value, tuple):  # an ambiguous VR, said by the test: ("SS", -5)
            vr, value = value
        if isinstance(value, bytes) and vr not in {"OB", "OW", "UN"}:  # the encoded value, whatever it holds
            padded = value + b" " * (len(value) % 2)
            result[tag] = RawDataElement(Tag(tag), vr, len(padded), padded, 0, False, True, True)
            continue
        result.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))
    return result


def sequence(*items: Dataset) -> Sequence:
    return Sequence(items)


def code(value: str, scheme: str, meaning: str = "meaning") -> Sequence:
    return sequence(item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning))


def dicom_file(transfer_syntax: str = ExplicitVRLittleEndian, **attributes: object) -> bytes:
    """A complete file: a chest CR unless stated otherwise; an attribute of None is left out."""
    defaults: dict[str, object] = {
        "SOPClassUID": CR,
        "SOPInstanceUID": INSTANCE,
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "Modality": "CR",
    }
    merged = {keyword: value for keyword, value in {**defaults, **attributes}.items() if value is not None}
    dataset = item(**merged)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(CR)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(INSTANCE)
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    buffer = BytesIO()
    mode = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with the values is the test's wish
            dcmwrite(buffer, dataset, enforce_file_format=True)
    finally:
        config.settings.writing_validation_mode = mode
    return buffer.getvalue()


def raw_file(**values: bytes) -> bytes:
    """A chest CR whose named attributes hold exactly these bytes, which no DICOM writer has seen, mended or refused."""
    whole = dicom_file()
    start = 144 + int.from_bytes(whole[140:144], "little")  # behind preamble, prefix and file meta (PS3.10 7.1)
    elements: dict[int, bytes] = {}
    for element in dcmread(BytesIO(whole)):
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element)
        elements[element.tag] = buffer.getvalue()
    for keyword, value in values.items():
        tag = Tag(keyword)
        padded = value + b" " * (len(value) % 2)
        vr = b"CS" if keyword == "SpecificCharacterSet" else b"LO"
        elements[tag] = struct.pack("<HH2sH", tag.group, tag.element, vr, len(padded)) + padded
    return whole[:start] + b"".join(elements[tag] for tag in sorted(elements))


def image_file(
    pixels: NDArray[np.generic] | bytes,
    transfer_syntax: str = ExplicitVRLittleEndian,
    **attributes: object,
) -> bytes:
    """A file with pixels: an array [rows, columns] of u1/i1/u2/i2, or an encoded frame with Rows and Columns given."""
    if isinstance(pixels, bytes):
        data, vr = (encapsulate([pixels]), "OB") if transfer_syntax.startswith(ENCAPSULATED) else (pixels, "OB")
        if transfer_syntax == RLELossless:
            data = encapsulate([pixels])
        described: dict[str, object] = {"BitsAllocated": 16}
    else:
        size = pixels.dtype.itemsize
        order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
        data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        vr = "OW" if size > 1 or transfer_syntax == ImplicitVRLittleEndian else "OB"
        described = {
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "BitsAllocated": 8 * size,
            "PixelRepresentation": int(pixels.dtype.kind == "i"),
        }
    merged: dict[str, object] = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelRepresentation": 0,
        **described,
        **attributes,
    }
    merged.setdefault("BitsStored", merged["BitsAllocated"])
    stored = merged["BitsStored"]
    merged.setdefault("HighBit", max(stored - 1, 0) if isinstance(stored, int) else 0)
    merged.setdefault("PixelData", (vr, data + b"\0" * (len(data) % 2)))
    return dicom_file(transfer_syntax, **merged)


def data_set_of(file: bytes) -> bytes:
    """The data set without preamble and file meta, as it goes over the wire."""
    length = int.from_bytes(file[140:144], "little")
    return file[144 + length :]


def write(folder: Path, data: bytes, name: str = "image.dcm") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
