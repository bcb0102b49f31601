"""A radiograph's pixels as a person sees them: the whole way from stored values to a hanging grayscale image.

Order (PS3.4 N.2.1): padding set aside, Modality LUT, VOI LUT, polarity; then shutters, square pixels, orientation.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from dicom_io.header import parsing
from dicom_io.pixels import decoding, orientation, shutter_and_aspect
from dicom_io.pixels.display_parameters import display_steps
from dicom_io.pixels.image_pixel_module import (
    MOST_PIXELS,
    DecoderMissing,
    PixelDescription,
    PixelsUnreadable,
    describe,
)
from dicom_io.pixels.luts import display
from dicom_io.pixels.reduced_resolution import REDUCIBLE, Sufficient, on_whole_grid

__all__ = ["GRAYSCALE_VERSION", "DecoderMissing", "Grayscale", "PixelsUnreadable", "Sufficient", "read_grayscale"]

# Raised whenever the same file would give other values: it is part of what identifies a result. A lower resolution is
# recorded beside the result instead, as the engine's precision is.
# 2: a LUT whose first value mapped is negative, on unsigned pixels; compressed samples that lie above bit 0 (High Bit).
GRAYSCALE_VERSION = 2

_GRAY_TOLERANCE = 2  # lossy colour transforms give back R, G and B apart by one or two


@dataclass(frozen=True)
class Grayscale:
    """One image ready to be looked at or read by a network.

    Attributes
    ----------
    image
        float32 [rows, columns], 0 (black) to 1 (white), rows to the patient's left and columns to the feet where the
        header says how it lies.
    flags
        What people should know of it: ``orientation unknown``, ``window unusable``, ...
    record
        What was applied and assumed, to be kept with the result.
    patient_orientation
        ``L\\F`` where it could be brought there, else what the header says, or ``""``.
    pixel_spacing
        Of this image, mm between rows and between columns; None where unknown.
    to_stored
        float64 [2, 3]: this image's pixel centre (x, y) -> the stored image's.
    whole_shape
        Rows and columns that `image` has when it is decoded whole; larger than its own where a lower resolution was
        enough. Both have the same edges.
    """

    image: NDArray[np.float32]
    flags: tuple[str, ...]
    record: dict[str, str]
    patient_orientation: str
    pixel_spacing: tuple[float, float] | None
    to_stored: NDArray[np.float64]
    whole_shape: tuple[int, int]


def read_grayscale(source: Path | bytes, enough: Sufficient | None = None) -> Grayscale:
    """Read the pixels of one radiograph.

    Parameters
    ----------
    source
        A DICOM file, or the bytes of one; preamble and file meta may be missing.
    enough
        What resolution suffices: JPEG 2000 is then decoded at a half, a quarter ... where nothing speaks against it.
        None: every image is decoded whole.

    Raises
    ------
    PixelsUnreadable
        If there are none, they contradict their description, are truncated, or in a form that is not read.
    UnreadableDicom
        If it is not DICOM.
    OSError
        If the file cannot be read.
    """
    dataset = parsing.read_whole(source)
    description, assumed = describe(dataset)
    reduced = None
    if enough is not None and _may_be_reduced(dataset):
        reduced = decoding.decode_reduced(_pixel_bytes(dataset), description, enough)
    noticed: tuple[str, ...] = ()
    if reduced is not None:
        stored, decoder = reduced[0], "Pillow"
    else:
        swapped = description.big_endian and dataset["PixelData"].VR == "OW"
        stored, decoder, noticed = decoding.decode(_pixel_bytes(dataset), description, swapped_bytes=swapped)
    image, record, flags = _brightness(dataset, description, _one_plane(stored, description))
    flags = (*noticed, *flags)
    record["transfer_syntax"] = UID(description.transfer_syntax_uid).name
    record["decoder"] = decoder
    if assumed:
        record["assumed"] = "; ".join(assumed)
    if description.transfer_syntax_uid in REDUCIBLE:
        record["resolution"] = "whole"

    if reduced is not None:
        record["resolution"] = f"1/{1 << reduced[1]} of {description.rows} x {description.columns}"
        image, to_stored = on_whole_grid(image, description.rows, description.columns, reduced[1])
        spacing = _spacing_of(dataset, image.shape[0] / description.rows, image.shape[1] / description.columns)
        return _hang(dataset, image, to_stored, spacing, record, flags, (description.rows, description.columns))
    opening, shutter = shutter_and_aspect.shutter_opening(dataset, description.rows, description.columns)
    if opening is not None:
        image = np.where(opening, image, np.float32(0.0))
    if shutter:
        record["shutter"] = shutter
    if "ignored" in shutter:
        flags = (*flags, "shutter unusable")
    image, to_stored, spacing = _square(dataset, image, record)
    return _hang(dataset, image, to_stored, spacing, record, flags, (image.shape[0], image.shape[1]))


def _may_be_reduced(dataset: FileDataset) -> bool:
    """Whether brightness and geometry of a halved image are those of the whole one: no values or places apart."""
    apart = ("PixelPaddingValue", "ShutterShape")
    return not any(parsing.has(dataset, each) for each in apart) and shutter_and_aspect.square_pixels(dataset) == (
        1.0,
        1.0,
    )


def _pixel_bytes(dataset: FileDataset) -> bytes:
    try:
        value = dataset["PixelData"].value
    except parsing.VALUE_ERRORS as error:
        raise PixelsUnreadable("PixelData is not encoded as any value that there is") from error
    if not isinstance(value, bytes | bytearray) or not value:
        raise PixelsUnreadable("PixelData is empty")
    syntax = parsing.transfer_syntax(dataset)
    if syntax in decoding.NATIVE and dataset["PixelData"].is_undefined_length:  # its items' headers would be pixels
        raise PixelsUnreadable(f"PixelData is in fragments, but the transfer syntax is {UID(syntax).name}")
    return bytes(value)


def _one_plane(stored: decoding.Samples, description: PixelDescription) -> decoding.Samples:
    """Take the one plane of an image stored in colour, and refuse one that has colours."""
    if description.samples == 1:
        return stored[:, :, 0]
    native_ybr = description.photometric.startswith("YBR_FULL") and description.transfer_syntax_uid in decoding.NATIVE
    if native_ybr:
        middle = 1 << (description.bits_stored - 1)
        apart = int(np.abs(stored[:, :, 1:].astype(np.int64) - middle).max())
    else:
        apart = int((stored.max(axis=2).astype(np.int64) - stored.min(axis=2)).max())
    if apart > _GRAY_TOLERANCE:
        raise PixelsUnreadable(f"SamplesPerPixel is 3 and the samples differ by up to {apart}: a colour image")
    return stored[:, :, 0]


def _brightness(
    dataset: FileDataset, description: PixelDescription, stored: decoding.Samples
) -> tuple[NDArray[np.float32], dict[str, str], tuple[str, ...]]:
    steps, record, flags = display_steps(dataset, description)
    image = display(stored, steps, description.lowest, description.highest)
    if steps.voi is not None and _shows_nothing(image, stored, steps.padding):
        record["voi_fallback"] = f"{record['voi']} shows nothing"
        image = display(stored, replace(steps, voi=None), description.lowest, description.highest)
        record["voi"] = "full range"
    if "voi_fallback" in record:
        flags = (*flags, "window unusable")
    return image, record, flags


def _shows_nothing(image: NDArray[np.float32], stored: decoding.Samples, padding: tuple[int, int] | None) -> bool:
    """Whether values that differ came out all alike; padding, which is black whatever the window, says nothing."""
    if padding is not None:
        shown = (stored < padding[0]) | (stored > padding[1])
        image, stored = image[shown], stored[shown]
    return bool(image.size) and image.min() == image.max() and stored.min() != stored.max()


def _square(
    dataset: FileDataset, image: NDArray[np.float32], record: dict[str, str]
) -> tuple[NDArray[np.float32], orientation.Affine, tuple[float, float] | None]:
    factors = shutter_and_aspect.square_pixels(dataset)
    if image.size * factors[0] * factors[1] > MOST_PIXELS:
        record["aspect"] = "not made square: too many pixels"
        factors = (1.0, 1.0)
    if factors == (1.0, 1.0):
        return image, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), _spacing_of(dataset, 1.0, 1.0)
    stretched, affine = shutter_and_aspect.resample(image, factors)
    record["aspect"] = f"rows x {factors[0]:.4f}, columns x {factors[1]:.4f}"
    return stretched, affine, _spacing_of(dataset, *factors)


def _spacing_of(dataset: FileDataset, factor_rows: float, factor_columns: float) -> tuple[float, float] | None:
    """PixelSpacing of an image that has so many times the rows and columns."""
    spacing = shutter_and_aspect.pixel_spacing(dataset)
    return None if spacing is None else (spacing[0] / factor_rows, spacing[1] / factor_columns)


def _hang(
    dataset: FileDataset,
    image: NDArray[np.float32],
    to_stored: orientation.Affine,
    spacing: tuple[float, float] | None,
    record: dict[str, str],
    flags: tuple[str, ...],
    whole: tuple[int, int],
) -> Grayscale:
    stated = tuple(value.upper() for value in parsing.texts(dataset, "PatientOrientation"))
    how = orientation.turn_for(stated)
    if how is None:
        record["orientation"] = "as stored"
        lies = "\\".join(stated)
        return Grayscale(image, (*flags, "orientation unknown"), record, lies, spacing, to_stored, whole)
    turned, affine = orientation.turn(image, how)
    record["orientation"] = f"{'/'.join(stated)} brought to L/F"
    if how[0]:
        whole = whole[1], whole[0]
        spacing = None if spacing is None else (spacing[1], spacing[0])
    to_stored = orientation.compose(to_stored, affine)
    return Grayscale(turned, flags, record, orientation.HANGING, spacing, to_stored, whole)
