"""The folder of a training run: the run's identity, which a resumed run must share, and the move of its bundle."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.bundle.bundle import DESCRIPTION_FILE, UNFINISHED_FILE, Bundle, load_bundle
from model.dataset.samples import DatasetInvalid, Sample

PLAN_FILE = "plan.json"


def begin_run(run: Path, identity: Mapping[str, Any]) -> None:
    """Write a run's identity into its folder, or compare it with that of the run which the folder holds.

    Parameters
    ----------
    run
        The folder.
    identity
        Plain values by name: plan, data, split. Names that the folder's identity lacks are added to it.

    Raises
    ------
    DatasetInvalid
        The folder holds a run with another identity; the message names the differences.
    """
    path = run / PLAN_FILE
    identity = json.loads(json.dumps(identity))  # as it reads back: tuples are lists
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        stored = {}
    except ValueError:
        stored = dict.fromkeys(identity, "unreadable")
    others = [name for name, value in identity.items() if stored.setdefault(name, value) != value]
    if others:
        raise DatasetInvalid(
            f"{run} holds a run that began with other {', '.join(others)}; "
            "give the same to resume it, or remove that folder to begin anew"
        )
    temporary = path.with_name(f"{PLAN_FILE}.temporary")
    temporary.write_text(json.dumps(stored, indent=1), encoding="utf-8")
    temporary.replace(path)


def samples_identity(samples: Sequence[Sample]) -> dict[str, str]:
    """Return digests of the training data: bytes, labels, patients and domains of all samples, in order."""
    return {
        "images": _digest(sample.sha256 for sample in samples),
        "labels of the images": _digest(sorted(sample.labels.items()) for sample in samples),
        "patients": _digest(sample.patient for sample in samples),
        "domains": _digest(sample.domain for sample in samples),
    }


def parts_identity(parts: Mapping[str, Sequence[Sample]]) -> dict[str, str]:
    """Return a digest of the assignment of images to parts."""
    return {"parts (the split)": _digest((part, sample.sha256) for part, of in parts.items() for sample in of)}


def moved_out(made: Path, output: Path) -> Bundle:
    """Move a complete bundle into a folder, its manifest last: a folder without one is not taken for a bundle."""
    (output / DESCRIPTION_FILE).unlink(missing_ok=True)
    for path in made.iterdir():
        sync(path)
        if path.name not in (DESCRIPTION_FILE, UNFINISHED_FILE):
            path.replace(output / path.name)
    (made / DESCRIPTION_FILE).replace(output / DESCRIPTION_FILE)
    sync(output)
    return load_bundle(output)


def sync(path: Path) -> None:
    """Make a file's contents, or the names in a folder, durable: until then a power cut undoes writing and renaming."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(values: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()
