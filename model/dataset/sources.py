"""Reading of labelled image collections into samples, from class folders or tables of labels."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from model.bundle.labels import known_spelling, label_key, says_no_finding
from model.dataset.folder_layout import ClassFolder, layout_of
from model.dataset.image_files import ImageIndex, images_below
from model.dataset.label_tables import TableRow, read_table
from model.dataset.part_names import part_of
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
from model.dataset.table_files import TableFile

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


def read_sources(
    sources: Iterable[Source],
    read_metadata: ReadImageMetadata = no_metadata,
    problems: list[FileProblem] | None = None,
    notices: list[str] | None = None,
    spellings: Sequence[str] = (),
) -> list[Sample]:
    """Read class folders and tables of labels, in the given order.

    A folder with a CSV table in one of the forms of `read_table` is read by that table. In ChestX-ray14's form, every
    label that occurs in such a table of the domain is known for all of the domain's listed images. Any other folder has
    one subfolder per class: each class is a label, known for all images of the folder; classes named normal (or no
    finding, negative, healthy) have none of the labels. Folders named like parts of a split (train, val, test and the
    like) around the class folders, or within each of them, give the images' parts; so do a table's column ``split`` and
    tables or folders with such names. Labels whose names differ by case or blanks are one.

    Parameters
    ----------
    sources
        Folders or CSV files.
    read_metadata
        Returns the metadata in an image file; used where the table has no value.
    problems
        Missing and unreadable files are appended to it.
    notices
        Sentences for the user, of what is not read, are appended to it.
    spellings
        Names of labels as they are to be spelled.

    Raises
    ------
    DatasetInvalid
        A folder is missing, empty, or in neither form; a table fits no form, or contradicts itself.
    """
    problems = [] if problems is None else problems
    notices = [] if notices is None else notices
    samples: list[Sample] = []
    positives_only: set[Path] = set()  # images of tables that list only the labels that are present
    for source in sources:
        if not source.folder.exists():
            raise DatasetInvalid(f"training data folder {source.folder} does not exist")
        layout = layout_of(source, notices)
        if layout.tables:
            samples += _read_tables(source, layout.tables, read_metadata, problems, positives_only, notices)
        else:
            samples += _read_class_folders(source, layout.classes, read_metadata, problems, notices)
    return _with_negatives(_one_spelling(samples, spellings), positives_only)


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
    tables: Sequence[tuple[TableFile, str]],
    read_metadata: ReadImageMetadata,
    problems: list[FileProblem],
    positives_only: set[Path],
    notices: list[str],
) -> list[Sample]:
    rows: dict[Path, TableRow] = {}
    images: dict[Path, list[Path]] = {}
    for table, part in tables:
        folder = table.path.parent
        if folder not in images:
            images[folder] = images_below(folder, problems)
        index, named, listed = ImageIndex(folder, images[folder]), 0, _listed_parts(folder)
        for row in read_table(source, table):
            path = index.find(row.image) if row.image else None
            if path is None:
                reason = f"named in {row.where}, not in {folder}" if row.image else f"{row.where} names no file"
                problems.append(FileProblem("missing", Path(row.image), reason))
                continue
            named += 1
            part_of_row = row.part or part or listed.get(path.name, "") or _part_of_folders(path, folder)
            rows[path] = _joined(rows.get(path), replace(row, part=part_of_row), path)
        if not named:
            raise DatasetInvalid(f"{table.path} names no image that is in {folder}")
    if left := sorted({path for found in images.values() for path in found} - set(rows)):
        notices.append(f"{len(left)} images in {source.folder}, such as {left[0].name}, are in no table and not used")
    samples = []
    for path, row in rows.items():
        if sample := _sample(source, path, row, read_metadata, problems):
            samples.append(sample)
            if row.positives_only:
                positives_only.add(path)
    return samples


def _listed_parts(folder: Path) -> dict[str, str]:
    """Return the part of each image, by name, that ChestX-ray14's own lists beside its table give; most have none."""
    lists = {"training": folder / "train_val_list.txt", "test": folder / "test_list.txt"}
    return {
        name: part
        for part, path in lists.items()
        if path.is_file()
        for name in path.read_text(encoding="utf-8", errors="replace").split()
    }


def _part_of_folders(path: Path, folder: Path) -> str:
    """Return the part that a folder between the table and the image is named after."""
    between = path.parent.relative_to(folder).parts if path.is_relative_to(folder) else ()
    return next(filter(None, map(part_of, between)), "")


def _joined(earlier: TableRow | None, row: TableRow, path: Path) -> TableRow:
    """Return what two rows, of one table or of two, say of one image together.

    Raises
    ------
    DatasetInvalid
        They contradict each other.
    """
    if earlier is None:
        return row
    labels = {label_key(name): (name, value) for name, value in earlier.labels.items()}
    problem = ""
    if row.positives_only and earlier.positives_only and {label_key(name) for name in row.labels} != set(labels):
        problem = "list different findings"
    for name, value in row.labels.items():
        known, other = labels.get(label_key(name), (name, math.nan))
        if {value, other} == {0.0, 1.0}:
            problem = f"say {other:g} and {value:g} of {known}"
        labels[label_key(name)] = known, other if math.isnan(value) else value
    for what in ("patient", "part"):
        one, other_one = getattr(earlier, what), getattr(row, what)
        if one and other_one and one != other_one:
            problem = f"give it the {what} {one} and {other_one}"
    if problem:
        raise DatasetInvalid(f"{earlier.where} and {row.where} are of the same image, {path.name}, but {problem}")
    return replace(
        earlier,
        labels=dict(labels.values()),
        patient=earlier.patient or row.patient,
        part=earlier.part or row.part,
        age=row.age if earlier.age is None else earlier.age,
        view=earlier.view or row.view,
        sex=earlier.sex or row.sex,
        positives_only=earlier.positives_only and row.positives_only,
    )


def _read_class_folders(
    source: Source,
    folders: Sequence[ClassFolder],
    read_metadata: ReadImageMetadata,
    problems: list[FileProblem],
    notices: list[str],
) -> list[Sample]:
    names: dict[str, str] = {}
    for each in folders:
        if not says_no_finding(each.name):
            names.setdefault(label_key(each.name), known_spelling(each.name))
    samples = []
    for each in folders:
        images = images_below(each.folder, problems)
        if not images:
            notices.append(f"the class folder {each.folder} holds no PNG, JPEG or DICOM file")
        labels = {name: float(key == label_key(each.name)) for key, name in sorted(names.items())}
        for path in images:
            if sample := _sample(source, path, TableRow("", labels, part=each.part), read_metadata, problems):
                samples.append(sample)
    if not samples:
        raise DatasetInvalid(f"the class folders of {source.folder} hold no PNG, JPEG or DICOM files")
    if not names:
        raise DatasetInvalid(f"every class folder of {source.folder} is of no finding: there is no label to learn")
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
    patient = row.patient or metadata.patient or source.patient_of(path)
    return Sample(
        path=path,
        domain=source.domain,
        patient=f"{source.domain}:{patient or path.stem}",
        labels=row.labels,
        sha256=digest,
        age=metadata.age if row.age is None else row.age,
        view=row.view or metadata.view,
        sex=row.sex or metadata.sex,
        part=row.part,
        patient_known=bool(patient),
    )


def _one_spelling(samples: Sequence[Sample], spellings: Sequence[str]) -> list[Sample]:
    """Return the samples with one spelling of each label: one of `spellings`, the known one, or the first."""
    chosen = {label_key(name): name for name in spellings}
    for sample in samples:
        for name in sample.labels:
            chosen.setdefault(label_key(name), known_spelling(name))
    return [
        replace(sample, labels={chosen[label_key(name)]: value for name, value in sample.labels.items()})
        for sample in samples
    ]


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
