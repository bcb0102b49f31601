"""The folder of a training run: what it is a run of, that nothing else goes on with it, and how its bundle leaves."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.bundle.bundle import DESCRIPTION_FILE, UNFINISHED_FILE, Bundle, load_bundle
from model.dataset.samples import DatasetInvalid, Sample

PLAN_FILE = "plan.json"


def begin_run(run: Path, identity: Mapping[str, Any]) -> None:
    """Write what a run is of into its folder, or refuse to go on with one that began as another.

    Parameters
    ----------
    run
        The folder.
    identity
        Plain values by name. What an earlier call did not tell is added.

    Raises
    ------
    DatasetInvalid
        The folder holds a run with another identity; the message names what differs.
    """
    path = run / PLAN_FILE
    identity = json.loads(json.dumps(identity))  # as it reads back: tuples are lists
    try:
        begun: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        begun = {}
    except ValueError:
        begun = dict.fromkeys(identity, "of a version that wrote this otherwise")
    others = [name for name, value in identity.items() if begun.setdefault(name, value) != value]
    if others:
        raise DatasetInvalid(
            f"{run} holds a run that began with other {', '.join(others)}; "
            "give the same to go on with it, or remove that folder to begin anew"
        )
    temporary = path.with_name(f"{PLAN_FILE}.temporary")
    temporary.write_text(json.dumps(begun, indent=1), encoding="utf-8")
    temporary.replace(path)


def samples_identity(samples: Sequence[Sample]) -> dict[str, str]:
    """Return digests of what training learns from images: their bytes, labels, patients and domains, in order."""
    return {
        "images": _digest(sample.sha256 for sample in samples),
        "labels of the images": _digest(sorted(sample.labels.items()) for sample in samples),
        "patients": _digest(sample.patient for sample in samples),
        "domains": _digest(sample.domain for sample in samples),
    }


def parts_identity(parts: Mapping[str, Sequence[Sample]]) -> dict[str, str]:
    """Return a digest of which image is in which part."""
    return {"parts (the split)": _digest((part, sample.sha256) for part, of in parts.items() for sample in of)}


def moved_out(made: Path, output: Path) -> Bundle:
    """Move a complete bundle into a folder, its description last: without one, what lies there is no bundle."""
    (output / DESCRIPTION_FILE).unlink(missing_ok=True)
    for path in made.iterdir():
        if path.name not in (DESCRIPTION_FILE, UNFINISHED_FILE):
            path.replace(output / path.name)
    (made / DESCRIPTION_FILE).replace(output / DESCRIPTION_FILE)
    return load_bundle(output)


def _digest(values: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()
