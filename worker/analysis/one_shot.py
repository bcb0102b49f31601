"""`analyse`: files in, findings out, without any service and without touching the database's results.

No file ends the folder: an error that nobody foresaw is that file's result, and `analyse_isolated` survives decoders
that crash or hang.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Any

from dicom_io.gate.decision import GateRules, decide
from dicom_io.header.input_files import InputFile, find_inputs
from dicom_io.header.instance_header import UnreadableDicom, read_header
from dicom_io.objects.heatmap_secondary_capture import NoObjectPossible
from dicom_io.pixels.grayscale import PixelsUnreadable
from model.bundle.bundle import Bundle
from model.preprocessing.image_files import UnreadableImage
from model.rendering.overlay import OverlayStyle
from worker.analysis.model_selection import Choose, ReadByNobody
from worker.analysis.pipeline import read_dicom, read_picture
from worker.objects.heatmap import draw, explained_labels
from worker.objects.kind import uid_text
from worker.objects.registry import KINDS
from worker.objects.request import ImageReading, ObjectRequest, ReadImage
from worker.runtime.clock import Clock
from worker.runtime.isolated_process import CallEnded, Handler, IsolatedCalls, unforeseen
from worker.runtime.timeouts import ANALYSIS_TIME_LIMIT, CHILD_START_LIMIT
from worker.worklist.listing import finding_facts


@dataclass(frozen=True)
class Identity:
    """Who an input is, as far as it says."""

    sop_instance_uid: str | None = None
    study_instance_uid: str | None = None


def analyse_files(
    paths: Sequence[Path],
    choose: Choose,
    rules: GateRules,
    out: Path | None,
    begun: Callable[[int, int], None],
    *,
    clock: Clock,
    zone: tzinfo | None = None,
    style: OverlayStyle = "both",
    reduced_resolution: bool = True,
) -> Iterator[dict[str, Any]]:
    """Analyse every input under ``paths`` and yield its facts under the names of the contract.

    Parameters
    ----------
    choose : callable
        Given age and view, which reader reads the image; `ReadByNobody`.
    out : Path, optional
        Folder for a PNG overlay per label explained, and for the DICOM objects of DICOM inputs. The UIDs of these
        objects are new on every run: nobody keeps their bytes, so none may be used twice.
    begun : callable
        Called with (number done, number of inputs) before each input.
    clock
        Its time goes into the objects.
    zone
        Of times in objects whose source names none; None: this machine's.
    style
        How heatmaps are drawn.
    reduced_resolution
        As for `worker.analysis.pipeline.read_dicom`.
    """
    inputs = list(find_inputs(paths))
    analyse = reading_inputs(
        lambda: choose, rules, out, clock=clock, zone=zone, style=style, reduced_resolution=reduced_resolution
    )
    for number, found in enumerate(inputs):
        begun(number, len(inputs))
        yield analyse(found)
    begun(len(inputs), len(inputs))


def analyse_isolated(
    paths: Sequence[Path], begin: Callable[[], Handler], engine: str, begun: Callable[[int, int], None]
) -> Iterator[dict[str, Any]]:
    """Analyse every input as `analyse_files` does, in a process of its own that may crash or hang.

    Parameters
    ----------
    begin
        Calls `reading_inputs`; it runs in the other process and must be picklable.
    engine
        The engine's name; how long opening a model may take depends on it.
    begun
        As for `analyse_files`.

    Raises
    ------
    BundleInvalid, EngineUnsuitable
        As `model.inference.predictor.Predictor.open` does, before the first input.
    """
    inputs = list(find_inputs(paths))
    with IsolatedCalls(begin, start_seconds=CHILD_START_LIMIT[engine], call_seconds=ANALYSIS_TIME_LIMIT) as analysed:
        for number, found in enumerate(inputs):
            begun(number, len(inputs))
            try:
                yield analysed(found)
            except CallEnded as error:
                yield _ended(found, Identity(), "failed", f"reading it failed: {error}", ())
    begun(len(inputs), len(inputs))


def reading_inputs(
    open_readers: Callable[[], Choose],
    rules: GateRules,
    out: Path | None,
    *,
    clock: Clock,
    zone: tzinfo | None = None,
    style: OverlayStyle = "both",
    reduced_resolution: bool,
) -> Handler:
    """Open the readers and return what analyses one `InputFile`; the facts it gives are those of the contract."""
    how = _How(open_readers(), rules, out, uuid.uuid4(), clock, zone, style, reduced_resolution)
    return partial(_analyse_whatever_happens, how)


@dataclass(frozen=True, eq=False)
class _How:
    """What is the same for all inputs."""

    choose: Choose
    rules: GateRules
    out: Path | None
    installation: uuid.UUID
    clock: Clock
    zone: tzinfo | None
    style: OverlayStyle
    reduced_resolution: bool
    made: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # objects by study, kind and model


def _analyse_whatever_happens(how: _How, found: InputFile) -> dict[str, Any]:
    try:
        return _analyse(how, found)
    except Exception as error:  # noqa: BLE001 - the outermost edge of one file's work
        return _ended(found, Identity(), "failed", unforeseen(error), ())


def _analyse(how: _How, found: InputFile) -> dict[str, Any]:
    who = Identity()
    try:
        if found.kind in ("png", "jpeg"):
            reader = how.choose(None, None)
            read = read_picture(found.path, reader)
        elif found.kind == "dicom":
            facts = read_header(found.path, how.rules.tags)
            who = Identity(facts.sop_instance_uid, facts.study_instance_uid)
            decision = decide(facts, how.rules, is_own=False)
            if not decision.accepted:
                return _ended(found, who, "not_applicable", decision.reason, decision.flags)
            reader = how.choose(facts.age_years, facts.view)
            read = read_dicom(
                found.path,
                reader,
                age_years=facts.age_years,
                view=facts.view,
                flags=decision.flags,
                reduced_resolution=how.reduced_resolution,
            )
        else:
            return _ended(found, who, "failed", "neither DICOM nor PNG nor JPEG", ())
    except ReadByNobody as error:
        return _ended(found, who, "not_applicable", str(error), ())
    except (UnreadableDicom, PixelsUnreadable, UnreadableImage, OSError) as error:
        return _ended(found, who, "failed", str(error), ())
    flags = read.flags
    try:
        objects, problem = _write_objects(found, who, read, reader.bundle, how)
        if problem:
            flags = (*flags, f"no DICOM objects: {problem}")
    except OSError as error:
        return _ended(found, who, "failed", f"read, but its objects cannot be written: {error}", ())
    return {
        **_ended(found, who, "done", "", flags),
        "model": {"name": reader.bundle.name, "digest": reader.bundle.digest},
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
        "model": None,
        "findings": [],
        "objects": [],
    }


def _in_file_name(label: str) -> str:
    """A label as a part of a file's name: some say "Mass/Nodule"."""
    return re.sub(r"[/\\\0]", "_", label)


def _write_objects(
    found: InputFile, who: Identity, read: ImageReading, bundle: Bundle, how: _How
) -> tuple[list[dict[str, Any]], str]:
    """Write overlays and objects; returns them, and why a DICOM input gets no DICOM objects."""
    from PIL import Image

    if how.out is None:
        return [], ""
    out = how.out
    out.mkdir(parents=True, exist_ok=True)
    # inputs of the same name in different folders must not overwrite each other
    mark = hashlib.sha256(os.fsencode(found.path.absolute())).hexdigest()[:6]
    stem = f"{found.path.stem}.{mark}"
    objects: list[dict[str, Any]] = []
    for index in explained_labels(read.findings):
        label = read.findings[index].label
        overlay = out / f"{stem}.{_in_file_name(label)}.png"
        Image.fromarray(draw(read, index, bundle, how.style)[0]).save(overlay)
        objects.append({"kind": "overlay", "label": label, "path": str(overlay), "sop_instance_uid": None})
    if read.grayscale is None:
        return objects, ""
    digest = hashlib.sha256(found.path.read_bytes()).hexdigest()
    image = ReadImage(found.path, digest, who.sop_instance_uid or "", read, bundle)
    moment = how.clock().astimezone(how.zone)
    request = ObjectRequest(how.installation, who.study_instance_uid or "", moment, (image,), how.style)
    for draft in (draft for kind in KINDS for draft in kind.drafts(request)):
        series = (request.study_instance_uid, draft.key.kind, draft.key.model_digest)
        how.made[series] += 1
        try:
            uid, data = draft.make(uid_text(draft.key, 1, draft.inputs_digest, request.created), how.made[series])
        except NoObjectPossible as error:
            return objects, error.reason
        path = out / f"{stem}.{_in_file_name(draft.key.label)}{draft.suffix}"
        path.write_bytes(data)
        objects.append({"kind": draft.key.kind, "label": draft.key.label, "path": str(path), "sop_instance_uid": uid})
    return objects, ""
