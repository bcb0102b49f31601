"""What a network is trained on: images with labels, some of them unknown, and the patient each belongs to."""

import csv
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm"})
NORMAL_NAMES = frozenset({"normal", "no finding", "no_finding", "negative", "healthy"})

DEFAULT_PATIENT_PATTERN = r"^(person\d+|NORMAL2-IM-\d+|IM-\d+|\d{8}(?=_\d+$))"
"""The patient in a file's name, as the Kermany collection and ChestX-ray14 write it. Any other name: a patient each."""


class DatasetInvalid(ValueError):
    """The training data cannot be used; the message names the file or folder and what is expected there."""


@dataclass(frozen=True)
class Source:
    """A folder of training data and the domain (kind of patients) it stands for.

    Written ``domain=folder`` on a command line; the domain is the folder's name where none is given.
    """

    folder: Path
    domain: str
    patient_pattern: str = DEFAULT_PATIENT_PATTERN

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Read ``domain=folder`` or ``folder``."""
        domain, separator, folder = text.partition("=")
        path = Path(folder if separator else text).expanduser()
        return cls(path, domain if separator else path.resolve().name)


@dataclass(frozen=True)
class Sample:
    """One image: its file, its patient, and the labels known of it.

    Attributes
    ----------
    labels
        1.0 present, 0.0 absent; a label that is missing here is unknown.
    age
        Years, or None. ChestX-ray14 writes whole years.
    sha256
        Of the file, to find byte-identical duplicates.
    """

    path: Path
    domain: str
    patient: str
    labels: dict[str, float]
    sha256: str
    age: float | None = None
    view: str | None = None

    def target(self, label: str) -> float:
        """Return 1.0, 0.0, or nan where the label is unknown."""
        return self.labels.get(label, math.nan)


def read_sources(sources: Iterable[Source]) -> list[Sample]:
    """Read class folders and ChestX-ray14-style tables, in the order given.

    A folder with a CSV file that has the columns ``Image Index`` and ``Finding Labels`` is read by that table: every
    label that occurs anywhere in the tables of its domain is known for each of its images. Any other folder holds a
    folder a class: a class is a label, known for all images there; classes named normal (or no finding, negative,
    healthy) have none of them.

    Raises
    ------
    DatasetInvalid
        A folder is missing, empty, or of neither form.
    """
    samples: list[Sample] = []
    for source in sources:
        if not source.folder.is_dir():
            raise DatasetInvalid(f"training data folder {source.folder} does not exist")
        table = _find_table(source.folder)
        samples += _read_table(source, table) if table else _read_class_folders(source)
    return _complete(samples)


def known_labels(samples: Sequence[Sample], minimum_positives: int = 1) -> tuple[str, ...]:
    """Return the labels with at least so many positive images, most frequent first."""
    counts: dict[str, int] = {}
    for sample in samples:
        for label, value in sample.labels.items():
            counts[label] = counts.get(label, 0) + (value == 1.0)
    chosen = [label for label, count in counts.items() if count >= minimum_positives]
    return tuple(sorted(chosen, key=lambda label: (-counts[label], label)))


def limited(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """Return at most so many samples, spread evenly over the list, so that every source and class stays in it."""
    if limit is None or limit >= len(samples):
        return list(samples)
    if limit < 1:
        raise DatasetInvalid(f"limit is {limit}; at least 1 image is needed")
    return [samples[index * len(samples) // limit] for index in range(limit)]


def _find_table(folder: Path) -> Path | None:
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        if {"Image Index", "Finding Labels"} <= set(header):
            return path
    return None


def _read_table(source: Source, table: Path) -> list[Sample]:
    samples = []
    images = {path.name: path for path in _images(source.folder)}
    with table.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            path = images.get(row["Image Index"])
            if path is None:
                continue
            found = {name.strip() for name in row["Finding Labels"].split("|")} - {"", "No Finding"}
            patient = row.get("Patient ID") or _patient(source, path)
            samples.append(
                Sample(
                    path=path,
                    domain=source.domain,
                    patient=f"{source.domain}:{int(patient) if patient.isdigit() else patient}",
                    labels=dict.fromkeys(sorted(found), 1.0),
                    sha256=_sha256(path),
                    age=_age(row.get("Patient Age")),
                    view=row.get("View Position") or None,
                )
            )
    if not samples:
        raise DatasetInvalid(f"{table} names no image that is in {source.folder}")
    return samples


def _read_class_folders(source: Source) -> list[Sample]:
    folders = sorted(path for path in source.folder.iterdir() if path.is_dir())
    if len(folders) < 2:
        raise DatasetInvalid(
            f"{source.folder} holds neither a CSV file with the columns 'Image Index' and 'Finding Labels' "
            f"nor at least two class folders (found {len(folders)})"
        )
    classes = {folder: _label(folder.name) for folder in folders}
    names = {name for name in classes.values() if name.lower() not in NORMAL_NAMES}
    samples = [
        Sample(
            path=path,
            domain=source.domain,
            patient=f"{source.domain}:{_patient(source, path)}",
            labels={name: float(name == label) for name in sorted(names)},
            sha256=_sha256(path),
        )
        for folder, label in classes.items()
        for path in sorted(_images(folder))
    ]
    if not samples:
        raise DatasetInvalid(f"the class folders of {source.folder} hold no PNG, JPEG or DICOM files")
    return samples


def _complete(samples: list[Sample]) -> list[Sample]:
    """Write 0.0 for each label that a domain's readers looked for and did not find."""
    looked_for: dict[str, set[str]] = {}
    for sample in samples:
        looked_for.setdefault(sample.domain, set()).update(sample.labels)
    return [
        replace(sample, labels={name: sample.labels.get(name, 0.0) for name in sorted(looked_for[sample.domain])})
        for sample in samples
    ]


def _images(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def _label(folder_name: str) -> str:
    return folder_name.capitalize() if folder_name.isupper() else folder_name


def _patient(source: Source, path: Path) -> str:
    match = re.search(source.patient_pattern, path.stem)
    return match.group(1) if match else path.stem


def _age(text: str | None) -> float | None:
    """Read ``58`` or ``058Y``; ages over 110 are errors of the table, and unknown."""
    match = re.fullmatch(r"0*(\d+)Y?", (text or "").strip())
    return float(match.group(1)) if match and int(match.group(1)) <= 110 else None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
