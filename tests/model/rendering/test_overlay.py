"""Pictures: a negative image does not glow, a spot lands where it is, text is readable, whole, and flags come first."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageFont

from model.bundle.heatmap_scale import DEFAULT, HeatmapScale, LabelScale
from model.preprocessing.tensor import Preprocessing, prepare
from model.rendering.colour_scale import filled, iso_lines, opacity
from model.rendering.legend import MUTED, WARNING, Legend, _meaning, draw_legend, wrapped
from model.rendering.overlay import draw_layer, draw_overlay, draw_thumbnail, legend_for, peak_density, probability_text

LEGEND = Legend("Pneumonia", ("probability 0.12 (threshold 0.40)", "model demonstration 1"), style="filled")
CONTOURS, BOTH = replace(LEGEND, style="contours"), replace(LEGEND, style="both")
CELLS = 49


def drawn(image, contribution, geometry="squash", side=512, legend=LEGEND):
    affine = prepare(image, Preprocessing(geometry=geometry)).affine
    overlay = draw_overlay(image, contribution.astype(np.float32), affine, 224, legend, side)
    left, top, width, height = overlay.radiograph
    return overlay, overlay.rgb[top : top + height, left : left + width].astype(int)


def colourfulness(radiograph):
    return radiograph.max(axis=2) - radiograph.min(axis=2)


def negative_maps():
    """Maps such as negative images have: what speaks against, or next to nothing, however they are spread."""
    random = np.random.default_rng(4)
    noise = random.normal(size=(7, 7))
    return {
        "against": -np.abs(noise) / CELLS,
        "nothing": np.zeros((7, 7)),
        "outweighed": np.where(np.arange(49).reshape(7, 7) < 10, 9.0, -5.0) / CELLS,
        "faint": noise / np.abs(noise).max() * 0.95 * DEFAULT.floor / CELLS,
        "fainter still": noise * 1e-6,
    }


@pytest.mark.parametrize("legend", [LEGEND, CONTOURS, BOTH])
@pytest.mark.parametrize("name", list(negative_maps()))
def test_a_negative_image_does_not_glow(name, legend):
    image = np.random.default_rng(5).random((300, 280), dtype=np.float32)
    _, radiograph = drawn(image, negative_maps()[name], legend=legend)
    assert colourfulness(radiograph).max() <= 1


def test_strength_is_absolute_twice_the_contribution_is_more_opaque():
    image = np.full((256, 256), 0.5, np.float32)
    contribution = np.zeros((7, 7))
    seen = []
    for density in (5.0, 10.0, 15.0):
        contribution[3, 3] = density / CELLS
        seen.append(colourfulness(drawn(image, contribution)[1]).max())
    assert 0 < seen[0] < seen[1] < seen[2]


def test_opacity_grows_from_nothing_and_never_hides_the_radiograph():
    densities = opacity(np.array([-9.0, 0.0, DEFAULT.floor, 3.0, 5.0, DEFAULT.full, 400.0], np.float32), DEFAULT)
    assert (densities[:3] == 0).all()
    assert (np.diff(densities) >= 0).all()
    assert densities[-1] <= 0.35


@pytest.mark.parametrize("density", [0.0, 2.5, 6.0, 10.0, 1000.0])
def test_the_filled_map_leaves_at_least_65_percent_of_the_contrast_of_what_lies_under_it(density):
    layer = filled(np.full((1, 4), density, np.float32), DEFAULT)
    luminance = layer.on(np.array([[0.1, 0.3, 0.6, 0.9]], np.float32)).astype(float) @ [0.299, 0.587, 0.114]
    assert np.diff(luminance[0]) == pytest.approx(np.diff([25.5, 76.5, 153, 229.5]), rel=0.36)
    assert (np.diff(luminance[0]) >= 0.64 * np.diff([25.5, 76.5, 153, 229.5])).all()


def test_iso_lines_lie_at_the_values_that_the_legend_states_and_leave_the_rest_as_it_is():
    ramp = np.tile(np.linspace(0, 80, 401, dtype=np.float32), (50, 1))  # 0.2 a pixel
    layer = iso_lines(ramp, LabelScale(20.0, 60.0))
    lines = np.flatnonzero(layer.alpha[25] > 0.99)
    groups = np.split(lines, np.flatnonzero(np.diff(lines) > 1) + 1)
    assert [group.mean() for group in groups] == pytest.approx([100, 200, 300], abs=0.6)
    assert (layer.alpha[25] > 0).mean() < 0.05
    legend = replace(CONTOURS, scale=LabelScale(20.0, 60.0))
    assert "lines: local contribution to the logit of 20, 40 and 60" in _meaning(legend)
    assert "lines: at 20, 40 and 60" in _meaning(replace(legend, style="both"))


def test_no_iso_line_runs_along_the_edge_of_tensor_or_image():
    image = np.full((300, 600), 0.5, np.float32)
    everywhere = np.full((7, 7), 12.0 / CELLS)
    assert colourfulness(drawn(image, everywhere, "crop", 600, CONTOURS)[1]).max() == 0
    assert colourfulness(drawn(image, everywhere, "pad", 600, CONTOURS)[1]).max() == 0
    everywhere[:, 3] = 0
    assert colourfulness(drawn(image, everywhere, "squash", 600, CONTOURS)[1])[:, :20].max() == 0


@pytest.mark.parametrize("style", ["filled", "contours", "both"])
def test_page_and_object_draw_the_same(style):
    image = np.random.default_rng(5).random((300, 400), dtype=np.float32)
    contribution = (np.random.default_rng(6).random((7, 7)) * 20 / CELLS).astype(np.float32)
    affine = prepare(image, Preprocessing(geometry="crop")).affine
    scale = LabelScale(3.0, 9.0)
    overlay = draw_overlay(image, contribution, affine, 224, replace(LEGEND, scale=scale, style=style), 400)
    layer = draw_layer(contribution, affine, 224, image.shape, 400, scale, style).astype(float)
    alpha = layer[..., 3:] / 255
    under = np.rint(np.clip(image, 0, 1) * 255)[..., None]
    assert np.abs(alpha * layer[..., :3] + (1 - alpha) * under - overlay.rgb[:300, :400]).max() <= 3
    assert layer[..., 3].max() > 60


def test_a_bundle_is_drawn_on_its_own_scale_and_one_without_says_that_it_has_none(predictor):
    (result,) = predictor.predict([prepare(np.zeros((64, 64), np.float32), predictor.bundle.preprocessing)])
    fitted = HeatmapScale("90 validation images", {"Pneumonia": LabelScale(1.5, 4.0)}, {"Pneumonia": (60, 30)})
    own = legend_for(replace(predictor.bundle, heatmap=fitted), result, 0, ())
    assert own.scale == LabelScale(1.5, 4.0)
    assert _meaning(own).endswith("one scale for every image, fitted on 90 validation images")
    without = legend_for(replace(predictor.bundle, heatmap=HeatmapScale()), result, 0, ())
    assert without.scale == DEFAULT
    assert _meaning(without).endswith("the program's default, not fitted to this model")


# cell (row, column) of the map, and the quadrant of the picture it must be seen in
CORNERS = [((1, 1), "top left"), ((1, 5), "top right"), ((5, 1), "bottom left"), ((5, 5), "bottom right")]


@pytest.mark.parametrize("geometry", ["squash", "crop", "pad"])
@pytest.mark.parametrize("shape", [(300, 500), (500, 300)])
@pytest.mark.parametrize(("cell", "quadrant"), CORNERS)
def test_a_spot_lands_in_its_own_quadrant(geometry, shape, cell, quadrant):
    contribution = np.zeros((7, 7))
    contribution[cell] = 12.0 / CELLS
    _, radiograph = drawn(np.full(shape, 0.5, np.float32), contribution, geometry)
    glow = colourfulness(radiograph)
    y, x = np.unravel_index(glow.argmax(), glow.shape)
    vertical = "top" if y < glow.shape[0] / 2 else "bottom"
    horizontal = "left" if x < glow.shape[1] / 2 else "right"
    assert f"{vertical} {horizontal}" == quadrant


@pytest.mark.parametrize(
    ("geometry", "column", "expected"), [("squash", 1, 1.5 / 7 * 600), ("crop", 1, 150 + 1.5 / 7 * 300)]
)
def test_a_spot_lies_where_the_affine_says(geometry, column, expected):
    contribution = np.zeros((7, 7))
    contribution[3, column] = 12.0 / CELLS
    _, radiograph = drawn(np.full((300, 600), 0.5, np.float32), contribution, geometry, side=600)
    weights = colourfulness(radiograph).astype(float)
    assert (weights.sum(axis=0) * np.arange(600)).sum() / weights.sum() == pytest.approx(expected, abs=3)


def test_nothing_is_drawn_where_the_tensor_did_not_reach():
    contribution = np.full((7, 7), 12.0 / CELLS)
    _, radiograph = drawn(np.full((300, 600), 0.5, np.float32), contribution, "crop", side=600)
    glow = colourfulness(radiograph)
    assert glow[:, :145].max() == 0
    assert glow[:, 155:445].min() > 0
    assert glow[:, 455:].max() == 0


@pytest.mark.parametrize(("shape", "size"), [((3000, 2000), (1024, 683)), ((200, 400), (512, 1024))])
def test_the_radiograph_is_drawn_at_a_useful_size_and_the_scale_says_so(shape, size):
    overlay, radiograph = drawn(np.zeros(shape, np.float32), np.zeros((7, 7)), side=1024)
    assert radiograph.shape[:2] == size
    assert overlay.scale == pytest.approx(1024 / max(shape))
    assert overlay.rgb.dtype == np.uint8


def test_the_radiograph_is_the_image_itself_and_the_legend_lies_beneath_it():
    image = np.tile(np.linspace(0, 1, 512, dtype=np.float32), (512, 1))
    overlay, radiograph = drawn(image, np.zeros((7, 7)))
    assert np.abs(radiograph[..., 0] - np.rint(image * 255)).max() <= 1
    assert overlay.rgb.shape[0] > 512 + 60


def rows_of(colour, strip):
    return np.flatnonzero((np.abs(strip.astype(int) - colour).max(axis=2) < 40).any(axis=1))


def test_flags_come_before_the_numbers_in_the_colour_of_a_warning():
    without = draw_legend(Legend("Pneumonia", ("probability 0.9",), (), ""), 800)
    strip = draw_legend(Legend("Pneumonia", ("probability 0.9",), ("outside training domain",), ""), 800)
    assert not len(rows_of(WARNING, without))
    assert len(rows_of(WARNING, strip))
    assert rows_of(WARNING, strip).max() < rows_of((232, 232, 232), strip).min()


@pytest.mark.parametrize("width", [96, 200, 512, 1024, 2048])
def test_no_text_is_cut_off_at_the_edge(width):
    flag = "outside training domain because of something that takes a long time to tell " * 2
    strip = draw_legend(Legend("Pleural_Thickening", ("m" * 150, "probability 0.90"), (flag,)), width)
    background = strip[-1, -1].astype(int)
    ink = np.abs(strip[4:].astype(int) - background).max(axis=2) > 30
    assert ink.any()
    assert not ink[:, -3:].any()
    assert not ink[:, :3].any()
    assert not ink[-3:].any()


@pytest.mark.parametrize("shape", [(300, 1), (60_000, 512), (1, 300), (1, 1)])
def test_a_strip_is_drawn_however_narrow(shape):
    overlay, radiograph = drawn(np.full(shape, 0.5, np.float32), np.zeros((7, 7)))
    assert overlay.rgb.shape[1] >= radiograph.shape[1] >= 1


def test_wrapping_loses_no_word():
    font = ImageFont.load_default(20)
    text = "one two three " + "x" * 60 + " four"
    lines = wrapped(text, font, 150)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(font.getlength(line) <= 150 for line in lines)


def test_the_legend_of_a_reading_states_label_probability_threshold_model_and_purpose(predictor):
    image = np.zeros((64, 64), np.float32)
    (result,) = predictor.predict([prepare(image, predictor.bundle.preprocessing)])
    legend = legend_for(predictor.bundle, result, 0, ("age unknown",))
    text = " ".join(legend.lines)
    assert legend.title == "Pneumonia"
    assert f"probability {result.probabilities[0]:.3f}" in text
    assert f"threshold {result.calibration.thresholds['Pneumonia']:.3f}" in text
    assert f"peak contribution {peak_density(result.maps.contribution(0)):.1f}" in text
    assert predictor.bundle.digest[:12] in text
    assert legend.flags == ("age unknown",)
    assert "not for diagnosis" in legend.footer


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "over 0.999"), (0.99951, "over 0.999"), (0.9983, "0.998"), (0.1151, "0.115"), (0.0004, "under 0.001")],
)
def test_a_probability_is_never_written_as_certain(value, text):
    assert probability_text(value) == text


def test_the_scale_has_ticks_beneath_the_colours_they_stand_for():
    strip = draw_legend(LEGEND, 1024).astype(int)
    size = 24
    coloured = (
        strip.max(axis=2) - strip.min(axis=2) > 40
    )  # the bar's strong end; no text here has a colour but warnings
    rows = np.flatnonzero(coloured[:, 300:390].sum(axis=1) > 20)
    beneath = strip[rows.max() + 1 + 1 : rows.max() + 6]
    ticks = np.flatnonzero((np.abs(beneath - MUTED).max(axis=2) < 12).all(axis=0))
    margin, long = round(size * 0.7), 16 * size
    assert ticks == pytest.approx([margin + share * (long - 1) for share in (0, 0.25, 0.5, 0.75, 1)], abs=1)
    assert (strip[rows.max() + 9 :] > 100).any(), "numbers stand beneath the ticks"


def test_a_thumbnail_is_small_and_never_enlarged():
    image = np.linspace(0, 1, 300 * 200, dtype=np.float32).reshape(300, 200)
    assert draw_thumbnail(image, 150).shape == (150, 100)
    assert draw_thumbnail(image[:20, :10], 150).shape == (20, 10)
    assert draw_thumbnail(image, 150).dtype == np.uint8


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"image \(5,\), map \(7, 7\)"):
        draw_overlay(np.zeros(5, np.float32), np.zeros((7, 7), np.float32), np.eye(3)[:2], 224, LEGEND)
    with pytest.raises(ValueError, match="longest side is 10"):
        draw_overlay(np.zeros((5, 5), np.float32), np.zeros((7, 7), np.float32), np.eye(3)[:2], 224, LEGEND, 10)
