"""`analyse`: files in, findings out, without any service and without touching the database's results."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_io.facts import UnreadableDicom, read_facts
from dicom_io.gate import GateRules, decide
from dicom_io.grayscale import PixelsUnreadable
from dicom_io.sources import InputFile, find_inputs
from model.bundle import Bundle
from model.raster import UnreadableImage
from model.reader import Reader
from worker.facts import finding_facts
from worker.pipeline import ImageReading, draw, explained_labels, make_heatmaps, read_dicom, read_picture
from worker.timing import now


@dataclass(frozen=True)
class Identity:
    """Who an input is, as far as it says."""

    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None


def analyse_files(
    paths: Sequence[Path], reader: Reader, rules: GateRules, out: Path | None, begun: Callable[[int, int], None]
) -> Iterator[dict[str, Any]]:
    """Analyse every input under ``paths`` and yield its facts under the names of the contract.

    Parameters
    ----------
    out : Path, optional
        Folder for a PNG overlay per label explained, and for the DICOM objects of DICOM inputs. The UIDs of these
        objects are new on every run: nobody keeps their bytes, so none may be used twice.
    begun : callable
        Told (number done, number of inputs) before each input.
    """
    inputs = list(find_inputs(paths))
    installation = uuid.uuid4()
    for number, found in enumerate(inputs):
        begun(number, len(inputs))
        yield _analyse(found, reader, rules, out, installation)
    begun(len(inputs), len(inputs))


def _analyse(
    found: InputFile, reader: Reader, rules: GateRules, out: Path | None, installation: uuid.UUID
) -> dict[str, Any]:
    who = Identity()
    try:
        if found.kind in ("png", "jpeg"):
            read = read_picture(found.path, reader)
        elif found.kind == "dicom":
            facts = read_facts(found.path)
            who = Identity(facts.sop_instance_uid, facts.study_instance_uid)
            decision = decide(facts, rules, is_own=False)
            if not decision.accepted:
                return _ended(found, who, "not_applicable", decision.reason, decision.flags)
            read = read_dicom(found.path, reader, age_years=facts.age_years, view=facts.view, flags=decision.flags)
        else:
            return _ended(found, who, "failed", "neither DICOM nor PNG nor JPEG", ())
    except (UnreadableDicom, PixelsUnreadable, UnreadableImage, OSError) as error:
        return _ended(found, who, "failed", str(error), ())
    objects = [] if out is None else _write_objects(found, who, read, reader.bundle, out, installation)
    return {
        **_ended(found, who, "done", "", read.flags),
        "findings": [finding_facts(finding) for finding in read.findings],
        "objects": objects,
    }


def _ended(found: InputFile, who: Identity, status: str, reason: str, flags: Sequence[str]) -> dict[str, Any]:
    return {
        "source": str(found.path),
        "sop_instance_uid": who.sop_instance_uid,
        "study_instance_uid": who.study_instance_uid,
        "status": status,
        "reason": reason,
        "flags": list(flags),
        "findings": [],
        "objects": [],
    }


def _write_objects(
    found: InputFile, who: Identity, read: ImageReading, bundle: Bundle, out: Path, installation: uuid.UUID
) -> list[dict[str, Any]]:
    from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    # inputs of the same name in different folders must not overwrite each other
    mark = hashlib.sha256(os.fsencode(found.path.absolute())).hexdigest()[:6]
    stem = f"{found.path.stem}.{mark}"
    objects: list[dict[str, Any]] = []
    for index in explained_labels(read.findings):
        label = read.findings[index].label
        overlay = out / f"{stem}.{label}.png"
        Image.fromarray(draw(read, index, bundle)[0]).save(overlay)
        objects.append({"kind": "overlay", "label": label, "path": str(overlay), "sop_instance_uid": None})
    if read.grayscale is None or not who.sop_instance_uid or not who.study_instance_uid:
        return objects
    for heatmap in make_heatmaps(
        found.path,
        read,
        bundle,
        installation=installation,
        sop_instance_uid=who.sop_instance_uid,
        study_instance_uid=who.study_instance_uid,
        created=now(),
    ):
        path = out / f"{stem}.{heatmap.label}.dcm"
        path.write_bytes(heatmap.data)
        objects.append(
            {
                "kind": "heatmap",
                "label": heatmap.label,
                "path": str(path),
                "sop_instance_uid": heatmap.sop_instance_uid,
            }
        )
    return objects
