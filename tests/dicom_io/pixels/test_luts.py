"""Stored value -> brightness, by hand from PS3.3 C.11 and PS3.4 N.2.1. Faults here are silent, so every row counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_io.pixels.luts import DisplaySteps, LookupTable, Rescale, Window, display


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-4 * x))


# window, value -> brightness
WINDOWS = [
    # LINEAR, PS3.3 C.11.2.1.2.1: its own example, c=2048 w=4096 on 12 bits: x<=0 -> min, x>4095 -> max
    (Window(2048, 4096), 0, 0.0),
    (Window(2048, 4096), 4095, 1.0),
    (Window(2048, 4096), 2047.5, 0.5),
    (Window(2048, 4096), -1, 0.0),
    (Window(2048, 4096), 5000, 1.0),
    # c=100 w=1: a threshold between 99 and 100
    (Window(100, 1), 99, 0.0),
    (Window(100, 1), 100, 1.0),
    # c=0 w=100: from -49.5-0.5=-50 to 49
    (Window(0, 100), -50, 0.0),
    (Window(0, 100), 49, 1.0),
    (Window(0, 100), 0, 0.5 / 99 + 0.5),
    # LINEAR_EXACT: ends at c -+ w/2, without the half steps
    (Window(0, 100, "LINEAR_EXACT"), -50, 0.0),
    (Window(0, 100, "LINEAR_EXACT"), 0, 0.5),
    (Window(0, 100, "LINEAR_EXACT"), 25, 0.75),
    (Window(0, 100, "LINEAR_EXACT"), 50, 1.0),
    (Window(0.5, 0.5, "LINEAR_EXACT"), 0.625, 0.75),
    # SIGMOID: 1/(1+exp(-4(x-c)/w))
    (Window(0, 100, "SIGMOID"), 0, 0.5),
    (Window(0, 100, "SIGMOID"), 50, sigmoid(0.5)),
    (Window(0, 100, "SIGMOID"), -100, sigmoid(-1)),
    (Window(10, 20, "SIGMOID"), 1e9, 1.0),
    (Window(10, 20, "SIGMOID"), -1e9, 0.0),
    # RG1's own: C15000 W30000 on 874 and 26479
    (Window(15000, 30000), 874, (874 - 14999.5) / 29999 + 0.5),
    (Window(15000, 30000), 26479, (26479 - 14999.5) / 29999 + 0.5),
]


@pytest.mark.parametrize(("window", "value", "expected"), WINDOWS)
def test_a_window_maps_as_the_standard_computes_it(window: Window, value: float, expected: float) -> None:
    assert window(np.array([value], np.float64))[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("window", "usable"),
    [
        (Window(1, 1), True),
        (Window(1, 0.5), False),
        (Window(1, 0), False),
        (Window(1, -5), False),
        (Window(1, 0.5, "LINEAR_EXACT"), True),
        (Window(1, 0, "SIGMOID"), False),
    ],
)
def test_a_window_is_usable_from_the_width_its_function_needs(window: Window, usable: bool) -> None:
    assert window.is_usable is usable


def table(first: int, entries: list[int], bits: int) -> LookupTable:
    return LookupTable(first, np.array(entries, np.uint16), bits)


INVERTING = table(0, [255, 170, 85, 0], 8)

# steps, (lowest, highest), stored -> brightness
STEPS = [
    # nothing said: the whole range that can be stored, not the image's own
    (DisplaySteps(Rescale(), None, False), (0, 255), [0, 51, 255], [0.0, 0.2, 1.0]),
    (DisplaySteps(Rescale(), None, False), (0, 1023), [1023, 0], [1.0, 0.0]),
    (DisplaySteps(Rescale(), None, False), (-128, 127), [-128, 127, -1], [0.0, 1.0, 127 / 255]),
    # MONOCHROME1: inverted once, at the end
    (DisplaySteps(Rescale(), None, True), (0, 255), [0, 51, 255], [1.0, 0.8, 0.0]),
    (DisplaySteps(Rescale(), Window(15000, 30000), True), (0, 32767), [874], [1 - ((874 - 14999.5) / 29999 + 0.5)]),
    # rescale before the window; a slope below 0 turns the full range round, not the image upside down in value
    (DisplaySteps(Rescale(2, -100), Window(0, 201, "LINEAR_EXACT"), False), (0, 255), [50], [0.5]),
    (DisplaySteps(Rescale(-1, 255), None, False), (0, 255), [0, 255], [1.0, 0.0]),
    (DisplaySteps(Rescale(0.5, 10), None, False), (0, 100), [0, 50, 100], [0.0, 0.5, 1.0]),
    # a VOI LUT scales by its bits, and clamps outside its span
    (DisplaySteps(Rescale(), INVERTING, False), (0, 255), [0, 1, 2, 3, 200], [1.0, 2 / 3, 1 / 3, 0.0, 0.0]),
    (DisplaySteps(Rescale(), table(10, [0, 4095], 12), False), (0, 255), [9, 10, 11, 12], [0.0, 0.0, 1.0, 1.0]),
    (DisplaySteps(Rescale(), table(-2, [0, 50, 100], 8), False), (-4, 3), [-4, -1, 0], [0.0, 50 / 255, 100 / 255]),
    # pydicom's trap: more than 256 entries with 8-bit output came out 16 times too dark
    (
        DisplaySteps(Rescale(), table(0, [i // 16 for i in range(4096)], 8), False),
        (0, 4095),
        [4095, 2048],
        [1, 128 / 255],
    ),
    # a Modality LUT replaces the rescale; without a VOI its own output range is shown
    (DisplaySteps(table(0, [0, 1000, 4095], 12), None, False), (0, 255), [0, 1, 2], [0.0, 1000 / 4095, 1.0]),
    (DisplaySteps(table(0, [0, 100, 200], 8), Window(100, 200, "LINEAR_EXACT"), True), (0, 3), [0, 1, 2], [1, 0.5, 0]),
    # padding is background: black whatever the polarity, and before any LUT
    (DisplaySteps(Rescale(), None, True, (0, 0)), (0, 255), [0, 1, 255], [0.0, 254 / 255, 0.0]),
    (DisplaySteps(Rescale(), None, False, (250, 255)), (0, 255), [249, 250, 255], [249 / 255, 0.0, 0.0]),
    (DisplaySteps(Rescale(1, -1000), Window(0, 100), False, (-2000, -2000)), (-2048, 2047), [-2000, 2000], [0.0, 1.0]),
]


@pytest.mark.parametrize(("steps", "bounds", "stored", "expected"), STEPS)
def test_stored_values_become_the_brightness_computed_by_hand(
    steps: DisplaySteps, bounds: tuple[int, int], stored: list[int], expected: list[float]
) -> None:
    result = display(np.array(stored, np.int32), steps, *bounds)
    assert result.dtype == np.float32
    assert result.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("steps", "bounds", "stored", "expected"), STEPS)
def test_a_large_image_goes_by_a_table_and_gives_the_same(
    steps: DisplaySteps, bounds: tuple[int, int], stored: list[int], expected: list[float]
) -> None:
    large = np.resize(np.array(stored, np.int32), (300, 300))
    assert np.array_equal(
        display(large, steps, *bounds), np.resize(display(np.array(stored), steps, *bounds), (300, 300))
    )
    assert expected  # the table of expectations belongs to the test above


@given(
    slope=st.floats(-1e6, 1e6, allow_subnormal=False),
    intercept=st.floats(-1e6, 1e6),
    center=st.floats(-1e9, 1e9),
    width=st.floats(1, 1e9),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    inverted=st.booleans(),
    values=st.lists(st.integers(-32768, 65535), min_size=1, max_size=20),
)
def test_brightness_is_always_finite_and_between_black_and_white(
    slope: float, intercept: float, center: float, width: float, function: str, inverted: bool, values: list[int]
) -> None:
    steps = DisplaySteps(Rescale(slope, intercept), Window(center, width, function), inverted)  # type: ignore[arg-type]
    for voi in (steps, DisplaySteps(steps.modality, None, inverted)):
        result = display(np.array(values), voi, -32768, 65535)
        assert np.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= 1
