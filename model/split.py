"""Training, validation and test parts that share no patient and no duplicate."""

import csv
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from model.dataset import DatasetInvalid, Sample

PARTS = ("training", "validation", "test")
FRACTIONS = {"training": 0.70, "validation": 0.15, "test": 0.15}
DIGITS = 16


def split_by_patient(
    samples: Sequence[Sample], seed: int, fractions: Mapping[str, float] = FRACTIONS
) -> dict[str, list[Sample]]:
    """Divide samples into parts, patients kept whole.

    Images of one patient, and byte-identical images whoever they are said to belong to, stay together. Groups are dealt
    out by the rarest (domain, label, value) they hold, each to the part that lacks it most, so that every part holds
    close to its fraction of every kind. The same samples and seed give the same parts.

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
    """Write which image went into which part (CSV: part, domain, first 16 digits of the file's SHA-256)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["part", "domain", "sha256"])
        for part, members in parts.items():
            for sample in members:
                writer.writerow([part, sample.domain, sample.sha256[:DIGITS]])


def read_split(path: Path, samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Divide samples as a file of `write_split` says; images that it does not name are in no part.

    Raises
    ------
    DatasetInvalid
        The file names a part that does not exist, or none of the samples.
    """
    part_of: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["part"] not in PARTS:
                raise DatasetInvalid(f"{path} names the part {row['part']!r}; allowed are {', '.join(PARTS)}")
            part_of[row["sha256"]] = row["part"]
    parts: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for sample in samples:
        part = part_of.get(sample.sha256[:DIGITS])
        if part:
            parts[part].append(sample)
    if not any(parts.values()):
        raise DatasetInvalid(f"{path} names none of the {len(samples)} images given")
    return parts


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
    """Join samples that share a patient or a digest (union-find), in the samples' order."""
    parent = list(range(len(samples)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, sample in enumerate(samples):
        for key in (f"patient:{sample.patient}", f"sha256:{sample.sha256}"):
            parent[root(index)] = root(first.setdefault(key, index))
    groups: dict[int, list[int]] = {}
    for index in range(len(samples)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())
