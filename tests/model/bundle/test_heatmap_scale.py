"""A bundle's heatmap scale: read back as written, refused where it cannot be one, absent in older bundles."""

import pytest

from model.bundle.bundle import BundleInvalid, load_bundle
from model.bundle.heatmap_scale import DEFAULT, HeatmapScale, LabelScale
from model.publish.heatmap_scaling import with_scale
from tests.model.small_bundle import write_small_bundle

SCALE = HeatmapScale("90 validation images", {"Pneumonia": LabelScale(1.5, 4.0)}, {"Pneumonia": (60, 30)})


def test_scale_is_read_back_as_written_and_the_model_stays_the_same(tmp_path):
    bundle = write_small_bundle(tmp_path / "small")
    assert bundle.heatmap.of("Pneumonia") == DEFAULT
    scaled = with_scale(bundle, SCALE)
    assert scaled.heatmap == load_bundle(tmp_path / "small").heatmap == SCALE
    assert scaled.digest == bundle.digest
    assert with_scale(scaled, HeatmapScale()).heatmap == HeatmapScale()


@pytest.mark.parametrize(
    ("label", "limits"), [("Pneumonia", (4.0, 1.5)), ("Pneumonia", (0.0, 1.0)), ("Pneumonia", (1.0, float("inf")))]
)
def test_limits_that_are_no_scale_are_refused(label, limits):
    with pytest.raises(ValueError, match="0 < floor < full is needed"):
        HeatmapScale("", {label: LabelScale(*limits)})


def test_scale_of_a_label_that_the_model_lacks_is_refused(tmp_path):
    bundle = write_small_bundle(tmp_path / "small")
    with pytest.raises(BundleInvalid, match="a heatmap scale of Mass, which the model does not have"):
        with_scale(bundle, HeatmapScale("1", {"Mass": LabelScale(1.0, 2.0)}, {"Mass": (1, 1)}))
