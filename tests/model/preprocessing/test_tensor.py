"""The tensor function: where pixels go, which range they have, what it refuses."""

import numpy as np
import pytest

from model.preprocessing.tensor import Preprocessing, prepare, resample

GRAY = Preprocessing(size=16, channels=1, mean=(0.0,), std=(1.0,))


def spec(geometry: str, size: int = 16) -> Preprocessing:
    return Preprocessing(size=size, geometry=geometry, channels=1, mean=(0.0,), std=(1.0,))  # type: ignore[arg-type]


# image shape, geometry, tensor pixel (x, y) -> image pixel (x, y), by hand, with pixel centres at whole numbers
AFFINES = [
    ((32, 64), "squash", (0, 0), (1.5, 0.5)),
    ((32, 64), "squash", (15, 15), (61.5, 30.5)),
    ((32, 64), "crop", (0, 0), (16.5, 0.5)),
    ((32, 64), "crop", (15, 15), (46.5, 30.5)),
    ((32, 64), "pad", (0, 0), (1.5, -14.5)),
    ((32, 64), "pad", (0, 4), (1.5, 1.5)),
    ((64, 32), "pad", (15, 15), (45.5, 61.5)),
    ((16, 16), "squash", (5, 9), (5.0, 9.0)),
    ((8, 8), "squash", (0, 0), (-0.25, -0.25)),
    ((33, 65), "crop", (0, 0), (16 + 33 / 32 - 0.5, 33 / 32 - 0.5)),
]


@pytest.mark.parametrize(("shape", "geometry", "tensor_pixel", "image_pixel"), AFFINES)
def test_affine_maps_tensor_pixels_to_the_image_pixels_they_were_made_of(shape, geometry, tensor_pixel, image_pixel):
    prepared = prepare(np.zeros(shape, np.float32), spec(geometry))
    assert prepared.affine @ (*tensor_pixel, 1) == pytest.approx(image_pixel)


@pytest.mark.parametrize("geometry", ["squash", "crop", "pad"])
@pytest.mark.parametrize("shape", [(96, 160), (160, 96), (97, 131), (40, 200), (10, 12)])
def test_a_bright_spot_lands_where_the_affine_says(geometry, shape):
    rows, columns = shape
    y, x = rows // 2 - rows // 8, columns // 2 + min(rows, columns) // 5
    image = np.zeros(shape, np.float32)
    image[y, x] = 1.0
    square, affine = resample(image, spec(geometry, 48))
    weights = square / square.sum()
    grid_y, grid_x = np.mgrid[0:48, 0:48]
    centre = ((weights * grid_x).sum(), (weights * grid_y).sum(), 1)
    step = np.abs(affine[:, :2]).max()
    assert affine @ centre == pytest.approx((x, y), abs=max(0.75, 0.75 * step))


def test_shrinking_takes_the_mean_over_the_covered_pixels():
    image = np.tile(np.array([[0.0, 1.0], [1.0, 0.0]], np.float32), (32, 32))
    assert resample(image, GRAY)[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "preprocessing", "black", "white"),
    [
        ("ours", Preprocessing(), -2.0, 2.0),
        ("torchxrayvision", Preprocessing(224, "crop", "area", 1, (0.5,), (1 / 2048,)), -1024.0, 1024.0),
        (
            "ImageNet",
            Preprocessing(224, "squash", "area", 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            -0.485 / 0.229,
            (1 - 0.485) / 0.229,
        ),
    ],
)
def test_range_of_the_tensor(name, preprocessing, black, white):
    image = np.zeros((50, 50), np.float32)
    assert prepare(image, preprocessing).tensor[..., 0] == pytest.approx(black, rel=1e-5)
    prepared = prepare(image + 1, preprocessing)
    assert prepared.tensor[..., 0] == pytest.approx(white, rel=1e-5)
    assert prepared.tensor.shape == (224, 224, preprocessing.channels)
    assert prepared.tensor.dtype == np.float32


def test_pad_adds_black_and_crop_leaves_it_out():
    image = np.ones((16, 32), np.float32)
    assert resample(image, spec("pad"))[0][[0, -1]].max() == 0.0
    assert resample(image, spec("crop"))[0].min() == 1.0


def test_identifier_is_stable_and_differs_by_every_value():
    assert Preprocessing().identifier == "squash-area-224x3-44896ed4"
    others = [Preprocessing(size=225), Preprocessing(geometry="pad"), Preprocessing(mean=(0.5, 0.5, 0.51))]
    assert len({Preprocessing().identifier, *(other.identifier for other in others)}) == 4


def test_a_table_reads_back_as_what_it_was_written_from():
    written = Preprocessing(320, "pad", "area", 1, (0.1,), (0.2,))
    assert Preprocessing.from_table(written.as_table()) == written


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 4}, "size is 4; allowed are 16 to 4096"),
        ({"geometry": "stretch"}, "allowed are squash, crop, pad"),
        ({"channels": 2}, "allowed are 1 and 3"),
        ({"mean": (0.5,)}, "1 means and 3 stds"),
        ({"std": (0.1, 0.0, 0.1)}, "must be above 0"),
    ],
)
def test_values_that_cannot_be_are_named_with_what_is_allowed(values, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**values)


@pytest.mark.parametrize("shape", [(0, 5), (3, 3, 3)])
def test_an_image_without_pixels_or_with_colour_is_refused(shape):
    with pytest.raises(ValueError, match="cannot be prepared"):
        prepare(np.zeros(shape, np.float32), GRAY)
