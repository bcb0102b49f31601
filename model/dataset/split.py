"""Training, validation and test parts that share no patient and no duplicate."""

import csv
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from model.dataset.patient_digests import COLUMN, KEY_FILE, PatientKey
from model.dataset.samples import DatasetInvalid, Sample

PARTS = ("training", "validation", "test")
FRACTIONS = {"training": 0.70, "validation": 0.15, "test": 0.15}
DIGITS = 16


def split_by_patient(
    samples: Sequence[Sample], seed: int, fractions: Mapping[str, float] = FRACTIONS
) -> dict[str, list[Sample]]:
    """Divide samples into parts, patients kept whole.

    Images of one patient, and images that are byte-identical or show the same picture, whoever they are said to belong
    to, stay together. Groups are dealt out by the rarest (domain, label, value) they hold, each to the part that needs
    it most, so that every part holds about its fraction of every kind. The same samples and seed give the same parts.

    Returns
    -------
    A list a part, in the samples' order.
    """
    groups = _groups(samples)
    kinds = [Counter(kind for index in group for kind in _kinds(samples[index])) for group in groups]
    totals: Counter[tuple[str, str, float]] = sum(kinds, Counter())
    wanted = {part: {kind: totals[kind] * fraction for kind in totals} for part, fraction in fractions.items()}
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda number: (min(totals[kind] for kind in kinds[number]), -len(groups[number])))
    part_of: dict[int, str] = {}
    for number in order:
        part = max(wanted, key=lambda name: _need(wanted[name], kinds[number], totals, fractions[name]))
        for kind, count in kinds[number].items():
            wanted[part][kind] -= count
        part_of.update(dict.fromkeys(groups[number], part))
    return {part: [samples[i] for i in range(len(samples)) if part_of[i] == part] for part in fractions}


def write_split(parts: Mapping[str, Sequence[Sample]], path: Path) -> None:
    """Write which image went into which part, which belong together, and whose they are.

    CSV: part, domain, first 16 digits of the file's SHA-256, number of the group (images of one patient, and images
    that show the same), and a digest of the patient under the key beside the file, which is made where there is none.
    No patient is named, nor can be found by trying numbers without that key: see `model.dataset.patient_digests`.
    """
    key = PatientKey.of(path.parent)
    members = [(part, sample) for part, samples in parts.items() for sample in samples]
    groups = _groups([sample for _, sample in members])
    number_of = {index: number for number, group in enumerate(groups) for index in group}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["part", "domain", "sha256", "group", key.column])
        for index, (part, sample) in enumerate(members):
            writer.writerow([part, sample.domain, sample.sha256[:DIGITS], number_of[index], key.digest(sample)])


def read_split(path: Path, samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Divide samples as a file of `write_split` says; images that it does not name are in no part.

    Raises
    ------
    DatasetInvalid
        The file cannot be read, names a part that does not exist, or none of the samples, or it leaks: see
        `check_leaks`.
    """
    rows = _rows(path)
    part_of = {row["sha256"]: row["part"] for row in rows}
    parts: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for sample in samples:
        part = part_of.get(sample.sha256[:DIGITS])
        if part:
            parts[part].append(sample)
    if not any(parts.values()):
        raise DatasetInvalid(f"{path} names none of the {len(samples)} images given")
    _check_rows(path, rows)
    check_leaks(parts, str(path))
    return parts


def check_leaks(parts: Mapping[str, Sequence[Sample]], where: str = "the split") -> None:
    """Refuse parts that share a patient, or an image: what is measured on one would have been learnt on the other.

    Raises
    ------
    DatasetInvalid
        Names how many, the parts, and two of the files.
    """
    named: dict[str, Callable[[Sample], str]] = {
        "patient": lambda sample: sample.patient,
        "byte-identical image": lambda sample: sample.sha256,
        "image, encoded anew": lambda sample: sample.duplicate_group,
    }
    for what, key in named.items():
        first: dict[str, tuple[str, Sample]] = {}
        leaks: dict[str, tuple[str, Sample, str, Sample]] = {}
        for part, members in parts.items():
            for sample in members:
                value = key(sample)
                other_part, other = first.setdefault(value, (part, sample))
                if value and other_part != part:
                    leaks.setdefault(value, (other_part, other, part, sample))
        if leaks:
            one_part, one, other_part, other = next(iter(leaks.values()))
            raise DatasetInvalid(
                f"{where} leaks: {len(leaks)} times the same {what} is in two parts, "
                f"such as {one.path.name} ({one_part}) and {other.path.name} ({other_part})"
            )


def check_unseen(trained: Path, judged: Sequence[Sample]) -> str:
    """Refuse to judge a network on images or patients that it was trained on, or had its thresholds set on.

    Parameters
    ----------
    trained
        The split file of the bundle; where its key lies beside it, patients are compared too.
    judged
        Images that it is to be measured on.

    Returns
    -------
    What was compared, and if not all was, why.

    Raises
    ------
    DatasetInvalid
        Says how many of them, and names a file; or the key is not that of the split file.
    """
    rows = _rows(trained)
    parts = {row["sha256"]: row["part"] for row in rows}
    files = [(sample, part) for sample in judged if (part := parts.get(sample.sha256[:DIGITS], "test")) != "test"]
    key, compared = _key_of(trained, rows)
    people: list[tuple[Sample, str]] = []
    if key is not None:
        own = {row[key.column]: row["part"] for row in rows if row[key.column] and row["part"] != "test"}
        same = {sample.path for sample, _ in files}
        others = (sample for sample in judged if sample.path not in same)
        people = [(sample, own[digest]) for sample in others if (digest := key.digest(sample)) in own]
    found = []
    if files:
        sample, part = files[0]
        found.append(
            f"{len(files)} of the {len(judged)} images are of the network's own training or validation part "
            f"({sample.path.name} of its {part} part)"
        )
    if people:
        sample, part = people[0]
        found.append(
            f"{len(people)} of the {len(judged)} images are other images of patients in the network's own training or "
            f"validation part ({sample.path.name}, of a patient in its {part} part, by the patient's number)"
        )
    if found:
        raise DatasetInvalid(
            f"{', and '.join(found)}: what is measured on them says nothing; "
            f"measure on the test part of {trained.name}, or on other images"
        )
    return compared


def _key_of(trained: Path, rows: Sequence[Mapping[str, str]]) -> tuple[PatientKey | None, str]:
    """Return the key to a split file's patients, if it is to be had, and what can be compared so."""
    column = next((name for name in rows[0] if name.startswith(COLUMN)), None)
    if column is None:
        return None, "files; the split file tells no patients"
    key = PatientKey.read(trained.parent)
    if key is None:
        return None, f"files; patients cannot be, for {KEY_FILE} stayed where the network was trained"
    if key.column != column:
        raise DatasetInvalid(f"{trained.parent / KEY_FILE} is not the key of {trained.name}, which has {column}")
    return key, "files and patients"


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetInvalid(f"the split file {path} cannot be read: {error}") from error
    if not rows or not {"part", "sha256"} <= set(rows[0]):
        columns = ", ".join(rows[0]) if rows else "none"
        raise DatasetInvalid(f"the split file {path} has the columns {columns}; part, domain, sha256, group are needed")
    for row in rows:
        if row["part"] not in PARTS:
            raise DatasetInvalid(f"{path} names the part {row['part']!r}; allowed are {', '.join(PARTS)}")
    return rows


def _check_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Refuse a file that by itself puts one image, or one group, into two parts."""
    for column in ("sha256", "group"):
        part_of: dict[str, str] = {}
        for row in rows:
            value = row.get(column)
            if value and part_of.setdefault(value, row["part"]) != row["part"]:
                raise DatasetInvalid(
                    f"{path} leaks: the {'image' if column == 'sha256' else 'group'} {value} is in the parts "
                    f"{part_of[value]} and {row['part']}"
                )


def _kinds(sample: Sample) -> list[tuple[str, str, float]]:
    known = [(sample.domain, label, value) for label, value in sample.labels.items() if not math.isnan(value)]
    return known or [(sample.domain, "", 0.0)]


def _need(
    wanted: Mapping[tuple[str, str, float], float],
    kinds: Mapping[tuple[str, str, float], int],
    totals: Mapping[tuple[str, str, float], int],
    fraction: float,
) -> tuple[float, float]:
    """How much a part still lacks what a group holds, rare kinds counting more; ties go to the larger part."""
    need = sum(wanted[kind] / (totals[kind] * fraction) / totals[kind] for kind in kinds) if fraction else -math.inf
    return need, fraction


def _groups(samples: Sequence[Sample]) -> list[list[int]]:
    """Join samples that share a patient, a digest or a picture (union-find), in the samples' order."""
    parent = list(range(len(samples)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, sample in enumerate(samples):
        keys = [f"patient:{sample.patient}", f"sha256:{sample.sha256}", f"duplicate_group:{sample.duplicate_group}"]
        for key in keys if sample.duplicate_group else keys[:2]:
            parent[root(index)] = root(first.setdefault(key, index))
    groups: dict[int, list[int]] = {}
    for index in range(len(samples)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())
