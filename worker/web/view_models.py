"""What a page shows of a study, decided outside the templates: which image and which label come first."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db.records import FindingRecord, WorklistItem
from db.views.study_page import StudyImage, WorklistRow
from model.bundle.heatmap_scale import DEFAULT, NOT_FITTED, LabelScale
from model.explain.gradcam import GradCamMaps
from model.rendering.overlay import peak_density
from worker.worklist.priority import is_counted, score

BAR = 100.0  # width of a finding's bar, in SVG units


@dataclass(frozen=True)
class ShownFinding:
    """A finding with the URL of its overlay; ``peak`` is the overlay's strongest density, `origin` its scale's."""

    position: int
    finding: FindingRecord
    overlay_url: str
    peak: float | None
    scale: LabelScale = DEFAULT
    origin: str = NOT_FITTED

    @property
    def bar(self) -> float:
        return round(BAR * min(max(self.finding.probability, 0.0), 1.0), 1)

    @property
    def tick(self) -> float:
        return round(BAR * min(max(self.finding.threshold, 0.0), 1.0), 1)

    @property
    def overlay_is_empty(self) -> bool:
        return self.peak is not None and self.peak <= self.scale.floor


@dataclass(frozen=True)
class ShownRow:
    """One line of the worklist."""

    row: WorklistRow
    picture_url: str
    overlay_url: str
    overlay_label: str
    age_years: float | None
    positive: tuple[ShownFinding, ...]
    nearest: ShownFinding | None  # if none is positive: the finding nearest to its threshold
    unread: str
    looked_for: str
    key: str


def shown_row(row: WorklistRow) -> ShownRow:
    """Return one study as a line of the worklist."""
    index = shown_image(row.images)
    image = row.images[index] if index is not None else None
    failed = image is not None and image.analysis is not None and image.analysis.state == "failed"
    position = shown_label(image.analysis.findings) if image is not None and image.analysis is not None else None
    findings = [ShownFinding(number, finding, "", None) for number, finding in enumerate(row.item.findings)]
    positive = tuple(
        sorted((each for each in findings if each.finding.positive), key=lambda each: -score((each.finding,)))
    )
    nearest = max(findings, key=lambda each: _says(each.finding), default=None)
    return ShownRow(
        row=row,
        picture_url="" if failed else picture_url(image, "thumbnail"),
        overlay_url="" if position is None else overlay_url(image, position, "thumbnail"),
        overlay_label="" if position is None else _analysed(image)[position].label,
        age_years=next((each.age_years for each in row.images if each.age_years is not None), None),
        positive=positive,
        nearest=None if positive else nearest,
        unread=unread(row),
        looked_for=looked_for(row.item),
        key=fingerprint(row)[:12],
    )


def shown_image(images: Sequence[StudyImage]) -> int | None:
    """Return which image of a study is shown first.

    The analysed image with the highest score inside the training domain, else an analysed, an accepted or the first.
    """

    def rank(index: int) -> tuple[float, ...]:
        image = images[index]
        analysis = image.analysis
        done = analysis is not None and analysis.state == "done"
        return (
            float(done and analysis is not None and not analysis.outside_domain),
            float(done),
            float(image.decision is not None and image.decision.accepted),
            score(analysis.findings) if done and analysis is not None else 0.0,
            -index,
        )

    return max(range(len(images)), key=rank, default=None)


def shown_label(findings: Sequence[FindingRecord]) -> int | None:
    """Return the label whose overlay is shown first: the one highest above its threshold, or nearest below it.

    A label that is not counted comes last, however high its probability.
    """
    return max(range(len(findings)), key=lambda index: _says(findings[index]), default=None)


def _says(finding: FindingRecord) -> tuple[bool, float]:
    return is_counted(finding), score((finding,))


def shown_findings(image: StudyImage, maps: Mapping[int, bytes]) -> tuple[ShownFinding, ...]:
    """Return the findings of one image in the model's own order, each with its overlay."""
    if image.analysis is None:
        return ()
    data = maps.get(image.analysis.id)
    unpacked = None if data is None else GradCamMaps.from_bytes(data)
    return tuple(
        ShownFinding(
            position=position,
            finding=finding,
            overlay_url="" if unpacked is None else overlay_url(image, position, "view"),
            peak=None if unpacked is None else peak_density(unpacked.contribution(position)),
            scale=label_scale(image.analysis.record, finding.label),
            origin=_scale_origin(image.analysis.record, finding.label),
        )
        for position, finding in enumerate(image.analysis.findings)
    )


def label_scale(record: Mapping[str, Any], label: str) -> LabelScale:
    """Return the scale of a label's overlay, which the analysis recorded; the default where it recorded none."""
    limits = record.get("heatmap_scale", {}).get("labels", {}).get(label)
    return DEFAULT if limits is None else LabelScale(*limits)


def _scale_origin(record: Mapping[str, Any], label: str) -> str:
    found = record.get("heatmap_scale", {})
    return f"fitted on {found['fitted_on']}" if label in found.get("labels", {}) else NOT_FITTED


def image_flags(image: StudyImage) -> tuple[str, ...]:
    """Return all flags of one image: those of the analysis, the image and the gate."""
    analysed = image.analysis.flags if image.analysis is not None else ()
    admitted = image.decision.flags if image.decision is not None and image.decision.accepted else ()
    return tuple(dict.fromkeys((*analysed, *image.flags, *admitted)))


def unread(row: WorklistRow) -> str:
    """Return which images were not analysed and why; empty if all were."""
    item = row.item
    return item.reason.removeprefix("not read: ") if item.state == "done" else item.reason


def looked_for(item: WorklistItem) -> str:
    """Return what a LOW study was looked at for, and nothing else: its model's labels that count; empty for others."""
    if item.priority != "LOW":
        return ""
    return ", ".join(finding.label for finding in item.findings if is_counted(finding))


def picture_url(image: StudyImage | None, size: str) -> str:
    """Return the URL of an image's radiograph; empty if there is none."""
    if image is None or not image.source_sha256:
        return ""
    if image.decision is not None and image.decision.facts.get("has_pixels") == "no":
        return ""
    return f"/images/{image.source_sha256}/{size}.jpg"


def overlay_url(image: StudyImage | None, position: int, size: str) -> str:
    """Return the URL of one label's overlay; empty if there is none."""
    if image is None or image.analysis is None or image.analysis.state != "done" or not picture_url(image, size):
        return ""
    return f"/images/{image.source_sha256}/overlays/{image.analysis.id}/{position}-{size}.png"


def fingerprint(*facts: object) -> str:
    """Return a hash of these frozen values; it changes when one of them changes."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _analysed(image: StudyImage | None) -> tuple[FindingRecord, ...]:
    return () if image is None or image.analysis is None else image.analysis.findings
