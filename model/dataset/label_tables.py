"""CSV tables of labels in three forms: ChestX-ray14, CheXpert, and plain tables with one column per label."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from model.bundle.labels import label_key, says_no_finding
from model.dataset.image_files import is_hidden
from model.dataset.part_names import part_of
from model.dataset.samples import TABLE_SUFFIXES, DatasetInvalid, Source, Uncertain
from model.dataset.table_files import TableFile, open_table

PATH_COLUMNS = ("path", "file", "filename", "image", "image path", "file path", "file name", "image id")
"""Names of the image file's column in a plain table; case is ignored, and ``_`` is a blank, here and below."""

PATIENT_COLUMNS = ("patient", "patient id", "patientid", "subject", "subject id")
AGE_COLUMNS, VIEW_COLUMNS = ("age", "patient age"), ("view", "view position")
SEX_COLUMNS = ("sex", "gender", "patient sex", "patient gender")
PART_COLUMNS = ("split", "part", "subset", "partition")
"""Names of the column that puts an image into a part of the split."""

_CHEXPERT_METADATA = frozenset({"path", "sex", "age", "frontal/lateral", "ap/pa"})
_OWN_AND_BOXES: tuple[set[str], ...] = (
    *({"problem", "file"}, {"part", "sha256"}, {"epoch", "validation loss"}),
    {"image index", "finding label"},
)
"""Columns, in lower case, of tables beside the labels: our own problems.csv, split.csv and history.csv, and boxes."""
_EMPTY = frozenset({"", "nan", "na", "n/a", "null", "none"})
_TRUTH = {"true": 1.0, "false": 0.0}
_DEVICES = re.compile(r"\bdevices?$", re.IGNORECASE)
"""CheXpert's No Finding allows for support devices (Irvin et al. 2019)."""


@dataclass(frozen=True)
class TableRow:
    """One image's row in a table; empty or None where the table has no value.

    Attributes
    ----------
    labels
        1.0 present, 0.0 absent, nan unknown.
    positives_only
        The table lists only present labels: the other labels of the collection are absent, not unknown.
    part
        Part of the split: training, validation, test.
    where
        File and line, for messages.
    """

    image: str
    labels: dict[str, float]
    patient: str = ""
    age: float | None = None
    view: str | None = None
    sex: str | None = None
    positives_only: bool = False
    part: str = ""
    where: str = ""


def find_tables(folder: Path) -> list[TableFile]:
    """Return the tables of labels in a folder, or the one that a CSV file is.

    Raises
    ------
    DatasetInvalid
        A CSV file fits none of the three forms, though its place suggests that it holds labels; the message names it
        and its columns.
    """
    if not folder.is_dir():
        named = _opened(folder)
        if not _form(named.header):
            raise DatasetInvalid(_no_form(named))
        return [named]
    paths = (path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES and path.is_file())
    tables = [_opened(path) for path in sorted(paths) if not is_hidden(path)]
    unknown = [table for table in tables if not _form(table.header) and not _is_beside_labels(table.header)]
    if unknown:
        raise DatasetInvalid(
            f"{_no_form(unknown[0])}. Move it elsewhere if it holds no labels, or give the table itself in "
            "place of the folder"
        )
    return [table for table in tables if _form(table.header)]


def read_table(source: Source, table: TableFile) -> Iterator[TableRow]:
    """Read a table row by row.

    ChestX-ray14: every label that is not listed is absent. CheXpert: an empty cell is a label that the report does not
    mention, and counts as absent, as its authors count it; -1 is uncertain, and counts as `Source.uncertain` says.
    Plain tables: 1 is present, 0 absent, -1 uncertain, an empty cell unknown, or absent in a row of no finding.

    Raises
    ------
    DatasetInvalid
        A cell holds something else, or a row contradicts itself; the message names table, line and column.
    """
    form = _form(table.header)
    assert form is not None
    part_column = next((name for name in table.header if label_key(name) in PART_COLUMNS), None)
    for cells, where in table.rows():
        part = _part(cells.pop(part_column), where) if part_column else ""
        yield replace(form(cells, source.uncertain, where), part=part or part_of(table.path.stem), where=where)


def years(text: str | None) -> float | None:
    """Return the age in years of ``58``, ``58.5`` or ``058Y``; None for other texts, and above 110: typing errors."""
    match = re.fullmatch(r"0*(\d+(?:[.,]\d+)?)Y?", (text or "").strip())
    age = float(match.group(1).replace(",", ".")) if match else math.inf
    return age if age <= 110 else None


def sex_of(text: str | None) -> str | None:
    """Return F, M or O of ``M``, ``male``, ``F``, ``Female`` or ``O``; None for other texts."""
    letter = (text or "").strip()[:1].upper()
    return letter if letter in ("F", "M", "O") else None


_Form = Callable[[Mapping[str, str], Uncertain, str], TableRow]


def _opened(path: Path) -> TableFile:
    return open_table(path, lambda header: _form(header) is not None)


def _form(header: tuple[str, ...]) -> _Form | None:
    names = {label_key(name) for name in header}
    if _is_beside_labels(header):
        return None
    if {"image index", "finding labels"} <= names:
        return _chestxray14
    if {"path", "frontal/lateral"} <= names:
        return _chexpert
    if names & set(PATH_COLUMNS) and any(map(_is_label, header)):
        return _plain
    return None


def _no_form(table: TableFile) -> str:
    return (
        f"{table.path} has the columns {', '.join(table.header) or 'none'}; expected are those of "
        f"ChestX-ray14 (Image Index, Finding Labels), of CheXpert (Path, Frontal/Lateral), or one of "
        f"{', '.join(PATH_COLUMNS)} and one column per label"
    )


def _is_beside_labels(header: tuple[str, ...]) -> bool:
    names = {label_key(name) for name in header}
    return any(columns <= names for columns in _OWN_AND_BOXES) or not any(names)


def _is_label(column: str) -> bool:
    """Return whether a plain table's column is one of labels, no finding included; ``Unnamed: 0`` is pandas' index."""
    people = {*PATIENT_COLUMNS, *AGE_COLUMNS, *SEX_COLUMNS, *VIEW_COLUMNS}
    others = {*PATH_COLUMNS, *people, *PART_COLUMNS, "", "bbox"}
    return label_key(column) not in others and not re.fullmatch(r"unnamed: \d+", label_key(column))


def _part(text: str, where: str) -> str:
    part = part_of(text)
    if text and not part:
        raise DatasetInvalid(f"{where}: the part of the split is {text!r}; allowed are train, val, test and nothing")
    return part


def _chestxray14(row: Mapping[str, str], _uncertain: Uncertain, where: str) -> TableRow:
    cells = {label_key(name): text for name, text in row.items()}
    listed = [name.strip() for name in cells["finding labels"].split("|") if name.strip()]
    if not listed:
        raise DatasetInvalid(f"{where}: Finding Labels is empty; write No Finding where nothing was found")
    patient = cells.get("patient id", "")
    return TableRow(
        image=cells["image index"],
        labels=_row_labels([(name, 1.0) for name in sorted(listed)], "ignore", where),
        patient=str(int(patient)) if patient.isdecimal() else patient,
        age=years(cells.get("patient age")),
        view=cells.get("view position", "").upper() or None,
        sex=sex_of(cells.get("patient sex") or cells.get("patient gender")),
        positives_only=True,
    )


def _chexpert(row: Mapping[str, str], uncertain: Uncertain, where: str) -> TableRow:
    cells = {label_key(name): text for name, text in row.items()}
    patient = re.search(r"patient\d+", cells["path"])
    columns = {name: text for name, text in row.items() if label_key(name) not in _CHEXPERT_METADATA}
    return TableRow(
        image=cells["path"],
        labels=_row_labels(_values(columns, where, empty=0.0), uncertain, where),
        patient=patient.group(0) if patient else "",
        age=years(cells.get("age")),
        view="LATERAL" if cells["frontal/lateral"].lower() == "lateral" else cells.get("ap/pa", "").upper() or None,
        sex=sex_of(cells.get("sex")),
    )


def _plain(row: Mapping[str, str], uncertain: Uncertain, where: str) -> TableRow:
    cells = {label_key(name): text for name, text in row.items()}
    columns = {name: text for name, text in row.items() if _is_label(name)}

    def first(names: tuple[str, ...]) -> str:
        return next((cells[name] for name in names if cells.get(name)), "")

    return TableRow(
        image=first(PATH_COLUMNS),
        labels=_row_labels(_values(columns, where, empty=math.nan), uncertain, where),
        patient=first(PATIENT_COLUMNS),
        age=years(first(AGE_COLUMNS)),
        view=first(VIEW_COLUMNS).upper() or None,
        sex=sex_of(first(SEX_COLUMNS)),
    )


def _values(columns: Mapping[str, str], where: str, empty: float) -> list[tuple[str, float]]:
    """Return the label and value of each column: 1, 0, -1 (uncertain), or `empty`."""
    return [(name.strip(), _value(text, f"{where}, column {name}", empty)) for name, text in columns.items()]


def _row_labels(values: Iterable[tuple[str, float]], uncertain: Uncertain, where: str) -> dict[str, float]:
    """Return the labels of a row without those that mean no finding, one entry for all spellings of a label.

    Raises
    ------
    DatasetInvalid
        Two spellings of a label have other values, or the row has a finding and says that it has none.
    """
    merged: dict[str, tuple[str, float]] = {}
    no_finding = ""
    for name, value in values:
        if says_no_finding(name):
            no_finding = name if value == 1.0 else no_finding
            continue
        other, known = merged.setdefault(label_key(name), (name, value))
        if {known, value} == {0.0, 1.0}:
            raise DatasetInvalid(f"{where}: {other} is {known:g} and {name} is {value:g}, which are one label")
        if known not in (0.0, 1.0):
            merged[label_key(name)] = other, known if math.isnan(value) else value
    present = [name for name, value in merged.values() if value == 1.0 and not _DEVICES.search(name)]
    if no_finding and present:
        raise DatasetInvalid(f"{where}: the row says {no_finding} and {', '.join(present)}: a contradiction")
    counted = {-1.0: {"ignore": math.nan, "zero": 0.0, "one": 1.0}[uncertain]}
    unknown = 0.0 if no_finding else math.nan
    return {name: unknown if math.isnan(value) else counted.get(value, value) for name, value in merged.values()}


def _value(text: str, where: str, empty: float) -> float:
    word = text.lower().replace(",", ".")
    if word in _EMPTY:
        return empty
    try:
        value = _TRUTH[word] if word in _TRUTH else float(word)
    except ValueError:
        value = math.nan
    if value not in (-1.0, 0.0, 1.0):
        raise DatasetInvalid(f"{where}: a label is {text!r}; allowed are 0, 1, -1 (uncertain) and nothing")
    return value
