"""One labelled image and the folder it is from: what reading a collection gives, and all of training takes."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

DEFAULT_PATIENT_PATTERN = r"^(person\d+|NORMAL2-IM-\d+|IM-\d+|\d{8}(?=_\d+$))"
"""The patient in a file's name, as the Kermany collection and ChestX-ray14 write it. Any other name: a patient each."""

Uncertain = Literal["ignore", "zero", "one"]
"""What a label of -1 stands for (CheXpert's U-Ignore, U-Zeros, U-Ones; Irvin et al. 2019): unknown, absent, present."""


class DatasetInvalid(ValueError):
    """The training data cannot be used; the message names the file or folder and what is expected there."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True)
class Source:
    """A folder or table of training data and the domain (kind of patients) it stands for.

    Written ``domain=folder`` on a command line; the domain is the folder's name where none is given.

    Attributes
    ----------
    folder
        Of class folders or of a CSV table and its images; or the CSV file itself.
    patient_pattern
        The first group of its first match in a file's name is the patient, where no table and no header says.
    uncertain
        What a label of -1 counts as.
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
        name = path.resolve().name if path.suffix.lower() != ".csv" else path.resolve().parent.name
        return cls(path, domain if separator else name, uncertain=uncertain)

    def patient_of(self, path: Path) -> str:
        """Return the patient that a file's name tells; the whole name where it tells none."""
        match = re.search(self.patient_pattern, path.stem)
        return match.group(1) if match else path.stem


@dataclass(frozen=True)
class Sample:
    """One image: its file, its patient, and the labels known of it.

    Attributes
    ----------
    labels
        1.0 present, 0.0 absent; a label that is missing here, or nan, is unknown.
    age
        Years, or None. ChestX-ray14 writes whole years.
    sex
        F, M, O, or None.
    sha256
        Of the file, to find byte-identical duplicates.
    duplicate_group
        The same for images that show the same picture, however they are encoded; empty where no other shows it.
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

    def target(self, label: str) -> float:
        """Return 1.0, 0.0, or nan where the label is unknown."""
        return self.labels.get(label, math.nan)


@dataclass(frozen=True)
class FileFacts:
    """What an image file says of its patient by itself, as DICOM does; empty or None where it does not."""

    patient: str = ""
    age: float | None = None
    view: str | None = None
    sex: str | None = None


ReadFacts = Callable[[Path], FileFacts]


def no_facts(_path: Path) -> FileFacts:
    """Say nothing of a file: PNG and JPEG carry only the name."""
    return FileFacts()


ProblemKind = Literal["missing", "damaged", "duplicate", "contradiction"]


@dataclass(frozen=True)
class FileProblem:
    """Something amiss with one file of a collection; training goes on and lists it.

    Attributes
    ----------
    kind
        ``missing`` and ``damaged`` files are left out. A ``duplicate`` shows the same as another file: both stay, in
        one part. A ``contradiction`` is a duplicate with other labels.
    other
        The file that it is a duplicate of.
    """

    kind: ProblemKind
    path: Path
    reason: str
    other: Path | None = None
