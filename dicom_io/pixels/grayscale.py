"""From the stored values of a radiograph to a grayscale image in display orientation.

Order (PS3.4 N.2.1): padding excluded, Modality LUT, VOI LUT, polarity; then shutters, square pixels, orientation.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from dicom_io.header import parsing
from dicom_io.header.repeated_elements import flag_for, repeated_elements
from dicom_io.pixels import decoding, orientation, shutter_and_aspect
from dicom_io.pixels.display_parameters import display_steps
from dicom_io.pixels.encapsulation import begins_item
from dicom_io.pixels.image_pixel_module import (
    MOST_PIXELS,
    DecoderMissing,
    PixelDescription,
    PixelsUnreadable,
    describe,
)
from dicom_io.pixels.luts import display
from dicom_io.pixels.reduced_resolution import REDUCIBLE, SufficientResolution, on_full_grid
from dicom_io.pixels.stored_bits import Samples

__all__ = [
    "GRAYSCALE_VERSION",
    "DecoderMissing",
    "Grayscale",
    "PixelsUnreadable",
    "SufficientResolution",
    "read_grayscale",
]

# Increased whenever the same file would give other values: it is part of the identity of a result. A reduced resolution
# is recorded with the result instead, like the engine's precision.
# 2: a LUT whose first value mapped is negative, on unsigned pixels; compressed samples that lie above bit 0 (High Bit).
# 3: a LUT's range is that of its entries; LUT data that are too short, and windows that show nothing, are not used;
# without a window, the range is that of Smallest and Largest Image Pixel Value or of the occupied bits.
GRAYSCALE_VERSION = 3

_GRAY_TOLERANCE = 2  # R, G and B differ by one or two after lossy colour transforms


@dataclass(frozen=True)
class Grayscale:
    """One image, ready for display and for the network.

    Attributes
    ----------
    image
        float32 [rows, columns], 0 (black) to 1 (white); rows run to the patient's left and columns to the feet where
        the header states the orientation.
    flags
        For people: ``orientation unknown``, ``window unusable``, ...
    record
        What was applied and assumed; kept with the result.
    patient_orientation
        ``L\\F`` where the image was brought to it, else as in the header, or ``""``.
    pixel_spacing
        Of this image, mm between rows and between columns; None where unknown.
    to_stored
        float64 [2, 3]: this image's pixel centre (x, y) -> the stored image's.
    full_shape
        Rows and columns of `image` at full resolution; more than its own where a reduced one was decoded. Both have the
        same edges.
    """

    image: NDArray[np.float32]
    flags: tuple[str, ...]
    record: dict[str, str]
    patient_orientation: str
    pixel_spacing: tuple[float, float] | None
    to_stored: NDArray[np.float64]
    full_shape: tuple[int, int]


def read_grayscale(source: Path | bytes, enough: SufficientResolution | None = None) -> Grayscale:
    """Read a radiograph as grayscale.

    Parameters
    ----------
    source
        A DICOM file, or the bytes of one; preamble and file meta may be missing.
    enough
        The resolution that suffices: JPEG 2000 is then decoded at a half, a quarter ... where possible. None: at full
        resolution.

    Raises
    ------
    PixelsUnreadable
        If there are none, they contradict their description, are truncated, or of an unsupported form.
    UnreadableDicom
        If it is not DICOM.
    OSError
        If the file cannot be read.
    """
    with repeated_elements() as repeated:
        dataset = parsing.parse_file(source)
    description, assumed = describe(dataset)
    pixel_data, encapsulated = _pixel_data(dataset)
    reduced = None
    if enough is not None and encapsulated and _may_be_reduced(dataset):
        reduced = decoding.decode_reduced(pixel_data, description, enough)
    noticed: tuple[str, ...] = ()
    if reduced is not None:
        stored, decoder = reduced[0], "Pillow"
    else:
        swapped = description.big_endian and dataset["PixelData"].VR == "OW"
        stored, decoder, noticed = decoding.decode(
            pixel_data, description, swapped_bytes=swapped, encapsulated=encapsulated
        )
    image, record, flags = _brightness(dataset, description, _one_plane(stored, description))
    flags = (*map(flag_for, repeated), *noticed, *flags)
    record["transfer_syntax"] = UID(description.transfer_syntax_uid).name
    record["decoder"] = decoder
    if assumed:
        record["assumed"] = "; ".join(assumed)
    if description.transfer_syntax_uid in REDUCIBLE:
        record["resolution"] = "whole"

    if reduced is not None:
        record["resolution"] = f"1/{1 << reduced[1]} of {description.rows} x {description.columns}"
        image, to_stored = on_full_grid(image, description.rows, description.columns, reduced[1])
        spacing = _spacing_of(dataset, image.shape[0] / description.rows, image.shape[1] / description.columns)
        return _oriented(dataset, image, to_stored, spacing, record, flags, (description.rows, description.columns))
    opening, shutter = shutter_and_aspect.shutter_opening(dataset, description.rows, description.columns)
    if opening is not None:
        image = np.where(opening, image, np.float32(0.0))
    if shutter:
        record["shutter"] = shutter
    if "ignored" in shutter:
        flags = (*flags, "shutter unusable")
    image, to_stored, spacing = _made_square(dataset, image, record)
    return _oriented(dataset, image, to_stored, spacing, record, flags, (image.shape[0], image.shape[1]))


def _may_be_reduced(dataset: FileDataset) -> bool:
    """Whether a reduced image has the brightness and geometry of the full one: no padding, no shutter."""
    return not any(
        parsing.has(dataset, each) for each in ("PixelPaddingValue", "ShutterShape")
    ) and shutter_and_aspect.square_pixels(dataset) == (
        1.0,
        1.0,
    )


def _pixel_data(dataset: FileDataset) -> tuple[bytes, bool]:
    """Return the value of PixelData, and whether it is in fragments, whatever the transfer syntax says."""
    try:
        value = dataset["PixelData"].value
    except parsing.VALUE_ERRORS as error:
        raise PixelsUnreadable("PixelData has no valid encoding") from error
    if not isinstance(value, bytes | bytearray) or not value:
        raise PixelsUnreadable("PixelData is empty")
    pixel_data, native = bytes(value), parsing.transfer_syntax(dataset) in decoding.NATIVE
    return pixel_data, dataset["PixelData"].is_undefined_length or (not native and begins_item(pixel_data))


def _one_plane(stored: Samples, description: PixelDescription) -> Samples:
    """Return the one plane of a grayscale image stored in colour; raise where it has colours."""
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
    dataset: FileDataset, description: PixelDescription, stored: Samples
) -> tuple[NDArray[np.float32], dict[str, str], tuple[str, ...]]:
    steps, record, flags = display_steps(dataset, description, stored)
    return display(stored, steps, description.lowest, description.highest), record, flags


def _made_square(
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
    """PixelSpacing of an image with the rows and columns multiplied by these factors."""
    spacing = shutter_and_aspect.pixel_spacing(dataset)
    return None if spacing is None else (spacing[0] / factor_rows, spacing[1] / factor_columns)


def _oriented(
    dataset: FileDataset,
    image: NDArray[np.float32],
    to_stored: orientation.Affine,
    spacing: tuple[float, float] | None,
    record: dict[str, str],
    flags: tuple[str, ...],
    full: tuple[int, int],
) -> Grayscale:
    stated = tuple(value.upper() for value in parsing.texts(dataset, "PatientOrientation"))
    how = orientation.turn_for(stated)
    if how is None:
        record["orientation"] = "as stored"
        unchanged = "\\".join(stated)
        return Grayscale(image, (*flags, "orientation unknown"), record, unchanged, spacing, to_stored, full)
    turned, affine = orientation.turn(image, how)
    record["orientation"] = f"{'/'.join(stated)} brought to L/F"
    if how[0]:
        full = full[1], full[0]
        spacing = None if spacing is None else (spacing[1], spacing[0])
    to_stored = orientation.compose(to_stored, affine)
    return Grayscale(turned, flags, record, orientation.DISPLAY_ORIENTATION, spacing, to_stored, full)
