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
    """Split samples into parts by patient, stratified by domain and label.

    Images of one patient, in whichever domain, and duplicates, of whichever patient, form a group that stays together;
    files of one domain and name whose patient is unknown count as one patient's. Groups are assigned by the rarest
    (domain, label, value) in them, each to the part that lacks it most, so that every part gets about its fraction of
    each. The same samples and seed give the same parts.

    Not scikit-learn's StratifiedGroupKFold: its folds have equal sizes, and it stratifies by one label.

    Parameters
    ----------
    samples
        Labelled images.
    seed
        Of the order of groups that are equally rare.
    fractions
        By part; they add up to 1.

    Returns
    -------
    The samples of each part, in their order.
    """
    groups = groups_of(samples)
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
    """Write part, group and patient of each image.

    CSV: part, domain, first 16 digits of the file's SHA-256, number of the group (images of one patient, and
    duplicates), and the patient's digest under the key beside the file, which is created if missing. Without that key
    no patient can be found from it: see `model.dataset.patient_digests`.
    """
    key = PatientKey.of(path.parent)
    members = [(part, sample) for part, samples in parts.items() for sample in samples]
    groups = groups_of([sample for _, sample in members], by_name=False)
    number_of = {index: number for number, group in enumerate(groups) for index in group}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["part", "domain", "sha256", "group", key.column])
        for index, (part, sample) in enumerate(members):
            writer.writerow([part, sample.domain, sample.sha256[:DIGITS], number_of[index], key.digest(sample)])


def read_split(path: Path, samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Split samples as a file of `write_split` does; images that it does not list are in no part.

    Raises
    ------
    DatasetInvalid
        The file cannot be read, has an unknown part, lists none of the samples, or leaks: see `check_leaks`.
    """
    rows = _rows(path)
    part_of = {row["sha256"]: row["part"] for row in rows}
    parts: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for sample in samples:
        part = part_of.get(sample.sha256[:DIGITS])
        if part:
            parts[part].append(sample)
    if not any(parts.values()):
        raise DatasetInvalid(f"{path} lists none of the {len(samples)} images given")
    _check_rows(path, rows)
    check_leaks(parts, str(path))
    return parts


def check_leaks(parts: Mapping[str, Sequence[Sample]], where: str = "the split") -> None:
    """Raise DatasetInvalid where two parts share a patient or an image (data leakage).

    The message gives the number of leaks and, of the first, both files and parts.
    """
    named: dict[str, Callable[[Sample], str]] = {
        "patient": lambda sample: sample.person,
        "byte-identical image": lambda sample: sample.sha256,
        "image, re-encoded": lambda sample: sample.duplicate_group,
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


def check_unseen(split_file: Path, samples: Sequence[Sample]) -> str:
    """Check that images, and other images of their patients, are in no training or validation part.

    Parameters
    ----------
    split_file
        That of the bundle; with its key beside it, patients are compared too.
    samples
        Images to evaluate the bundle on.

    Returns
    -------
    What was compared: files, or files and patients; and why patients were not.

    Raises
    ------
    DatasetInvalid
        Some are; the message says how many and names a file. Or the key is not that of the split file.
    """
    rows = _rows(split_file)
    parts = {row["sha256"]: row["part"] for row in rows}
    files = [(sample, part) for sample in samples if (part := parts.get(sample.sha256[:DIGITS], "test")) != "test"]
    key, compared = _key_of(split_file, rows)
    people: list[tuple[Sample, str]] = []
    if key is not None:
        own = {row[key.column]: row["part"] for row in rows if row[key.column] and row["part"] != "test"}
        same = {sample.path for sample, _ in files}
        others = (sample for sample in samples if sample.path not in same)
        people = [(sample, own[digest]) for sample in others if (digest := key.digest(sample)) in own]
    leaks = []
    if files:
        sample, part = files[0]
        leaks.append(
            f"{len(files)} of the {len(samples)} images are of the network's own training or validation part "
            f"({sample.path.name} of its {part} part)"
        )
    if people:
        sample, part = people[0]
        leaks.append(
            f"{len(people)} of the {len(samples)} images are other images of patients in the network's own training or "
            f"validation part ({sample.path.name}, of a patient in its {part} part, by the patient's number)"
        )
    if leaks:
        raise DatasetInvalid(
            f"{', and '.join(leaks)}: metrics on them would be too good; "
            f"evaluate on the test part of {split_file.name}, or on other images"
        )
    return compared


def unseen(split_file: Path, samples: Sequence[Sample]) -> tuple[list[Sample], str]:
    """Return the samples that are of no training or validation part, nor another image of such a patient or picture.

    Also returns what was compared, as `check_unseen` does, whose parameters and errors are the same.
    """
    rows = _rows(split_file)
    parts = {row["sha256"]: row["part"] for row in rows}
    key, compared = _key_of(split_file, rows)
    own = set() if key is None else {row[key.column] for row in rows if row[key.column] and row["part"] != "test"}
    left: list[Sample] = []
    for group in groups_of(samples):
        members = [samples[index] for index in group]
        files = any(parts.get(sample.sha256[:DIGITS], "test") != "test" for sample in members)
        if not files and (key is None or own.isdisjoint(key.digest(sample) for sample in members)):
            left += members
    return left, compared


def _key_of(split_file: Path, rows: Sequence[Mapping[str, str]]) -> tuple[PatientKey | None, str]:
    """Return the key of a split file's patient digests, None where it is missing, and what can be compared with it."""
    column = next((name for name in rows[0] if name.startswith(COLUMN)), None)
    if column is None:
        return None, "files; the split file has no patients"
    key = PatientKey.read(split_file.parent)
    if key is None:
        return None, f"files; patients cannot be, for {KEY_FILE} stayed where the network was trained"
    if key.column != column:
        raise DatasetInvalid(f"{split_file.parent / KEY_FILE} is not the key of {split_file.name}, which has {column}")
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
            raise DatasetInvalid(f"{path} has the part {row['part']!r}; allowed are {', '.join(PARTS)}")
    return rows


def _check_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Raise DatasetInvalid where the file itself puts one image, or one group, into two parts."""
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
    """Return how much a part lacks of a group's strata, rare ones weighted more; a tie goes to the larger part."""
    need = sum(wanted[kind] / (totals[kind] * fraction) / totals[kind] for kind in kinds) if fraction else -math.inf
    return need, fraction


def groups_of(samples: Sequence[Sample], *, by_name: bool = True) -> list[list[int]]:
    """Return indices of samples that share, also through others, a patient or a picture; in the samples' order.

    With ``by_name``, files of one domain and name whose patient is unknown count as one patient's.
    """
    from scipy.cluster.hierarchy import DisjointSet

    groups = DisjointSet(range(len(samples)))
    first: dict[str, int] = {}
    for index, sample in enumerate(samples):
        keys = {"person": sample.person, "sha256": sample.sha256, "duplicate_group": sample.duplicate_group}
        if by_name and not sample.person:
            keys["patient"] = sample.patient
        for kind, value in keys.items():
            if value:
                groups.merge(index, first.setdefault(f"{kind}:{value}", index))
    return [sorted(group) for group in groups.subsets()]
