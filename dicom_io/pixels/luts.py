"""Stored values to displayed values: Modality LUT, VOI LUT, polarity (PS3.4 N.2.1), as plain functions of arrays.

Scaled by the theoretical output range, never by the minimum and maximum of an image: the same value has the same
brightness in every image. pydicom's functions are not used: a VOI LUT of more than 256 entries with 8-bit output is 16
times too dark, a 12-bit Modality LUT raises, and MONOCHROME1 is not inverted.
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
    """A LUT (PS3.3 C.11.1.1, C.11.2.1.1): values outside the table map to its first or last entry."""

    first: int
    entries: NDArray[np.uint16]
    bits: int

    def __call__(self, values: Values) -> Values:
        """Map values to 0 .. 2**bits - 1."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return self.entries[index].astype(np.float64)

    @property
    def highest(self) -> float:
        """The highest output value."""
        return float((1 << self.bits) - 1)


@dataclass(frozen=True)
class Window:
    """A window (PS3.3 C.11.2.1.2, C.11.2.1.3)."""

    center: float
    width: float
    function: VoiFunction = "LINEAR"

    @property
    def is_usable(self) -> bool:
        """Whether the width is allowed: at least 1 for LINEAR, above 0 for the others."""
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
class Range:
    """What is shown where neither LUT nor window is given: black to white."""

    low: float
    high: float

    def __call__(self, values: Values) -> Values:
        """Map values to 0 .. 1."""
        if self.high <= self.low:
            return np.zeros_like(values)
        return np.clip((values - self.low) / (self.high - self.low), 0.0, 1.0)


@dataclass(frozen=True)
class DisplaySteps:
    """The steps from stored values to brightness, in order; without `voi` the full possible range is shown."""

    modality: Rescale | LookupTable
    voi: LookupTable | Window | Range | None
    inverted: bool
    padding: tuple[int, int] | None = None

    def modality_range(self, lowest: float, highest: float) -> tuple[float, float]:
        """The output range of the Modality LUT for stored values from `lowest` to `highest`."""
        if isinstance(self.modality, LookupTable):
            return 0.0, self.modality.highest
        ends = sorted(self.modality.slope * stored + self.modality.intercept for stored in (lowest, highest))
        return ends[0], ends[1]


def display(stored: NDArray[np.integer], steps: DisplaySteps, lowest: int, highest: int) -> NDArray[np.float32]:
    """Map stored values to brightness.

    Parameters
    ----------
    stored
        Stored values of any shape, within `lowest` and `highest`.
    steps
        The steps to apply.
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
    if isinstance(steps.voi, LookupTable):
        values = steps.voi(values) / steps.voi.highest
    else:
        values = (steps.voi or Range(*steps.modality_range(lowest, highest)))(values)
    values = np.clip(values, 0.0, 1.0)
    if steps.inverted:
        values = 1.0 - values
    if steps.padding is not None:
        values[(stored >= steps.padding[0]) & (stored <= steps.padding[1])] = 0.0
    return values.astype(np.float32)
