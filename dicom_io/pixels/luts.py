"""Stored values to displayed values: Modality LUT, VOI LUT, polarity (PS3.4 N.2.1), as plain functions of arrays.

Scaled by the theoretical output range, never by an image's own minimum and maximum: the same value means the same
brightness in every image. pydicom's functions are not used for it: a VOI LUT of more than 256 entries with 8-bit output
comes out 16 times too dark, a 12-bit Modality LUT raises, and nothing inverts MONOCHROME1.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
VoiFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]


@dataclass(frozen=True)
class Rescale:
    """Output = slope x stored + intercept (PS3.3 C.11.1.1.2)."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True)
class LookupTable:
    """A LUT (PS3.3 C.11.1.1, C.11.2.1.1): values below `first` map to the first entry, beyond the end to the last."""

    first: int
    entries: NDArray[np.uint16]
    bits: int

    def __call__(self, values: Values) -> Values:
        """Look values up; the result is in 0 .. 2**bits - 1."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return self.entries[index].astype(np.float64)

    @property
    def highest(self) -> float:
        """The highest value that the table can give."""
        return float((1 << self.bits) - 1)


@dataclass(frozen=True)
class Window:
    """A window (PS3.3 C.11.2.1.2, C.11.2.1.3)."""

    center: float
    width: float
    function: VoiFunction = "LINEAR"

    @property
    def is_usable(self) -> bool:
        """LINEAR needs a width of at least 1, the others one above 0."""
        return self.width >= 1 if self.function == "LINEAR" else self.width > 0

    def __call__(self, values: Values) -> Values:
        """Map values to 0 .. 1."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4.0 * (values - self.center) / self.width, -700.0, 700.0)
            return 1.0 / (1.0 + np.exp(exponent))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.center) / self.width + 0.5, 0.0, 1.0)
        if self.width == 1:
            return (values > self.center - 0.5).astype(np.float64)
        return np.clip((values - (self.center - 0.5)) / (self.width - 1) + 0.5, 0.0, 1.0)


@dataclass(frozen=True)
class DisplaySteps:
    """What turns stored values into brightness, in order; without `voi` the whole possible range is shown."""

    modality: Rescale | LookupTable
    voi: LookupTable | Window | None
    inverted: bool
    padding: tuple[int, int] | None = None

    def modality_range(self, lowest: int, highest: int) -> tuple[float, float]:
        """The range of the Modality LUT's output for stored values in a range."""
        if isinstance(self.modality, LookupTable):
            return 0.0, self.modality.highest
        ends = sorted(self.modality.slope * stored + self.modality.intercept for stored in (lowest, highest))
        return ends[0], ends[1]


def display(stored: NDArray[np.integer], steps: DisplaySteps, lowest: int, highest: int) -> NDArray[np.float32]:
    """Turn stored values into brightness.

    Parameters
    ----------
    stored
        Stored values of any shape, within `lowest` and `highest`.
    steps
        What to apply.
    lowest, highest
        The range that BitsStored and PixelRepresentation allow.

    Returns
    -------
    ndarray of float32, same shape
        0 (black) to 1 (white); padding is 0.
    """
    if highest - lowest < 1 << 16 and stored.size > 1 << 16:
        table = _brightness(np.arange(lowest, highest + 1, dtype=np.int64), steps, lowest, highest)
        index = stored if lowest == 0 else stored.astype(np.int64) - lowest
        return table.take(index, mode="clip")
    return _brightness(stored, steps, lowest, highest)


def _brightness(stored: NDArray[np.integer], steps: DisplaySteps, lowest: int, highest: int) -> NDArray[np.float32]:
    values = stored.astype(np.float64)
    if isinstance(steps.modality, LookupTable):
        values = steps.modality(values)
    else:
        values = steps.modality.slope * values + steps.modality.intercept
    if isinstance(steps.voi, Window):
        values = steps.voi(values)
    elif isinstance(steps.voi, LookupTable):
        values = steps.voi(values) / steps.voi.highest
    else:
        low, high = steps.modality_range(lowest, highest)
        values = (values - low) / (high - low) if high > low else np.zeros_like(values)
    values = np.clip(values, 0.0, 1.0)
    if steps.inverted:
        values = 1.0 - values
    if steps.padding is not None:
        values[(stored >= steps.padding[0]) & (stored <= steps.padding[1])] = 0.0
    return values.astype(np.float32)
