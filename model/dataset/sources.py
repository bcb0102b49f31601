"""What a network is trained on: images with labels, some of them unknown, and the patient each belongs to."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from model.bundle.labels import KNOWN_CODES, says_no_finding
from model.dataset.label_tables import TableRow, find_image, find_tables, read_table
from model.dataset.samples import (
    DEFAULT_PATIENT_PATTERN,
    DatasetInvalid,
    FileFacts,
    FileProblem,
    ReadFacts,
    Sample,
    Source,
    Uncertain,
    no_facts,
)

__all__ = [
    "DEFAULT_PATIENT_PATTERN",
    "DatasetInvalid",
    "FileFacts",
    "FileProblem",
    "Sample",
    "Source",
    "Uncertain",
    "excluding",
    "known_labels",
    "limited",
    "of_views",
    "read_sources",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom", ""})
"""Endings of image files; DICOM files often have none."""


def read_sources(
    sources: Iterable[Source], read_facts: ReadFacts = no_facts, problems: list[FileProblem] | None = None
) -> list[Sample]:
    """Read class folders and tables of labels, in the order given.

    A folder with a CSV table in one of the forms of `read_table` is read by that table. In ChestX-ray14's form every
    label that occurs anywhere in such tables of its domain is known for each of its images. Any other folder holds a
    folder a class: a class is a label, known for all images there; classes named normal (or no finding, negative,
    healthy) have none of them.

    Parameters
    ----------
    sources
        Folders or CSV files.
    read_facts
        What a file says of its patient by itself; used where no table says.
    problems
        Files that a table names and that are missing, or cannot be read, are added here.

    Raises
    ------
    DatasetInvalid
        A folder is missing, empty, or of neither form.
    """
    found: list[FileProblem] = [] if problems is None else problems
    samples: list[Sample] = []
    listed: set[Path] = set()  # of tables that name only what was found
    for source in sources:
        if not source.folder.exists():
            raise DatasetInvalid(f"training data folder {source.folder} does not exist")
        tables = find_tables(source)
        if tables:
            samples += _read_tables(source, tables, read_facts, found, listed)
        else:
            samples += _read_class_folders(source, read_facts, found)
    return _complete(samples, listed)


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


def of_views(samples: Sequence[Sample], views: Sequence[str]) -> list[Sample]:
    """Return the samples of these views and of unknown ones; all where no view is asked for."""
    return [sample for sample in samples if not views or sample.view is None or sample.view in views]


def excluding(samples: Sequence[Sample], labels: Sequence[str], normal: str = "Normal") -> list[Sample]:
    """Return the samples with the class `normal` where none of the labels is there, for labels that exclude another.

    Raises
    ------
    DatasetInvalid
        An image has several of the labels.
    """
    several = [s for s in samples if sum(s.target(label) == 1 for label in labels) > 1]
    if several:
        raise DatasetInvalid(
            f"{len(several)} images have several of {', '.join(labels)}, such as {several[0].path.name}: labels that "
            "occur together cannot exclude one another; train with sigmoid"
        )
    result = []
    for sample in samples:
        known = [sample.target(label) for label in labels]
        none = math.nan if any(map(math.isnan, known)) and 1.0 not in known else float(1.0 not in known)
        # of an image with one class the others are known to be absent
        own = {label: float(sample.target(label) == 1) for label in labels} if 1.0 in known else sample.labels
        result.append(replace(sample, labels={**own, normal: none}))
    return result


def _read_tables(
    source: Source,
    tables: Sequence[Path],
    read_facts: ReadFacts,
    problems: list[FileProblem],
    listed: set[Path],
) -> list[Sample]:
    samples: dict[Path, Sample] = {}
    folder = source.folder if source.folder.is_dir() else source.folder.parent
    by_name: dict[str, list[Path]] = {}
    for image in sorted(_images(folder)):
        by_name.setdefault(image.name, []).append(image)
    for table in tables:
        before = len(samples)
        for row in read_table(source, table):
            path = find_image(folder, row.image, by_name)
            if path is None:
                problems.append(FileProblem("missing", Path(row.image), f"named in {table.name}, not in {folder}"))
            elif path not in samples and (sample := _described(source, path, row, read_facts, problems)):
                samples[path] = sample
                if row.found_only:
                    listed.add(path)
        if len(samples) == before:
            raise DatasetInvalid(f"{table} names no image that is in {folder}")
    return list(samples.values())


def _read_class_folders(source: Source, read_facts: ReadFacts, problems: list[FileProblem]) -> list[Sample]:
    folders = sorted(path for path in source.folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < 2:
        raise DatasetInvalid(
            f"{source.folder} holds neither a CSV table of labels (ChestX-ray14's 'Image Index' and 'Finding Labels', "
            "CheXpert's 'Path' and 'Frontal/Lateral', or 'path' and a column a label) "
            f"nor at least two class folders (found {len(folders)})"
        )
    classes = {folder: _label(folder.name) for folder in folders}
    names = {name for name in classes.values() if not says_no_finding(name)}
    samples = []
    for folder, label in classes.items():
        for path in sorted(_images(folder)):
            row = TableRow("", {name: float(name == label) for name in sorted(names)})
            if sample := _described(source, path, row, read_facts, problems):
                samples.append(sample)
    if not samples:
        raise DatasetInvalid(f"the class folders of {source.folder} hold no PNG, JPEG or DICOM files")
    return samples


def _described(
    source: Source, path: Path, row: TableRow, read_facts: ReadFacts, problems: list[FileProblem]
) -> Sample | None:
    """Join what a table and the file say of an image; what the table says goes first."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        facts = read_facts(path)
    except (OSError, ValueError) as error:
        problems.append(FileProblem("damaged", path, str(error)))
        return None
    return Sample(
        path=path,
        domain=source.domain,
        patient=f"{source.domain}:{row.patient or facts.patient or source.patient_of(path)}",
        labels=row.labels,
        sha256=digest,
        age=facts.age if row.age is None else row.age,
        view=row.view or facts.view,
        sex=row.sex or facts.sex,
    )


def _complete(samples: list[Sample], listed: set[Path]) -> list[Sample]:
    """Write 0.0 for each label that the readers of a domain's listing tables looked for and did not find."""
    looked_for: dict[str, set[str]] = {}
    for sample in samples:
        if sample.path in listed:
            looked_for.setdefault(sample.domain, set()).update(sample.labels)

    def completed(sample: Sample) -> Mapping[str, float]:
        return {name: sample.labels.get(name, 0.0) for name in sorted(looked_for[sample.domain])}

    return [replace(sample, labels=dict(completed(sample))) if sample.path in listed else sample for sample in samples]


def _images(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]


def _label(folder_name: str) -> str:
    """Return the label that a class folder names: as it is written, but PNEUMONIA for one whose name is known."""
    known = {name.lower(): name for name in KNOWN_CODES}
    return known.get(folder_name.lower(), folder_name)
