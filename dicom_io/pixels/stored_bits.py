"""Stored bits to stored values: where they lie in a word, their sign, and contradictions between header and pixels.

What contradicts its header is refused, or read by what the pixels show and flagged: wrapped around, it would be an
image of something else.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom_io.pixels.image_pixel_module import PixelDescription, PixelsUnreadable

Samples = NDArray[np.integer]

_WRONG_HIGH_BIT = ("HighBit wrong: read by the pixels",)
_WRAP = 0.97  # of the range: from the highest value to the lowest is a step of nearly all of it
_WRAPS = 5e-4  # of all neighbours in a row; 2e-3 in real radiographs read with the other sign
_SHADES = 16  # a border is of one value, tissue of many


def extract(values: Samples, description: PixelDescription) -> tuple[Samples, tuple[str, ...]]:
    """Extract BitsStored bits below HighBit, and extend the sign.

    Returns
    -------
    tuple of ndarray and tuple of str
        The stored values, and a flag where HighBit is not where the pixels are.

    Raises
    ------
    PixelsUnreadable
        If the values need more bits than BitsStored, or are of the other sign than PixelRepresentation says.
    """
    stored, allocated = description.bits_stored, description.bits_allocated
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    unused = (1 << (description.high_bit + 1 - stored)) - 1
    lowered = replace(description, high_bit=stored - 1)
    if unused and int(native.max()) >> stored == 0 and (native & native.dtype.type(unused)).any():
        return _extracted(native, lowered), _WRONG_HIGH_BIT
    try:
        return _extracted(native, description), ()
    except PixelsUnreadable:
        if unused or (native & native.dtype.type((1 << (allocated - stored)) - 1)).any():
            raise
        return _extracted(native, replace(description, high_bit=allocated - 1)), _WRONG_HIGH_BIT


def _extracted(native: Samples, description: PixelDescription) -> Samples:
    stored, shift = description.bits_stored, description.high_bit + 1 - description.bits_stored
    as_signed = native.view(native.dtype.str.replace("u", "i")) if description.signed else native
    if stored == description.bits_allocated:
        check_sign(as_signed, description)
        return as_signed
    masked = (native >> shift) & native.dtype.type((1 << stored) - 1)
    values = signed(masked, stored) if description.signed else masked
    check_bits(as_signed >> shift, values, description)
    check_sign(values, description)
    return values


def check_sign(values: Samples, description: PixelDescription) -> None:
    """Raise where values are of the other sign than PixelRepresentation says: they wrap around.

    Neighbouring pixels then differ by nearly the whole range, along every contour where the tissue has the value at
    which it wraps, and do not with the other sign. Every eighth row is looked at.
    """
    rows = values[::8, :, 0].astype(np.int64)
    span = description.highest - description.lowest
    steps = np.abs(np.diff(rows, axis=1)) > _WRAP * span
    # saturated pixels beside black ones are an edge
    inside = (rows > description.lowest) & (rows < description.highest)
    steps &= inside[:, 1:] & inside[:, :-1]
    if steps.size == 0 or steps.mean() < _WRAPS:
        return
    ends = np.concatenate([rows[:, 1:][steps], rows[:, :-1][steps]])
    middle = (description.lowest + description.highest) // 2
    shades = min(len(np.unique(ends[ends > middle])), len(np.unique(ends[ends <= middle])))
    half = (span + 1) // 2
    other = rows % (span + 1) if description.signed else (rows + half) % (span + 1) - half
    if shades >= _SHADES and 10 * (np.abs(np.diff(other, axis=1)) > span // 2).sum() < steps.sum():
        right = "unsigned" if description.signed else "signed"
        raise PixelsUnreadable(
            f"PixelRepresentation is {int(description.signed)}, but the values are {right}: they wrap around"
        )


def check_bits(whole: Samples, kept: Samples, description: PixelDescription) -> None:
    """Raise where values exceed BitsStored: without their upper bits they would wrap around.

    Neighbouring pixels then differ more than before, or as much as noise. Other data above BitsStored (an overlay in
    unused bits, a private flag) makes neighbours differ less once it is removed.
    """
    if np.array_equal(whole, kept):
        return
    whole, kept = whole.astype(np.int64), kept.astype(np.int64)
    before, after = (
        float(np.abs(np.diff(each, axis=1)).mean()) if each.shape[1] > 1 else 0.0 for each in (whole, kept)
    )
    noise = (
        after > 0.7 * kept.std() and before < 0.35 * whole.std()
    )  # of independent values the mean is 1.1 standard deviations
    if after > 1.1 * before or noise:  # of real radiographs without their upper bits: 1.25 to 2 times
        raise PixelsUnreadable(
            f"BitsStored is {description.bits_stored} and HighBit {description.high_bit}, but the values need more "
            f"bits: they reach from {whole.min()} to {whole.max()}"
        )


def signed(values: Samples, bits: int) -> Samples:
    """Read the lowest `bits` of values as two's complement."""
    wide = values.astype(np.int64 if bits > 31 else np.int32)
    negative = np.greater_equal(wide, 1 << (bits - 1))
    return np.where(negative, wide - (1 << bits), wide)
