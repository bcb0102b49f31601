"""CSV tables of labels in three forms: ChestX-ray14, CheXpert, and plain tables with one column per label."""

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from model.bundle.labels import NO_FINDING_NAMES, says_no_finding
from model.dataset.samples import DatasetInvalid, Source, Uncertain

PATH_COLUMNS = ("path", "file", "filename", "image")
"""Names of the image file's column in a plain table; case is ignored."""

PATIENT_COLUMNS = ("patient", "patient_id", "patient id", "patientid")
METADATA_COLUMNS = ("age", "sex", "view")

_CHEXPERT_METADATA = frozenset({"Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"})
_WORDS = {"": None, "-1": -1.0, "0": 0.0, "1": 1.0, "-1.0": -1.0, "0.0": 0.0, "1.0": 1.0, "true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class TableRow:
    """One image's row in a table; empty or None where the table has no value.

    Attributes
    ----------
    labels
        1.0 present, 0.0 absent, nan unknown.
    positives_only
        The table lists only present labels: the other labels of the collection are absent, not unknown.
    """

    image: str
    labels: dict[str, float]
    patient: str = ""
    age: float | None = None
    view: str | None = None
    sex: str | None = None
    positives_only: bool = False


def find_tables(source: Source) -> list[Path]:
    """Return the CSV files of a source that are tables of labels.

    Raises
    ------
    DatasetInvalid
        The source is a CSV file, but in none of the three forms.
    """
    if source.folder.is_dir():
        return [path for path in sorted(source.folder.glob("*.csv")) if _form(_header(path))]
    if not _form(_header(source.folder)):
        raise DatasetInvalid(
            f"{source.folder} has the columns {', '.join(_header(source.folder)) or 'none'}; expected are those of "
            f"ChestX-ray14 (Image Index, Finding Labels), of CheXpert (Path, Frontal/Lateral), or one of "
            f"{', '.join(PATH_COLUMNS)} and one column per label"
        )
    return [source.folder]


def read_table(source: Source, table: Path) -> Iterator[TableRow]:
    """Read a table row by row.

    ChestX-ray14: every label that is not listed is absent. CheXpert: an empty cell is a label that the report does not
    mention, and counts as absent, as its authors count it; -1 is uncertain, and counts as `Source.uncertain` says.
    Plain tables: 1 is present, 0 absent, -1 uncertain, an empty cell unknown.

    Raises
    ------
    DatasetInvalid
        A cell holds something else; the message names table, line and column.
    """
    form = _form(_header(table))
    assert form is not None
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                cells = {name: (value or "").strip() for name, value in row.items() if name is not None}
                yield form(cells, source.uncertain, f"{table}, line {reader.line_num}")
        except UnicodeDecodeError as error:
            raise _not_utf8(table) from error


def find_image(folder: Path, name: str, by_name: Mapping[str, Sequence[Path]]) -> Path | None:
    """Return the image file that a table names, or None where there is none.

    Parameters
    ----------
    folder
        Of the table. The path is resolved from it, also without its first folder: CheXpert's tables begin each path
        with the folder that holds the table (``CheXpert-v1.0-small/train/...``).
    name
        Path or file name, as the table gives it.
    by_name
        All images below the folder, by file name.

    Raises
    ------
    DatasetInvalid
        A file name is given that several files have.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if Path(name).is_absolute():
        return Path(name) if Path(name).is_file() else None
    for start in range(min(2, len(parts))):
        path = folder.joinpath(*parts[start:])
        if path.is_file():
            return path
    named = by_name.get(name, ()) if len(parts) == 1 else ()
    if len(named) > 1:
        raise DatasetInvalid(
            f"a table of {folder} names {name}, which is {len(named)} files: {named[0]} and {named[1]}; "
            "write the path from the table's folder"
        )
    return named[0] if named else None


def years(text: str | None) -> float | None:
    """Return the age in years of ``58``, ``58.5`` or ``058Y``; None for other texts, and above 110: typing errors."""
    match = re.fullmatch(r"0*(\d+(?:\.\d+)?)Y?", (text or "").strip())
    return float(match.group(1)) if match and float(match.group(1)) <= 110 else None


def sex_of(text: str | None) -> str | None:
    """Return F, M or O of ``M``, ``male``, ``F``, ``Female`` or ``O``; None for other texts."""
    letter = (text or "").strip()[:1].upper()
    return letter if letter in ("F", "M", "O") else None


_Form = Callable[[Mapping[str, str], Uncertain, str], TableRow]


def _header(table: Path) -> list[str]:
    """Return the names of the columns; empty where the file is not text.

    Raises
    ------
    DatasetInvalid
        The file is a table of labels in another encoding than UTF-8.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except UnicodeDecodeError as error:
        for encoding in ("utf-16", "latin-1"):
            with suppress(UnicodeError), table.open(newline="", encoding=encoding) as file:
                if _form(next(csv.reader(file), [])):
                    raise _not_utf8(table) from error
        return []


def _not_utf8(table: Path) -> DatasetInvalid:
    return DatasetInvalid(
        f"{table} is not encoded in UTF-8; save it so (spreadsheets: CSV UTF-8), or convert it with iconv"
    )


def _form(header: list[str]) -> _Form | None:
    names = set(header)
    if {"Image Index", "Finding Labels"} <= names:
        return _chestxray14
    if {"Path", "Frontal/Lateral"} <= names:
        return _chexpert
    lowered = {name.strip().lower() for name in header}
    if lowered & set(PATH_COLUMNS) and lowered - {*PATH_COLUMNS, *PATIENT_COLUMNS, *METADATA_COLUMNS}:
        return _plain
    return None


def _chestxray14(row: Mapping[str, str], _uncertain: Uncertain, _where: str) -> TableRow:
    labels = {name.strip() for name in row["Finding Labels"].split("|")} - {"", "No Finding"}
    patient = row.get("Patient ID", "")
    return TableRow(
        image=row["Image Index"],
        labels=dict.fromkeys(sorted(labels), 1.0),
        patient=str(int(patient)) if patient.isdigit() else patient,
        age=years(row.get("Patient Age")),
        view=row.get("View Position") or None,
        sex=sex_of(row.get("Patient Sex") or row.get("Patient Gender")),
        positives_only=True,
    )


def _chexpert(row: Mapping[str, str], uncertain: Uncertain, where: str) -> TableRow:
    patient = re.search(r"patient\d+", row["Path"])
    lateral = row["Frontal/Lateral"].lower() == "lateral"
    labels = {
        name: _value(text, uncertain, f"{where}, column {name}", empty=0.0)
        for name, text in row.items()
        if name not in _CHEXPERT_METADATA and name.strip() and not says_no_finding(name)
    }
    return TableRow(
        image=row["Path"],
        labels=labels,
        patient=patient.group(0) if patient else "",
        age=years(row.get("Age")),
        view="LATERAL" if lateral else row.get("AP/PA") or None,
        sex=sex_of(row.get("Sex")),
    )


def _plain(row: Mapping[str, str], uncertain: Uncertain, where: str) -> TableRow:
    lowered = {name.strip().lower(): text for name, text in row.items()}
    image = next((lowered[name] for name in PATH_COLUMNS if name in lowered), "")
    no_labels = {*PATH_COLUMNS, *PATIENT_COLUMNS, *METADATA_COLUMNS, *NO_FINDING_NAMES, ""}
    labels = {
        name.strip(): _value(text, uncertain, f"{where}, column {name}", empty=math.nan)
        for name, text in row.items()
        if name.strip().lower() not in no_labels
    }
    return TableRow(
        image=image,
        labels=labels,
        patient=next((lowered[name] for name in PATIENT_COLUMNS if lowered.get(name)), ""),
        age=years(lowered.get("age")),
        view=(lowered.get("view") or "").upper() or None,
        sex=sex_of(lowered.get("sex")),
    )


def _value(text: str, uncertain: Uncertain, where: str, empty: float) -> float:
    if text.lower() not in _WORDS:
        raise DatasetInvalid(f"{where}: a label is {text!r}; allowed are 0, 1, -1 (uncertain) and nothing")
    value = _WORDS[text.lower()]
    if value is None:
        return empty
    return value if value >= 0 else {"ignore": math.nan, "zero": 0.0, "one": 1.0}[uncertain]
