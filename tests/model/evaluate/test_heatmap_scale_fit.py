"""The heatmap scale is fitted on what the model calls negative and positive, label by label."""

import numpy as np
import pytest

from model.bundle.heatmap_scale import DEFAULT, LabelScale
from model.evaluate.heatmap_scale_fit import PeakDensities, fit_heatmap_scale, scale_of_peaks
from model.inference.predictor import Predictor
from model.publish.model_card import heatmap_section


def fitted(negatives, positives, known=None):
    peaks = np.array([*negatives, *positives], np.float32)[:, np.newaxis]
    positive = (np.arange(len(peaks)) >= len(negatives))[:, np.newaxis]
    everything = np.ones(peaks.shape, bool) if known is None else known
    return scale_of_peaks(peaks, positive, everything, ("X",), "validation images")


def test_nine_negative_images_of_ten_are_bare_and_a_tenth_of_the_positive_ones_is_full():
    scale = fitted(range(1, 102), range(100, 301))
    assert scale.of("X") == LabelScale(91.0, 280.0)  # percentiles 90 of 1..101 and of 100..300, to two digits
    assert scale.images["X"] == (101, 201)
    assert scale.origin("X") == "fitted on 302 validation images"


def test_a_network_of_other_magnitudes_gets_another_scale_and_never_an_empty_one():
    assert fitted(np.arange(1, 102) * 1e-4, np.arange(100, 301) * 1e-4).of("X") == LabelScale(0.0091, 0.028)
    assert fitted([10.0] * 20, [3.0] * 20).of("X") == LabelScale(10.0, 15.0)


def test_too_few_images_of_one_kind_take_the_span_of_the_default_and_too_few_of_both_all_of_it():
    assert fitted([3.0] * 20, [100.0] * 9).of("X") == LabelScale(3.0, 15.0)
    assert fitted([3.0] * 9, [100.0] * 20).of("X") == LabelScale(20.0, 100.0)
    few = fitted([3.0] * 9, [100.0] * 9)
    assert few.of("X") == DEFAULT
    assert few.origin("X") == "the program's default, not fitted to this model"
    assert fitted([0.0] * 20, [0.0] * 20).of("X") == DEFAULT


def test_images_without_a_value_for_a_label_do_not_count_for_it():
    known = np.ones((40, 1), bool)
    known[:10] = False
    assert fitted([1.0] * 10 + [5.0] * 10, [20.0] * 20, known).images["X"] == (10, 20)


def test_reference_images_are_counted_as_they_pass(predictor: Predictor):
    found = PeakDensities(predictor)
    images = [np.full((64, 64), value, np.float32) for value in np.linspace(0, 1, 12)]
    assert [image is same for image, same in zip(images, found.watching(images), strict=True)] == [True] * 12
    assert found.scale("reference images").fitted_on in ("", "12 reference images")
    assert fit_heatmap_scale(predictor, [], "validation images", pytest.fail).labels == {}


def test_the_card_shows_the_scale_or_that_there_is_none(predictor: Predictor):
    from dataclasses import replace

    scale = scale_of_peaks(
        np.arange(1, 201, dtype=np.float32).reshape(-1, 1).repeat(2, 1),
        np.arange(200).reshape(-1, 1).repeat(2, 1) > 99,
        np.ones((200, 2), bool),
        (predictor.bundle.label_names[0], "Y"),
        "validation images",
    )
    shown = heatmap_section(replace(predictor.bundle, heatmap=scale))
    assert "fitted on 200 validation images" in shown
    assert f"| {predictor.bundle.label_names[0]} | 90 | 190 | 100 | 100 |" in shown
    without = heatmap_section(replace(predictor.bundle, heatmap=type(scale)()))
    assert "the program's default, not fitted to this model: from 2, full at 10" in without
