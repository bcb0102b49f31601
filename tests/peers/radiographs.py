"""Real radiographs for the tests, from the package pydicom-data, and variants of them as a modality would send.

No test image is drawn by hand: RG1 is a real adult chest radiograph, RG3 a real extremity. The variants change
size, coding, identity and polarity, never what the image shows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

from tests.peers.programs import absent

Coding = Literal["uncompressed", "rle", "jpeg2000"]
ROWS, COLUMNS = 1024, 960
MAXIMUM = 2**15 - 1

# Names as they occur: scripts with a character set of their own, several components, hyphens, apostrophes.
NAMES = (
    ("Nováková^Božena", "ISO_IR 192"),
    ("Müller-Lüdenscheidt^Jörg^^Dr.", "ISO_IR 100"),
    ("Люкceмбypг", "ISO_IR 144"),
    ("Διονυσιος", "ISO_IR 126"),
    ("Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 192"),
    ("O'Brien^Siobhán^Mary", "ISO_IR 100"),
    ("قباني^لنزار", "ISO_IR 127"),
    ("王小明^Wang", "GB18030"),
)


@dataclass(frozen=True)
class Radiograph:
    """A file to send, and the identity that was planted in it."""

    path: Path
    sop_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    patient_name: str
    patient_id: str
    patient_birth_date: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no log line may carry."""
        names = self.patient_name.replace("=", "^").split("^")[:2]
        return tuple(each for each in (*names, self.patient_id, self.patient_birth_date) if len(each) > 2)


def sample(name: str) -> Path:
    """A file of pydicom-data: ``RG1_UNCR`` (chest, uncompressed), ``RG3_J2KR`` (extremity, JPEG 2000 lossless)."""
    found = importlib.util.find_spec("data_store")
    if found is None or not found.submodule_search_locations:
        absent("pydicom-data: pip install pydicom-data")
    path = Path(found.submodule_search_locations[0]) / "data" / f"{name}.dcm"
    if not path.is_file():
        absent(f"pydicom-data has no {path.name}")
    return path


def described(path: Path) -> Radiograph:
    """The identity in an existing file."""
    header = dcmread(path, stop_before_pixels=True)
    return Radiograph(
        path=path,
        sop_instance_uid=str(header.SOPInstanceUID),
        study_instance_uid=str(header.StudyInstanceUID),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
        patient_name=str(header.get("PatientName", "")),
        patient_id=str(header.get("PatientID", "")),
        patient_birth_date=str(header.get("PatientBirthDate", "")),
    )


def chest(
    folder: Path,
    number: int = 0,
    *,
    coding: Coding = "uncompressed",
    polarity: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME1",
    study_instance_uid: str | None = None,
    **changes: object,
) -> Radiograph:
    """Write one chest radiograph of 1024 x 960, 15 of 16 bits, with identity and pixels of its own.

    Parameters
    ----------
    number
        Chooses identity and a shift of the pixels by so many columns; everything but the UIDs follows from it.
    changes
        DICOM keywords to set; None deletes the element.
    """
    header = dcmread(sample("RG1_UNCR"), stop_before_pixels=True)
    pixels = np.roll(_small_chest(), number, axis=1)
    if polarity == "MONOCHROME2":
        pixels = (MAXIMUM - pixels).astype(np.uint16)
        # Where the mirrored window lies exactly, the function being half a step off its centre (PS3.3 C.11.2.1.2.1).
        header.WindowCenter = MAXIMUM + 1 - header.WindowCenter
    name, character_set = NAMES[number % len(NAMES)]
    patient_name = _numbered(name, number)
    header.SpecificCharacterSet = character_set
    header.PatientName = patient_name
    header.PatientID = f"HIS-{70000 + number}"
    header.PatientBirthDate = f"19{50 + number % 40:02}0{1 + number % 9}1{number % 10}"
    header.PatientAge, header.StudyDate = f"{74 - number % 40:03}Y", "20241231"
    header.StudyInstanceUID = study_instance_uid or generate_uid(prefix=None)
    header.SeriesInstanceUID = generate_uid(prefix=None)
    header.SOPInstanceUID = generate_uid(prefix=None)
    header.AccessionNumber = f"ACC{number:06}"
    header.StudyID = f"S{number}"
    header.Rows, header.Columns = ROWS, COLUMNS
    header.PhotometricInterpretation = polarity
    header.PixelSpacing = header.ImagerPixelSpacing = [0.375, 0.375]
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    _encode(header, pixels, coding)
    for keyword, value in changes.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"chest-{number:03}-{coding}-{polarity}.dcm"
    header.save_as(path, enforce_file_format=True)
    return described(path)


def chests(folder: Path, count: int) -> Iterator[Radiograph]:
    """`count` chest radiographs of as many patients; a mix of codings and both polarities."""
    codings: tuple[Coding, ...] = ("uncompressed", "uncompressed", "rle", "jpeg2000")
    for number in range(count):
        polarity: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2" if number % 3 == 2 else "MONOCHROME1"
        yield chest(folder, number, coding=codings[number % len(codings)], polarity=polarity)


def _numbered(name: str, number: int) -> str:
    """The name, made distinct by ASCII initials that every character set can write."""
    first, *rest = name.split("=")
    return "=".join([first + "^" * max(0, 2 - first.count("^")) + f"Q{number}", *rest])


def _encode(header: Dataset, pixels: npt.NDArray[np.uint16], coding: Coding) -> None:
    if coding == "jpeg2000":
        import imagecodecs

        header.file_meta.TransferSyntaxUID = JPEG2000Lossless
        header.PixelData = encapsulate(
            [bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0))]
        )
        header["PixelData"].VR = "OB"
        return
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OW"
    if coding == "rle":
        header.compress(RLELossless, generate_instance_uid=False)


@cache
def _small_chest() -> npt.NDArray[np.uint16]:
    full = dcmread(sample("RG1_UNCR")).pixel_array.astype(np.float32)
    return np.asarray(cv2.resize(full, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA), dtype=np.uint16)
