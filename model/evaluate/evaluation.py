"""`evaluate`: a bundle's answers to labelled images, as facts for JSON and for the report."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle
from model.dataset.samples import ReadFacts, no_facts
from model.dataset.sources import DatasetInvalid, FileProblem, Sample, Source, read_sources
from model.dataset.split import check_unseen, read_split
from model.engine.protocol import Engine
from model.evaluate.class_metrics import class_figures
from model.evaluate.metrics import BINS
from model.evaluate.metrics_with_intervals import RESAMPLES, figures_of_labels
from model.evaluate.pointing_game import Pointing, point, read_boxes, summarise
from model.evaluate.predictions import Judged, Measured, judge
from model.inference.reader import Reader, Reading
from model.preprocessing.image_files import UnreadableImage
from model.preprocessing.tensor import prepare
from model.rendering.overlay import draw_overlay, legend_for

ReadImage = Callable[[Path], NDArray[np.float32]]
AGE_BANDS = ((0, 5), (6, 17), (18, 39), (40, 64), (65, 110))
LEAST = 10
"""Images that a subgroup must have to be shown by itself."""


@dataclass(frozen=True, eq=False)
class Assessment:
    """What was measured: ``facts`` for JSON, and what only a picture needs."""

    facts: dict[str, Any]
    measured: Measured
    judged: Judged
    labels: tuple[str, ...]
    worst: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Chosen:
    """The images to judge on.

    Attributes
    ----------
    samples, problems
        The images, and what is amiss with others.
    warning
        Where the network has seen some of them, or other images of their patients; else empty.
    compared
        What was compared with the bundle's own split to tell that.
    """

    samples: list[Sample]
    problems: list[FileProblem]
    warning: str = ""
    compared: str = "nothing; the model does not say what it was trained on"


def choose_samples(
    bundle: Bundle,
    sources: Sequence[Source],
    split_file: Path | None,
    part: str,
    allow_seen: bool,
    read_facts: ReadFacts = no_facts,
) -> Chosen:
    """Return the images to judge on.

    Raises
    ------
    DatasetInvalid
        The data or the split cannot be used, or images or patients are of the bundle's own training or validation part
        and that was not allowed.
    """
    problems: list[FileProblem] = []
    samples = read_sources(sources, read_facts, problems)
    if split_file is not None:
        samples = read_split(split_file, samples)[part]
    own = bundle.folder / "split.csv"
    warning, compared = "", Chosen.compared
    if own.is_file():
        try:
            compared = check_unseen(own, samples)
        except DatasetInvalid as leak:
            if not allow_seen:
                raise DatasetInvalid(f"{leak}; --allow-seen measures all the same and says so in the report") from leak
            warning, compared = str(leak), ""
    if not samples:
        raise DatasetInvalid("there is no image to judge on")
    known = {label for sample in samples for label, value in sample.labels.items() if value == value}
    if not known & set(bundle.label_names):
        raise DatasetInvalid(
            f"the data know {', '.join(sorted(known)) or 'no label'}; the model answers {', '.join(bundle.label_names)}"
        )
    return Chosen(samples, problems, warning, compared)


def assess(
    bundle: Bundle,
    engine: Engine,
    given: Chosen,
    sources: Sequence[Source],
    read_image: ReadImage,
    on_image: Callable[[], None] = lambda: None,
    worst: int = 12,
) -> Assessment:
    """Read every image once through the reader that serves, and measure."""
    reader = Reader(bundle, engine)
    boxes = read_boxes([source.folder for source in sources])
    kept: list[tuple[Sample, Reading, NDArray[np.float32]]] = []
    unreadable = [FileProblem(problem.kind, problem.path, problem.reason) for problem in given.problems]
    pointings: list[Pointing] = []
    for sample in given.samples:
        on_image()
        try:
            prepared = prepare(read_image(sample.path), bundle.preprocessing)
        except (UnreadableImage, OSError, ValueError) as error:
            unreadable.append(FileProblem("damaged", sample.path, str(error)))
            continue
        output = engine.run(prepared.tensor[np.newaxis])
        reading = reader.of_output(prepared.tensor[np.newaxis], output, [sample.age])[0]
        kept.append((sample, reading, output.pooled[0]))
        for box in boxes.get(sample.path.name, []):
            if box.label in bundle.label_names:
                contribution = reading.maps.contribution(bundle.label_names.index(box.label))
                found = point(contribution, prepared.affine, bundle.preprocessing.size, box)
                pointings += [found] if found else []
    if not kept:
        raise DatasetInvalid(f"none of the {len(given.samples)} images can be read; the first: {unreadable[0].reason}")
    read = [sample for sample, _, _ in kept]
    measured = Measured.of_samples(
        read, bundle.label_names, [reading.logits for _, reading, _ in kept], [pooled for _, _, pooled in kept]
    )
    judged = judge(measured, bundle.label_names, bundle.everyone, bundle.groups, bundle.distribution)
    facts: dict[str, Any] = {
        "model": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        "engine": engine.name,
        "precision": engine.precision,
        "images": len(read),
        "patients": len({sample.patient for sample in read}),
        "warning": given.warning,
        "compared_with_training": given.compared,
        "method": {
            "intervals": f"95 %, {RESAMPLES} bootstrap resamples of patients; a share of 0 or 1: Wilson, over patients",
            "ece": f"{BINS} bins of equal width; ece_by_chance: what perfect probabilities would show on these images",
        },
        "calibration": {
            f"{group or 'everyone'}, by {why}": int(((judged.groups == group) & (judged.chosen_by == why)).sum())
            for group, why in sorted(set(zip(judged.groups.tolist(), judged.chosen_by.tolist(), strict=True)))
        },
        "all": figures_of_labels(measured, judged, bundle.label_names),
        "classes": _classes(bundle, measured),
        "subgroups": _subgroups(read, measured, judged, bundle.label_names),
        "pointing": summarise(pointings) if pointings else {},
        "left_out": [{"file": problem.path.name, "reason": problem.reason} for problem in unreadable],
    }
    chosen = _worst(read, judged, measured, bundle.label_names)
    facts["misread"] = [
        {"file": read[row].path.name, "label": bundle.label_names[label], "truth": bool(measured.targets[row, label]),
         "probability": round(float(judged.probabilities[row, label]), 4),
         "threshold": round(float(judged.thresholds[row, label]), 4)}
        for row, label in chosen
    ]  # fmt: skip
    pictures = [
        {**entry, "picture": _picture(bundle, reader, read[row], label, read_image)}
        for entry, (row, label) in zip(facts["misread"][:worst], chosen[:worst], strict=True)
    ]
    return Assessment(facts, measured, judged, bundle.label_names, pictures)


def _classes(bundle: Bundle, measured: Measured) -> dict[str, Any]:
    """Return how often the likeliest class is the true one, of a network whose classes exclude one another."""
    provenance = bundle.description.get("provenance", {})
    if provenance.get("answer") != "softmax":
        return {}
    labels, classes = bundle.label_names, provenance.get("classes", [])
    return class_figures(measured.logits, measured.targets, measured.patients, labels, len(classes) > len(labels))


def _subgroups(
    samples: Sequence[Sample], measured: Measured, judged: Judged, labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return figures a kind of patient: training domain of the data, view, sex, age, where they are known."""
    kinds: Mapping[str, list[str]] = {
        "collection": [sample.domain for sample in samples],
        "view": [sample.view or "" for sample in samples],
        "sex": [sample.sex or "" for sample in samples],
        "age": [_band(sample.age) for sample in samples],
        "calibrated for": [str(group) for group in judged.groups],
    }
    found: dict[str, dict[str, Any]] = {}
    for kind, values in kinds.items():
        names = sorted(set(values) - {""})
        if len(names) < 2:
            continue
        for name in names:
            rows = np.array([value == name for value in values])
            if rows.sum() >= LEAST:
                found[f"{kind}: {name}"] = figures_of_labels(measured.chosen(rows), judged.chosen(rows), labels)
    return found


def _band(age: float | None) -> str:
    if age is None:
        return ""
    return next((f"{low}-{high} years" for low, high in AGE_BANDS if low <= int(age) <= high), "")


def _worst(
    samples: Sequence[Sample], judged: Judged, measured: Measured, labels: Sequence[str]
) -> list[tuple[int, int]]:
    """Return (image, label) of what was misread, the furthest from its threshold first, at most 200."""
    logits = np.log(np.clip(judged.probabilities, 1e-6, 1 - 1e-6) / np.clip(1 - judged.probabilities, 1e-6, 1))
    cuts = np.log(judged.thresholds / (1 - judged.thresholds))
    wrong = np.isfinite(measured.targets) & (judged.positive != (measured.targets == 1))
    misread = [(float(abs(logits[row, label] - cuts[row, label])), row, label) for row, label in np.argwhere(wrong)]
    return [(int(row), int(label)) for _, row, label in sorted(misread, reverse=True)[:200]]


def _picture(bundle: Bundle, reader: Reader, sample: Sample, label: int, read_image: ReadImage) -> str:
    """Return the overlay of one label as a data URI, JPEG; no identity but the file's name is in it."""
    from PIL import Image

    image = read_image(sample.path)
    prepared = prepare(image, bundle.preprocessing)
    (reading,) = reader.read([prepared], [sample.age])
    drawn = draw_overlay(
        image,
        reading.maps.contribution(label),
        prepared.affine,
        bundle.preprocessing.size,
        legend_for(bundle, reading, label, ()),
        longest_side=384,
    )
    _, _, width, height = drawn.radiograph
    buffer = BytesIO()
    Image.fromarray(drawn.rgb[:height, :width]).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
