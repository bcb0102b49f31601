"""Reading of labelled image collections into samples, from class folders or tables of labels."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from model.bundle.labels import KNOWN_CODES, says_no_finding
from model.dataset.label_tables import TableRow, find_image, find_tables, read_table
from model.dataset.samples import (
    DEFAULT_PATIENT_PATTERN,
    DatasetInvalid,
    FileProblem,
    ImageMetadata,
    ReadImageMetadata,
    Sample,
    Source,
    Uncertain,
    no_metadata,
)

__all__ = [
    "DEFAULT_PATIENT_PATTERN",
    "DatasetInvalid",
    "FileProblem",
    "ImageMetadata",
    "Sample",
    "Source",
    "Uncertain",
    "known_labels",
    "limited",
    "of_views",
    "read_sources",
    "with_normal_class",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom", ""})
"""Suffixes of image files; DICOM files often have none."""


def read_sources(
    sources: Iterable[Source], read_metadata: ReadImageMetadata = no_metadata, problems: list[FileProblem] | None = None
) -> list[Sample]:
    """Read class folders and tables of labels, in the given order.

    A folder with a CSV table in one of the forms of `read_table` is read by that table. In ChestX-ray14's form, every
    label that occurs in such a table of the domain is known for all of the domain's listed images. Any other folder has
    one subfolder per class: each class is a label, known for all images of the folder; classes named normal (or no
    finding, negative, healthy) have none of the labels.

    Parameters
    ----------
    sources
        Folders or CSV files.
    read_metadata
        Returns the metadata in an image file; used where the table has no value.
    problems
        Missing and unreadable files are appended to it.

    Raises
    ------
    DatasetInvalid
        A folder is missing, empty, or in neither form.
    """
    problems = [] if problems is None else problems
    samples: list[Sample] = []
    positives_only: set[Path] = set()  # images of tables that list only the labels that are present
    for source in sources:
        if not source.folder.exists():
            raise DatasetInvalid(f"training data folder {source.folder} does not exist")
        tables = find_tables(source)
        if tables:
            samples += _read_tables(source, tables, read_metadata, problems, positives_only)
        else:
            samples += _read_class_folders(source, read_metadata, problems)
    return _with_negatives(samples, positives_only)


def known_labels(samples: Sequence[Sample], minimum_positives: int = 1) -> tuple[str, ...]:
    """Return the labels with at least `minimum_positives` positive images, most frequent first."""
    counts: dict[str, int] = {}
    for sample in samples:
        for label, value in sample.labels.items():
            counts[label] = counts.get(label, 0) + (value == 1.0)
    chosen = [label for label, count in counts.items() if count >= minimum_positives]
    return tuple(sorted(chosen, key=lambda label: (-counts[label], label)))


def limited(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """Return at most `limit` samples, spread evenly over the list, so that every source and class stays in it."""
    if limit is None or limit >= len(samples):
        return list(samples)
    if limit < 1:
        raise DatasetInvalid(f"limit is {limit}; at least 1 image is needed")
    return [samples[index * len(samples) // limit] for index in range(limit)]


def of_views(samples: Sequence[Sample], views: Sequence[str]) -> list[Sample]:
    """Return the samples of these views and those whose view is unknown; without views, all samples."""
    return [sample for sample in samples if not views or sample.view is None or sample.view in views]


def with_normal_class(samples: Sequence[Sample], labels: Sequence[str], normal: str = "Normal") -> list[Sample]:
    """Return the samples with a further label, `normal`, that is present where none of the labels is.

    For a softmax: of an image with one of the labels, the others become absent.

    Raises
    ------
    DatasetInvalid
        An image has several of the labels.
    """
    several = [s for s in samples if sum(s.target(label) == 1 for label in labels) > 1]
    if several:
        raise DatasetInvalid(
            f"{len(several)} images have several of {', '.join(labels)}, such as {several[0].path.name}: labels that "
            "occur together are not mutually exclusive; train with sigmoid"
        )
    result = []
    for sample in samples:
        known = [sample.target(label) for label in labels]
        none = math.nan if any(map(math.isnan, known)) and 1.0 not in known else float(1.0 not in known)
        own = {label: float(sample.target(label) == 1) for label in labels} if 1.0 in known else sample.labels
        result.append(replace(sample, labels={**own, normal: none}))
    return result


def _read_tables(
    source: Source,
    tables: Sequence[Path],
    read_metadata: ReadImageMetadata,
    problems: list[FileProblem],
    positives_only: set[Path],
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
            elif path not in samples and (sample := _sample(source, path, row, read_metadata, problems)):
                samples[path] = sample
                if row.positives_only:
                    positives_only.add(path)
        if len(samples) == before:
            raise DatasetInvalid(f"{table} names no image that is in {folder}")
    return list(samples.values())


def _read_class_folders(source: Source, read_metadata: ReadImageMetadata, problems: list[FileProblem]) -> list[Sample]:
    folders = sorted(path for path in source.folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < 2:
        raise DatasetInvalid(
            f"{source.folder} holds neither a CSV table of labels (ChestX-ray14's 'Image Index' and 'Finding Labels', "
            "CheXpert's 'Path' and 'Frontal/Lateral', or 'path' and one column per label) "
            f"nor at least two class folders (found {len(folders)})"
        )
    classes = {folder: _label(folder.name) for folder in folders}
    names = {name for name in classes.values() if not says_no_finding(name)}
    samples = []
    for folder, label in classes.items():
        for path in sorted(_images(folder)):
            row = TableRow("", {name: float(name == label) for name in sorted(names)})
            if sample := _sample(source, path, row, read_metadata, problems):
                samples.append(sample)
    if not samples:
        raise DatasetInvalid(f"the class folders of {source.folder} hold no PNG, JPEG or DICOM files")
    return samples


def _sample(
    source: Source, path: Path, row: TableRow, read_metadata: ReadImageMetadata, problems: list[FileProblem]
) -> Sample | None:
    """Return the sample of a table's row and the file's own metadata, over which the table takes precedence."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        metadata = read_metadata(path)
    except (OSError, ValueError) as error:
        problems.append(FileProblem("damaged", path, str(error)))
        return None
    return Sample(
        path=path,
        domain=source.domain,
        patient=f"{source.domain}:{row.patient or metadata.patient or source.patient_of(path)}",
        labels=row.labels,
        sha256=digest,
        age=metadata.age if row.age is None else row.age,
        view=row.view or metadata.view,
        sex=row.sex or metadata.sex,
    )


def _with_negatives(samples: list[Sample], positives_only: set[Path]) -> list[Sample]:
    """Set 0.0 for each label of a domain that an image's table, which lists only present labels, does not list."""
    labels: dict[str, set[str]] = {}
    for sample in samples:
        if sample.path in positives_only:
            labels.setdefault(sample.domain, set()).update(sample.labels)
    return [
        replace(sample, labels={name: sample.labels.get(name, 0.0) for name in sorted(labels[sample.domain])})
        if sample.path in positives_only
        else sample
        for sample in samples
    ]


def _images(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]


def _label(folder_name: str) -> str:
    """Return the label of a class folder: its name, or the known label that differs from it by case alone."""
    known = {name.lower(): name for name in KNOWN_CODES}
    return known.get(folder_name.lower(), folder_name)
