"""PNG and JPEG files: every kind that occurs among radiographs, and every kind that must be refused."""

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from model.preprocessing.image_files import UnreadableImage, read_raster, read_raster_file

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


RAMP12 = np.arange(4096, dtype=np.uint16).reshape(64, 64)


@pytest.mark.parametrize("colour", [1, 3, 4])
def test_12_bits_stored_as_16_are_shown_by_the_bits_that_they_occupy(write_png, colour):
    pixels = RAMP12 if colour == 1 else np.dstack([RAMP12] * 3 + [np.full_like(RAMP12, 65535)] * (colour - 3))
    raster = read_raster_file(write_png(pixels))
    assert raster.image == pytest.approx(RAMP12 / 4095, abs=1e-6)
    assert raster.flags == ("12 of 16 bits occupied",)
    assert raster.record["voi"] == "nothing exceeds a quarter of 0 to 65535: range of the 12 occupied bits 0 to 4095"


def test_a_few_dead_pixels_do_not_hide_the_image(write_png):
    pixels = RAMP12.copy()
    pixels[0, :4] = 65535
    assert read_raster(write_png(pixels)) == pytest.approx(np.minimum(pixels / 4095, 1), abs=1e-6)


@pytest.mark.parametrize(
    "pixels",
    [
        np.where(RAMP12 > 2000, 65535, 0).astype(np.uint16),
        RAMP12 * 16,
        RAMP12 * 5,
        np.full((64, 64), 9, np.uint16),
        np.zeros((8, 8), np.uint16),
        (RAMP12 // 100).astype("u1"),
    ],
    ids=["black and white", "whole range", "above a quarter", "one value", "black", "dark, 8 bits"],
)
def test_a_range_that_fits_or_nothing_to_see_is_left_as_it_is(write_png, pixels):
    raster = read_raster_file(write_png(pixels))
    assert raster.image == pytest.approx(pixels / np.iinfo(pixels.dtype).max, abs=1e-6)
    assert raster.flags == ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG with the tag behind its pixels", "XMP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_as_pillow_applies_it(tmp_path, kind, orientation):
    pixels = np.zeros((48, 64), np.uint8)
    pixels[:8, :16], pixels[40:, :4] = 255, 120
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    Image.fromarray(pixels).save(
        buffer,
        "JPEG" if kind in ("JPEG", "XMP") else "PNG",
        **({"xmp": xmp} if kind == "XMP" else {"exif": exif}),
    )
    data = buffer.getvalue()
    if "behind" in kind:
        start = data.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        data = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    (tmp_path / "image").write_bytes(data)
    raster = read_raster_file(tmp_path / "image")
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))) / 255
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert raster.image.shape == ((48, 64) if orientation < 5 else (64, 48))
    assert raster.image == pytest.approx(expected, abs=0.02)
    assert raster.image[corner[orientation]] > 0.95
    said = [] if orientation == 1 else [f"EXIF orientation {orientation} applied"]
    assert list(raster.flags) == said
    assert raster.record.get("orientation", "") == "".join(said)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("damage", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 20])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_exif_that_cannot_be_read_or_an_orientation_that_does_not_exist_changes_nothing(tmp_path, damage, kind):
    exif = Image.Exif()
    exif[0x0112] = 9
    for said in (damage, exif.tobytes()):
        Image.fromarray(RAMP).save(tmp_path / "image", kind, exif=said)
        assert read_raster_file(tmp_path / "image").record.get("orientation") is None


@pytest.mark.parametrize(("bits", "white"), [(1, 1), (2, 3), (4, 15)])
def test_gray_of_fewer_than_8_bits_is_spread_over_the_whole_range(tmp_path, bits, white):
    values = np.tile(np.arange(16, dtype=np.uint8) % (white + 1), (16, 1))
    packed = np.packbits(np.unpackbits(values[:, :, None], axis=2)[:, :, -bits:].reshape(16, -1), axis=1)
    (tmp_path / "image").write_bytes(png(bits, b"".join(b"\0" + row.tobytes() for row in packed)))
    assert read_raster(tmp_path / "image") == pytest.approx(values / white, abs=1e-6)


@pytest.mark.parametrize("inverted", [False, True])
def test_a_palette_of_grays_is_looked_up(tmp_path, inverted):
    image = Image.fromarray(RAMP, "P")
    image.putpalette([value for gray in range(256) for value in [255 - gray if inverted else gray] * 3])
    image.save(tmp_path / "image", "PNG")
    assert read_raster(tmp_path / "image") == pytest.approx((255 - RAMP if inverted else RAMP) / 255, abs=1e-6)


def png(bits, rows, *chunks):
    """A grayscale PNG of 16 x 16 pixels."""

    def chunk(name, body):
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    size = (16).to_bytes(4, "big") * 2 + bytes([bits, 0, 0, 0, 0])
    inner = b"".join(chunk(*each) for each in (*chunks, (b"IDAT", zlib.compress(rows))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + inner + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "chunk",
    [(b"gAMA", (100_000).to_bytes(4, "big")), (b"sBIT", b"\x0c"), (b"tRNS", b"\0\x05")],
    ids=["gamma", "significant bits", "a transparent gray"],
)
def test_what_software_notes_beside_the_pixels_changes_nothing(tmp_path, chunk):
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in RAMP)
    (tmp_path / "image").write_bytes(png(16, rows, chunk))
    assert read_raster(tmp_path / "image") == pytest.approx(RAMP / 255, abs=1e-6)


@pytest.mark.parametrize("adobe", [True, False])
def test_gray_in_cmyk_has_the_polarity_that_its_adobe_marker_says(tmp_path, adobe):
    smooth = np.tile(np.linspace(0, 200, 64).astype(np.uint8), (64, 1))
    ink = np.dstack([np.zeros_like(smooth)] * 3 + [255 - smooth])
    buffer = io.BytesIO()
    Image.fromarray(ink, "CMYK").save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    start = data.index(b"Adobe") - 4
    if not adobe:
        data = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    (tmp_path / "image").write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("L")) / 255
    assert read_raster(tmp_path / "image") == pytest.approx(expected, abs=0.02)
    if adobe:
        assert expected == pytest.approx(smooth / 255, abs=0.03)


def test_gray_with_alpha_is_read_as_gray(tmp_path):
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
