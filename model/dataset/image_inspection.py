"""Inspection of every image before training: unreadable files are listed, duplicates are detected.

The resampled images are kept in a file that training maps into memory: collections larger than memory can be trained
on, and a resumed run does not read the images again.
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
SIMILAR = 0.999
"""Correlation of 16 x 16 thumbnails above which two images are compared in full. No two different images of the 5,997
in the demonstration bundle's collections reach it."""
SAME_LEVELS = 3.0
"""Mean difference, in gray levels of 8 bits, up to which two similar images are the same picture re-encoded."""
_THUMBNAIL, _ROWS = 16, 2048


@dataclass(frozen=True, eq=False)
class Inspection:
    """The readable images of a collection, resampled, and the problems of the others.

    Attributes
    ----------
    samples
        The readable images, in the given order, with `duplicate_group` set.
    resized
        uint16 [samples, size, size], in the same order; 65535 is 1.0. Half the size of float32, with a rounding error
        far below that of 8-bit images.
    problems
        Damaged files, duplicates, and duplicates with contradicting labels.
    """

    samples: tuple[Sample, ...]
    resized: NDArray[np.uint16]
    problems: tuple[FileProblem, ...]

    def rows_of(self, samples: Sequence[Sample]) -> NDArray[np.intp]:
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
    """Read and resample every image once.

    Parameters
    ----------
    samples
        The images; those for which `read_image` raises OSError or ValueError are listed as damaged and left out.
    spec
        Preprocessing of the network.
    read_image
        Returns float32 [rows, columns] in [0, 1] of a file.
    file
        The ``.npy`` file to write the resampled images to, with a JSON file beside it that `reopened` reads; None: keep
        them in memory.
    on_image
        Called after each image.
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
    inspection = _with_duplicates(kept, resized[: len(kept)], problems)
    if isinstance(resized, np.memmap):
        resized.flush()
        assert file is not None
        _write_index(inspection, file)
    return inspection


def reopened(samples: Sequence[Sample], file: Path) -> Inspection | None:
    """Return the inspection that an earlier process wrote to `file` for the same samples; None if it did not finish."""
    try:
        table = json.loads(_index_file(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    by_path = {str(sample.path): sample for sample in samples}
    kept = tuple(replace(by_path[path], duplicate_group=duplicate_group) for path, duplicate_group in table["samples"])
    problems = tuple(FileProblem(k, Path(p), why, Path(o) if o else None) for k, p, why, o in table["problems"])
    return Inspection(kept, np.load(file, mmap_mode="r")[: len(kept)], problems)


def _write_index(inspection: Inspection, file: Path) -> None:
    """Write samples and problems beside the resampled images, after these are complete."""
    samples = [(str(sample.path), sample.duplicate_group) for sample in inspection.samples]
    problems = [(p.kind, str(p.path), p.reason, str(p.other) if p.other else "") for p in inspection.problems]
    temporary = file.with_suffix(".temporary")
    temporary.write_text(json.dumps({"samples": samples, "problems": problems}), encoding="utf-8")
    temporary.replace(_index_file(file))


def _index_file(file: Path) -> Path:
    return file.with_suffix(".json")


def find_duplicates(resized: NDArray[np.uint16]) -> list[tuple[int, int]]:
    """Return pairs (earlier, later) of rows that are the same picture, even if encoded or scaled differently."""
    pairs: list[tuple[int, int]] = []
    first: dict[bytes, int] = {}
    for row in range(len(resized)):
        earlier = first.setdefault(hashlib.sha256(_levels(resized[row]).tobytes()).digest(), row)
        if earlier != row:
            pairs.append((earlier, row))
    thumbnails = _thumbnails(resized)
    exact = set(pairs)
    for start in range(0, len(thumbnails), _ROWS):
        correlations = thumbnails[start : start + _ROWS] @ thumbnails[start:].T
        for one, other in zip(*np.nonzero(correlations > SIMILAR), strict=True):
            pair = (start + int(one), start + int(other))
            if pair[0] < pair[1] and pair not in exact:
                difference = np.abs(_levels(resized[pair[0]]).astype(np.int16) - _levels(resized[pair[1]])).mean()
                if difference <= SAME_LEVELS:
                    pairs.append(pair)
    return pairs


def write_problems(problems: Sequence[FileProblem], path: Path) -> None:
    """Write the problems as CSV, one row per file; without problems remove the file."""
    if not problems:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["problem", "file", "other", "reason"])
        for problem in problems:
            writer.writerow([problem.kind, problem.path, problem.other or "", problem.reason])


def summary(problems: Sequence[FileProblem]) -> str:
    """Return the number of problems of each kind in one line; empty without problems."""
    words: Mapping[str, str] = {
        "missing": "named in a table but missing",
        "damaged": "left out because they cannot be read",
        "duplicate": "are duplicates of another image",
        "leak": "left out, since a part held out has their patient or picture",
        "contradiction": "have labels that contradict those of their duplicate",
    }
    counts = Counter(problem.kind for problem in problems)
    return "; ".join(f"{counts[kind]} {text}" for kind, text in words.items() if counts[kind])  # type: ignore[index]


def _with_duplicates(samples: list[Sample], resized: NDArray[np.uint16], problems: list[FileProblem]) -> Inspection:
    """Set the duplicate group of every image that has duplicates, and add these to the problems."""
    marked, listed = list(samples), set()
    for earlier, later in sorted(find_duplicates(resized)):
        one, other = marked[earlier], marked[later]
        duplicate_group = one.duplicate_group or hashlib.sha256(_levels(resized[earlier]).tobytes()).hexdigest()[:16]
        marked[earlier] = replace(one, duplicate_group=duplicate_group)
        if other.duplicate_group:  # it has a group already: merge the two
            marked = [
                replace(sample, duplicate_group=duplicate_group)
                if sample.duplicate_group == other.duplicate_group
                else sample
                for sample in marked
            ]
        marked[later] = replace(marked[later], duplicate_group=duplicate_group)
        if later not in listed:
            listed.add(later)
            problems += _duplicate_problems(one, other)
    return Inspection(tuple(marked), resized, tuple(problems))


def _duplicate_problems(one: Sample, other: Sample) -> list[FileProblem]:
    how = "byte for byte" if one.sha256 == other.sha256 else "by its pixels"
    problems = [FileProblem("duplicate", other.path, f"the same {how}", one.path)]
    shared = sorted(set(one.labels) & set(other.labels))
    contrary = [name for name in shared if abs(one.labels[name] - other.labels[name]) == 1.0]
    if contrary:
        problems.append(FileProblem("contradiction", other.path, f"other values of {', '.join(contrary)}", one.path))
    return problems


def _levels(square: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return an image in 8 bits, in which pictures are compared."""
    levels: NDArray[np.uint8] = ((square.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return levels


def _thumbnails(resized: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return thumbnails, float32 [n, pixels], centred and scaled to unit length; zeros for a uniform image."""
    import cv2

    size = (_THUMBNAIL, _THUMBNAIL)
    small = [cv2.resize(_levels(s), size, interpolation=cv2.INTER_AREA).reshape(-1) for s in resized]
    thumbnails = np.array(small, np.float32).reshape(len(resized), _THUMBNAIL**2)
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    length = np.linalg.norm(thumbnails, axis=1, keepdims=True)
    result: NDArray[np.float32] = np.where(length > 1.0, thumbnails / np.maximum(length, 1e-6), 0.0).astype(np.float32)
    return result
