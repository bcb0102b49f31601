"""Every image read once before training: what cannot be read is listed, what shows the same is found.

The images are kept as the tensor function resampled them, in a file that training maps into memory: collections larger
than memory can be trained on, and a resumed run does not read them again.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.dataset.samples import FileProblem, Sample
from model.preprocessing.tensor import Preprocessing, resample

PROBLEMS_FILE = "problems.csv"
ALIKE = 0.999
"""Correlation of 16 x 16 thumbnails from which two images are compared in full. Of the 5,997 of the demonstration
bundle's collections no two that differ reach it."""
SAME_LEVELS = 3.0
"""Mean difference in levels of 255 up to which two alike images are the same one encoded anew."""
_THUMBNAIL, _ROWS = 16, 2048


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found.

    Attributes
    ----------
    samples
        Those that can be read, in order, with their duplicates marked.
    resized
        uint16 [samples, size, size], 65535 for 1.0, of the same order: a thousandth of what a level of 8 bits is off,
        for half of what the numbers themselves take.
    problems
        Damaged files, duplicates and contradictions.
    """

    samples: tuple[Sample, ...]
    resized: NDArray[np.uint16]
    problems: tuple[FileProblem, ...]

    def of(self, samples: Sequence[Sample]) -> NDArray[np.intp]:
        """Return the row of each sample in `resized`."""
        rows = {sample.path: row for row, sample in enumerate(self.samples)}
        return np.array([rows[sample.path] for sample in samples], np.intp)


def inspect_images(
    samples: Sequence[Sample],
    spec: Preprocessing,
    read_image: Callable[[Path], NDArray[np.float32]],
    file: Path | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> Inspection:
    """Read every image once.

    Parameters
    ----------
    samples
        The images; those that `read_image` refuses with a ValueError are left out and listed.
    spec
        How they become tensors.
    read_image
        Returns float32 [rows, columns] in [0, 1].
    file
        Where the resized images are kept (``.npy``), and beside them what `reopened` needs; None: in memory.
    """
    shape = (len(samples), spec.size, spec.size)
    resized: NDArray[np.uint16]
    if file is None:
        resized = np.empty(shape, np.uint16)
    else:
        resized = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint16, shape=shape)
    kept: list[Sample] = []
    problems: list[FileProblem] = []
    for sample in samples:
        try:
            square = resample(read_image(sample.path), spec)[0]
        except (OSError, ValueError) as error:
            problems.append(FileProblem("damaged", sample.path, str(error)))
        else:
            resized[len(kept)] = np.rint(square * 65535).astype(np.uint16)
            kept.append(sample)
        on_image()
    found = _joined(kept, resized[: len(kept)], problems)
    if isinstance(resized, np.memmap):
        resized.flush()
        assert file is not None
        _write_found(found, file)
    return found


def reopened(samples: Sequence[Sample], file: Path) -> Inspection | None:
    """Return what `inspect_images` found of the same images in an earlier process; None where it did not end."""
    try:
        table = json.loads(_found_file(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    by_path = {str(sample.path): sample for sample in samples}
    kept = tuple(replace(by_path[path], duplicate_group=duplicate_group) for path, duplicate_group in table["samples"])
    problems = tuple(FileProblem(k, Path(p), why, Path(o) if o else None) for k, p, why, o in table["problems"])
    return Inspection(kept, np.load(file, mmap_mode="r")[: len(kept)], problems)


def _write_found(found: Inspection, file: Path) -> None:
    """Write beside the resized images what else was found, once all of them are written."""
    samples = [(str(sample.path), sample.duplicate_group) for sample in found.samples]
    problems = [(p.kind, str(p.path), p.reason, str(p.other) if p.other else "") for p in found.problems]
    temporary = file.with_suffix(".temporary")
    temporary.write_text(json.dumps({"samples": samples, "problems": problems}), encoding="utf-8")
    temporary.replace(_found_file(file))


def _found_file(file: Path) -> Path:
    return file.with_suffix(".json")


def find_duplicates(resized: NDArray[np.uint16]) -> list[tuple[int, int]]:
    """Return pairs (earlier, later) of images that show the same picture, though encoded or scaled differently."""
    pairs: list[tuple[int, int]] = []
    first: dict[bytes, int] = {}
    for row in range(len(resized)):
        earlier = first.setdefault(hashlib.sha256(_levels(resized[row]).tobytes()).digest(), row)
        if earlier != row:
            pairs.append((earlier, row))
    thumbnails = _thumbnails(resized)
    exact = set(pairs)
    for start in range(0, len(thumbnails), _ROWS):
        alike = thumbnails[start : start + _ROWS] @ thumbnails[start:].T
        for one, other in zip(*np.nonzero(alike > ALIKE), strict=True):
            pair = (start + int(one), start + int(other))
            if pair[0] < pair[1] and pair not in exact:
                difference = np.abs(_levels(resized[pair[0]]).astype(np.int16) - _levels(resized[pair[1]])).mean()
                if difference <= SAME_LEVELS:
                    pairs.append(pair)
    return pairs


def write_problems(problems: Sequence[FileProblem], path: Path) -> None:
    """Write what is amiss, a file a row; no file where nothing is."""
    if not problems:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["problem", "file", "other", "reason"])
        for problem in problems:
            writer.writerow([problem.kind, problem.path, problem.other or "", problem.reason])


def summary(problems: Sequence[FileProblem]) -> str:
    """Say in one line what is amiss; empty where nothing is."""
    words: Mapping[str, str] = {
        "missing": "named in a table and not there",
        "damaged": "left out because they cannot be read",
        "duplicate": "show the same as another and share its part",
        "contradiction": "have other labels than their duplicate",
    }
    counts = Counter(problem.kind for problem in problems)
    return "; ".join(f"{counts[kind]} {text}" for kind, text in words.items() if counts[kind])  # type: ignore[index]


def _joined(samples: list[Sample], resized: NDArray[np.uint16], problems: list[FileProblem]) -> Inspection:
    marked, listed = list(samples), set()
    for earlier, later in sorted(find_duplicates(resized)):
        one, other = marked[earlier], marked[later]
        duplicate_group = one.duplicate_group or hashlib.sha256(_levels(resized[earlier]).tobytes()).hexdigest()[:16]
        marked[earlier] = replace(one, duplicate_group=duplicate_group)
        if other.duplicate_group:  # joined with another image already: all of both are the same
            marked = [
                replace(sample, duplicate_group=duplicate_group)
                if sample.duplicate_group == other.duplicate_group
                else sample
                for sample in marked
            ]
        marked[later] = replace(marked[later], duplicate_group=duplicate_group)
        if later not in listed:
            listed.add(later)
            problems += _of_the_pair(one, other)
    return Inspection(tuple(marked), resized, tuple(problems))


def _of_the_pair(one: Sample, other: Sample) -> list[FileProblem]:
    how = "byte for byte" if one.sha256 == other.sha256 else "by its pixels"
    found = [FileProblem("duplicate", other.path, f"the same {how}", one.path)]
    shared = sorted(set(one.labels) & set(other.labels))
    contrary = [name for name in shared if abs(one.labels[name] - other.labels[name]) == 1.0]
    if contrary:
        found.append(FileProblem("contradiction", other.path, f"other values of {', '.join(contrary)}", one.path))
    return found


def _levels(square: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return an image in the 255 levels that pictures are compared in."""
    levels: NDArray[np.uint8] = ((square.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return levels


def _thumbnails(resized: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return thumbnails less their mean, of length one; of zeros where an image is all of one shade."""
    import cv2

    size = (_THUMBNAIL, _THUMBNAIL)
    small = [cv2.resize(_levels(s), size, interpolation=cv2.INTER_AREA).reshape(-1) for s in resized]
    thumbnails = np.array(small, np.float32).reshape(len(resized), _THUMBNAIL**2)
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    length = np.linalg.norm(thumbnails, axis=1, keepdims=True)
    result: NDArray[np.float32] = np.where(length > 1.0, thumbnails / np.maximum(length, 1e-6), 0.0).astype(np.float32)
    return result
