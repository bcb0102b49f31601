"""What the pages show first."""

from __future__ import annotations

from db.records import FindingRecord
from model.bundle.heatmap_scale import DEFAULT, LabelScale
from worker.web.view_models import label_scale, shown_label


def finding(label: str, probability: float, threshold: float, positive: bool) -> FindingRecord:
    return FindingRecord(label, probability, 0.0, threshold, positive)


def test_a_label_that_is_not_counted_is_not_the_one_that_is_shown() -> None:
    below = finding("Pneumonia", 0.57, 0.67, False)
    not_counted = finding("Infiltration", 0.40, 0.16, False)  # above its threshold, and not positive
    assert shown_label([not_counted, below]) == 1
    assert shown_label([not_counted]) == 0
    assert shown_label([]) is None
    assert shown_label([below, finding("Edema", 0.30, 0.20, True), not_counted]) == 1


def test_scale_of_an_overlay_is_the_recorded_one_and_else_the_default() -> None:
    record = {"heatmap_scale": {"fitted_on": "90 validation images", "labels": {"Edema": [1.5, 4.0]}}}
    assert label_scale(record, "Edema") == LabelScale(1.5, 4.0)
    assert label_scale(record, "Mass") == label_scale({}, "Edema") == DEFAULT
