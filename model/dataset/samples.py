"""Data classes of labelled image collections: sources, samples, image metadata, problems of files."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from model.dataset.part_names import part_of

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
"""Suffixes, in lower case, of tables of labels."""

DEFAULT_PATIENT_PATTERN = r"^(person\d+|NORMAL2-IM-\d+|IM-\d+|\d{8}(?=_\d+$))"
"""Matches the patient in file names of the Kermany collection and ChestX-ray14; other files: one patient per file."""

_PATIENT_FOLDER = re.compile(r"(?:patient|person|subject|pat|p)[-_ ]?\d+", re.IGNORECASE)

Uncertain = Literal["ignore", "zero", "one"]
"""How a label of -1 counts (CheXpert's U-Ignore, U-Zeros, U-Ones; Irvin et al. 2019): unknown, absent, present."""


class DatasetInvalid(ValueError):
    """The data cannot be used; the message names the file or folder and what is expected there."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True)
class Source:
    """A folder or table of images and its domain: the population they are from, such as adults or a hospital.

    Written ``domain=folder`` on a command line; without a domain, the folder's name is the domain.

    Attributes
    ----------
    folder
        A folder of class folders, a folder with a CSV table and its images, or a CSV file.
    domain
        Name without ``: / | ,``.
    patient_pattern
        Regular expression whose first group, in a file's name, is the patient; for images whose patient neither the
        table nor the file's header gives.
    uncertain
        How a label of -1 counts.

    Raises
    ------
    DatasetInvalid
        `domain` or `uncertain` is not allowed.
    """

    folder: Path
    domain: str
    patient_pattern: str = DEFAULT_PATIENT_PATTERN
    uncertain: Uncertain = "ignore"

    def __post_init__(self) -> None:
        if self.uncertain not in get_args(Uncertain):
            raise DatasetInvalid(f"uncertain is {self.uncertain!r}; allowed are {', '.join(get_args(Uncertain))}")
        if not self.domain or any(character in self.domain for character in ":/|,"):
            raise DatasetInvalid(f"the domain {self.domain!r} is no name: it may not be empty or hold : / | ,")

    @classmethod
    def parse(cls, text: str, uncertain: Uncertain = "ignore") -> "Source":
        """Read ``domain=folder`` or ``folder``."""
        domain, separator, folder = text.partition("=")
        path = Path(folder if separator else text).expanduser()
        named = path.resolve() if path.suffix.lower() not in TABLE_SUFFIXES else path.resolve().parent
        if part_of(named.name) and named.parent.name:  # chest_xray/train and chest_xray/test are one population
            named = named.parent
        return cls(path, domain if separator else named.name, uncertain=uncertain)

    def patient_of(self, path: Path) -> str:
        """Return the patient in a file's name, or in that of a folder (``patient00012``); else nothing."""
        match = re.search(self.patient_pattern, path.stem)
        if match:
            return match.group(1)
        folders = path.parent.parts[len(self.folder.parts) :] if path.is_relative_to(self.folder) else ()
        return next((name for name in reversed(folders) if _PATIENT_FOLDER.fullmatch(name)), "")


@dataclass(frozen=True)
class Sample:
    """One image with its patient, labels and metadata.

    Attributes
    ----------
    path, domain
        The file, and the domain of its source.
    patient
        Identifier, prefixed by the domain.
    labels
        1.0 present, 0.0 absent; missing or nan: unknown.
    sha256
        Of the file, as hex: equal for byte-identical duplicates.
    age
        Years, or None. ChestX-ray14 has whole years.
    view
        View position such as PA, or None.
    sex
        F, M, O, or None.
    duplicate_group
        Equal for images of the same picture, however encoded; empty without duplicates.
    part
        Part of the split that the collection itself puts the image in: training, validation, test; empty: none.
    patient_known
        False where nothing tells the patient, and the file's name stands for it.
    """

    path: Path
    domain: str
    patient: str
    labels: dict[str, float]
    sha256: str
    age: float | None = None
    view: str | None = None
    sex: str | None = None
    duplicate_group: str = ""
    part: str = ""
    patient_known: bool = True

    @property
    def person(self) -> str:
        """The patient's number without domain and leading zeros, equal in all domains; empty where it is unknown.

        Collections of one hospital may be given as several domains. Hospitals that number their patients alike need
        distinct numbers in the table.
        """
        domain, separator, number = self.patient.partition(":")
        number = number if separator else domain
        if not self.patient_known:
            return ""
        return str(int(number)) if number.isdecimal() else number

    def target(self, label: str) -> float:
        """Return 1.0, 0.0, or nan where the label is unknown."""
        return self.labels.get(label, math.nan)


@dataclass(frozen=True)
class ImageMetadata:
    """Metadata in an image file itself, as in a DICOM header; empty or None where it has none."""

    patient: str = ""
    age: float | None = None
    view: str | None = None
    sex: str | None = None


ReadImageMetadata = Callable[[Path], ImageMetadata]


def no_metadata(_path: Path) -> ImageMetadata:
    """Return empty metadata: PNG and JPEG files have none of the patient."""
    return ImageMetadata()


ProblemKind = Literal["missing", "damaged", "duplicate", "contradiction", "leak"]


@dataclass(frozen=True)
class FileProblem:
    """A problem of one file of a collection; it is reported, and training continues.

    Attributes
    ----------
    kind
        ``missing`` and ``damaged`` files are left out. A ``duplicate`` is the same picture as another file: both stay,
        in the same part. A ``contradiction`` is a duplicate with contradicting labels. A ``leak`` is left out of its
        part: a part that the collection holds out has the same patient or picture.
    path
        The file.
    reason
        The problem in words.
    other
        The file of which it is a duplicate.
    """

    kind: ProblemKind
    path: Path
    reason: str
    other: Path | None = None
