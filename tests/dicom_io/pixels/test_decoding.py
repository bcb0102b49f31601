"""Every compression of the field gives back what went in; what lies about its size is refused before it is decoded."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate

from dicom_io.pixels.codestream_headers import FrameHeader, frame_header
from dicom_io.pixels.decoding import decode
from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
from dicom_io.pixels.image_pixel_module import PixelDescription
from tests.dicom_io.images import image_file
from tests.peers.programs import absent
from tests.peers.radiographs import sample

RAMP = (np.arange(48 * 40, dtype=np.uint16).reshape(48, 40) * 37) % 4096


def jpeg_lossless(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.ljpeg_encode(pixels, bitspersample=12))


def jpeg2000(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0, bitspersample=12))


def jpegls(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpegls_encode(pixels))


def htj2k(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.htj2k_encode(pixels, reversible=True))


def rle(pixels: np.ndarray) -> bytes:
    planes = [pixels >> 8, pixels & 0xFF]
    segments = [imagecodecs.packbits_encode(plane.astype(np.uint8).tobytes()) for plane in planes]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = [64, 64 + len(segments[0])]
    return struct.pack("<16I", 2, *offsets, *([0] * 13)) + b"".join(segments)


LOSSLESS = [
    (uid.RLELossless, rle),
    (uid.JPEGLossless, jpeg_lossless),
    (uid.JPEGLosslessSV1, jpeg_lossless),
    (uid.JPEGLSLossless, jpegls),
    (uid.JPEG2000Lossless, jpeg2000),
    (uid.HTJ2KLossless, htj2k),
    (uid.HTJ2KLosslessRPCL, htj2k),
]


def compressed_file(syntax: str, frame: bytes, **attributes: object) -> bytes:
    return image_file(frame, syntax, **{"Rows": 48, "Columns": 40, "BitsStored": 12, **attributes})


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS, ids=[row[0].name for row in LOSSLESS])
def test_lossless_compression_gives_back_the_uncompressed_image(syntax: str, encode: object) -> None:
    plain = read_grayscale(image_file(RAMP, BitsStored=12)).image
    packed = read_grayscale(compressed_file(syntax, encode(RAMP)))  # type: ignore[operator]
    assert np.array_equal(packed.image, plain)
    assert packed.record["transfer_syntax"] == uid.UID(syntax).name


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS, ids=[row[0].name for row in LOSSLESS])
def test_a_lie_about_rows_or_columns_is_refused_with_both_numbers(syntax: str, encode: object) -> None:
    frame = encode(RAMP)  # type: ignore[operator]
    for rows, columns in ((47, 40), (48, 41), (40, 48 * 3), (9000, 9000)):
        with pytest.raises(PixelsUnreadable, match=f"Rows x Columns is {rows} x {columns}"):
            read_grayscale(compressed_file(syntax, frame, Rows=rows, Columns=columns))


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS, ids=[row[0].name for row in LOSSLESS])
def test_a_truncated_frame_is_refused(syntax: str, encode: object) -> None:
    frame = encode(RAMP)  # type: ignore[operator]
    for length in (2, 10, 40, 63, 64, 70, len(frame) // 2, len(frame) - 9):
        with pytest.raises(PixelsUnreadable):
            read_grayscale(compressed_file(syntax, frame[:length]))


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit])
def test_8_bit_jpeg_is_read_within_its_loss(syntax: str) -> None:
    smooth = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (48, 1))
    frame = bytes(imagecodecs.jpeg8_encode(smooth, level=95))
    image = read_grayscale(compressed_file(syntax, frame, BitsAllocated=8, BitsStored=8)).image
    assert np.abs(image * 255 - smooth).max() < 4


def test_lossy_htj2k_is_what_the_library_that_encoded_it_decodes() -> None:
    """OpenJPH writes it and is the judge; OpenJPEG, another library, reads it for us."""
    noisy = (np.random.default_rng(7).normal(0, 60, (48, 40)) + np.linspace(300, 3600, 40)).clip(0, 4095)
    frame = bytes(imagecodecs.htj2k_encode(noisy.astype(np.uint16), level=0.002))
    judge = imagecodecs.htj2k_decode(frame).astype(float)
    assert 1 < np.abs(judge - noisy).mean() < 60, "it lost something, and not all"
    shown = read_grayscale(compressed_file(uid.HTJ2K, frame, WindowCenter=2048, WindowWidth=4096)).image
    whole = read_grayscale(
        image_file(judge.astype(np.uint16), BitsStored=12, WindowCenter=2048, WindowWidth=4096)
    ).image
    assert np.abs(shown - whole).max() * 4095 <= 1.01  # a step of the samples: each rounds in its own way


def test_gray_in_colour_jpeg_is_read() -> None:
    gray = np.repeat(np.tile(np.linspace(0, 255, 40).astype(np.uint8), (48, 1))[:, :, None], 3, axis=2)
    frame = bytes(imagecodecs.jpeg8_encode(gray, level=95))
    image = read_grayscale(
        compressed_file(
            uid.JPEGBaseline8Bit,
            frame,
            BitsAllocated=8,
            BitsStored=8,
            SamplesPerPixel=3,
            PhotometricInterpretation="YBR_FULL_422",
        )
    ).image
    assert np.abs(image * 255 - gray[:, :, 0]).max() < 4


def test_signed_samples_keep_their_sign_through_every_lossless_codec() -> None:
    signed = RAMP.astype(np.int16) - 2048
    expected = read_grayscale(image_file((signed & 0xFFF).view(np.uint16), BitsStored=12, PixelRepresentation=1)).image
    for syntax, encode in ((uid.JPEGLosslessSV1, jpeg_lossless), (uid.JPEGLSLossless, jpegls), (uid.RLELossless, rle)):
        frame = encode((signed & 0xFFF).view(np.uint16))
        assert np.array_equal(read_grayscale(compressed_file(syntax, frame, PixelRepresentation=1)).image, expected)
    frame = bytes(imagecodecs.jpeg2k_encode(signed, codecformat="j2k", reversible=True, level=0))
    packed = read_grayscale(compressed_file(uid.JPEG2000Lossless, frame, PixelRepresentation=1)).image
    assert np.array_equal(packed, expected)


def test_an_unknown_transfer_syntax_is_named() -> None:
    with pytest.raises(PixelsUnreadable, match=r"transfer syntax MPEG2 .* is not read"):
        read_grayscale(compressed_file(uid.MPEG2MPML, b"\0" * 64))


def test_a_codestream_says_its_own_size() -> None:
    assert frame_header(jpeg_lossless(RAMP)) == FrameHeader(48, 40, 1, 12)
    assert frame_header(jpegls(RAMP)) == FrameHeader(48, 40, 1, 16)
    assert frame_header(jpeg2000(RAMP)) == FrameHeader(48, 40, 1, 12)
    header = frame_header(htj2k(RAMP))
    assert header is not None
    assert (header.rows, header.columns, header.components) == (48, 40, 1)
    for junk in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x02", b"\xff\x4f\xff\x51\x00", b"hello" * 20):
        assert frame_header(junk) is None


def test_fragments_of_one_frame_are_joined() -> None:
    frame = jpeg_lossless(RAMP)
    description = PixelDescription(48, 40, 1, 16, 12, 11, False, "MONOCHROME2", False, str(uid.JPEGLosslessSV1))
    values, _, _ = decode(encapsulate([frame], fragments_per_frame=3), description)
    assert np.array_equal(values[:, :, 0], RAMP)


def test_real_jpeg2000_equals_the_uncompressed_radiograph() -> None:
    assert np.array_equal(
        read_grayscale(sample("RG3_J2KR")).image,
        read_grayscale(sample("RG3_UNCR")).image,
    )


@pytest.mark.shared_data
@pytest.mark.parametrize("kind", ["J2KR", "JLSL", "JPLL", "RLE"])
def test_real_lossless_radiographs_equal_the_uncompressed_one(shared_data: Path, kind: str) -> None:
    packed = read_grayscale(shared_data / "dicom" / f"wg04_RG3_extremity_{kind}.dcm")
    assert np.array_equal(packed.image, read_grayscale(sample("RG3_UNCR")).image)


@pytest.mark.shared_data
@pytest.mark.parametrize(("kind", "tolerance"), [("J2KI", 40), ("JLSN", 5), ("JPLY", 60)])
def test_real_lossy_radiographs_are_close_to_the_uncompressed_one(shared_data: Path, kind: str, tolerance: int) -> None:
    packed = read_grayscale(shared_data / "dicom" / f"wg04_RG3_extremity_{kind}.dcm").image
    truth = read_grayscale(sample("RG3_UNCR")).image
    assert np.abs(packed - truth).mean() * 1023 < 3
    assert np.quantile(np.abs(packed - truth), 0.999) * 1023 < tolerance
    # the white border: values one above BitsStored are clipped, masking made them black
    assert packed[900, 5] > 0.99


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name", ["wg04_RG2_hip_JPLL.dcm", "wg04_RG3_extremity_JPLL.dcm", "wg04_RG3_extremity_JLSN.dcm"]
)
def test_gdcm_as_a_second_judge_decodes_the_same(shared_data: Path, name: str) -> None:
    try:
        import gdcm
    except ImportError:
        absent("python-gdcm: pip install python-gdcm")
    path = shared_data / "dicom" / name
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    theirs = np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"), "<u2")
    header = dcmread(path)
    description = PixelDescription(
        header.Rows, header.Columns, 1, 16, 10, 9, False, "", False, str(header.file_meta.TransferSyntaxUID)
    )
    ours, _, _ = decode(header.PixelData, description)
    assert np.array_equal(ours.reshape(-1), theirs)
