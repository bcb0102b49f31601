"""PNG and JPEG files: every kind that occurs among radiographs, and every kind that must be refused."""

import zlib

import cv2
import numpy as np
import pytest

from model.preprocessing.image_files import UnreadableImage, read_raster

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (RAMP, RAMP / 255),
        (RAMP.astype(np.uint16) * 257, RAMP / 255),
        (np.full((4, 4), 32768, np.uint16), np.full((4, 4), 32768 / 65535)),
        (np.dstack([RAMP] * 3), RAMP / 255),
        (np.dstack([RAMP, RAMP, RAMP, np.full_like(RAMP, 7)]), RAMP / 255),
    ],
    ids=["gray 8 bit", "gray 16 bit", "gray 16 bit middle", "RGB", "RGBA"],
)
def test_values_are_shares_of_the_full_range(write_png, pixels, expected):
    image = read_raster(write_png(pixels))
    assert image.dtype == np.float32
    assert image == pytest.approx(expected, abs=1e-6)


def test_gray_with_alpha_is_read_as_gray(tmp_path):
    from PIL import Image

    path = tmp_path / "la.png"
    Image.fromarray(np.dstack([RAMP, np.full_like(RAMP, 200)]), "LA").save(path)
    assert read_raster(path) == pytest.approx(RAMP / 255, abs=1e-6)


def test_gray_jpeg_saved_as_rgb_is_gray(tmp_path):
    path = tmp_path / "image.jpeg"
    smooth = cv2.GaussianBlur(np.kron(RAMP, np.ones((8, 8), np.uint8)), (0, 0), 3)
    cv2.imwrite(str(path), np.dstack([smooth] * 3))
    assert read_raster(path) == pytest.approx(smooth / 255, abs=0.05)


def test_a_colour_photograph_is_refused_with_its_reason(write_png):
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[..., 2] = 200
    with pytest.raises(UnreadableImage, match="is in colour"):
        read_raster(write_png(colour))


def test_missing_empty_and_foreign_files_are_refused_with_their_reason(tmp_path):
    empty, text = tmp_path / "empty.png", tmp_path / "text.png"
    empty.write_bytes(b"")
    text.write_text("hello")
    for path, message in [
        (tmp_path / "none.png", "No such file"),
        (empty, r"neither PNG nor JPEG \(0 bytes\)"),
        (text, "neither PNG nor JPEG"),
        (tmp_path, "Is a directory"),
    ]:
        with pytest.raises(UnreadableImage, match=message):
            read_raster(path)


@pytest.mark.parametrize("suffix", [".png", ".jpeg"])
def test_a_truncated_file_is_refused_and_not_read_in_part(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    noise = np.random.default_rng(1).integers(0, 255, (200, 200), np.uint8)
    cv2.imwrite(str(path), noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        read_raster(path)


@pytest.mark.parametrize("damage", ["end", "middle"])
def test_a_jpeg_of_which_a_piece_is_missing_is_refused_and_not_filled_up_with_gray(tmp_path, damage):
    path = tmp_path / "image.jpeg"
    cv2.imwrite(str(path), np.random.default_rng(1).integers(0, 255, (200, 200), np.uint8))
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + (b"\xff\xd9" if damage == "end" else data[half + 9000 :]))
    with pytest.raises(UnreadableImage, match="a part of the JPEG data is missing"):
        read_raster(path)


def test_a_text_in_a_png_that_unpacks_to_more_than_memory_is_refused(write_png):
    path = write_png(RAMP)
    data = path.read_bytes()
    text = b"zTXtkey\0\0" + zlib.compress(bytes(40_000_000))
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    path.write_bytes(data[:33] + chunk + data[33:])
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        read_raster(path)


def test_a_header_that_promises_too_many_pixels_is_refused_before_decoding(write_png):
    path = write_png(RAMP)
    data = bytearray(path.read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"cannot be decoded|60000x60000"):
        read_raster(path)


@pytest.mark.shared_data
def test_every_kind_of_file_in_the_collections_is_read(shared_data):
    folders = {"kermany/NORMAL": (224, 224), "nih": (1024, 1024), "nih512": (512, 512)}
    for folder, shape in folders.items():
        for path in sorted((shared_data / folder).glob("*.[pj]*g"))[:5]:
            image = read_raster(path)
            assert image.shape == shape
            assert 0.0 <= image.min() < 0.2
            assert 0.7 < image.max() <= 1.0
