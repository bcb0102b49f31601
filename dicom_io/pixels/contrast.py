"""How the stored values of an image are distributed: whether a window shows them, and which bits they occupy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FLAT_SHARE, _FLAT_RANGE = 0.99, 0.05  # of the pixels, of black to white
_ALL_SHARE, _ALL_RANGE = 0.999, 1 / 15  # likewise: 12 bits in a window over 16 come out within a sixteenth
_OUTLIERS = 0.001  # dead pixels and lines of a detector: one in a thousand says nothing about the range
_TOO_WIDE = 4  # times the occupied range
_FEWEST_BITS = 8  # of any detector: an image of fewer is dark, or blank


@dataclass(frozen=True)
class Distribution:
    """The different values of an image in ascending order, and how many pixels have each; padding is left out."""

    values: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return len(self.values) > 1

    def varies_like(self, source: "Distribution") -> bool:
        """Whether no mapping has made one value of 99 % of the pixels, which had several in `source`."""
        most, before = (each.counts.max(initial=0) / max(each.counts.sum(), 1) for each in (self, source))
        return bool(most < _FLAT_SHARE or before >= _FLAT_SHARE)

    def mapped(self, through: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> "Distribution":
        """Return the distribution after a mapping to whole numbers."""
        values, index = np.unique(through(self.values.astype(np.float64)).astype(np.int64), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, index, self.counts)
        return Distribution(values, counts)

    def share_within(self, lowest: float, highest: float) -> float:
        """The share of the pixels from `lowest` to `highest`."""
        within = (self.values >= lowest) & (self.values <= highest)
        return float(self.counts[within].sum() / max(int(self.counts.sum()), 1))

    def flatness(self, brightness: NDArray[np.float32]) -> str:
        """How the brightness given to `values` hides an image; empty where it does not."""
        if not self.varies:
            return ""
        order = np.argsort(brightness, kind="stable")
        ascending, counts = brightness[order], self.counts[order]
        until = np.cumsum(counts)
        for share, span in ((_FLAT_SHARE, _FLAT_RANGE), (_ALL_SHARE, _ALL_RANGE)):
            ends = np.searchsorted(ascending, ascending + np.float32(span), side="right")
            within = until[ends - 1] - until + counts
            if within.max() >= share * until[-1]:
                return f"{share * 100:g} % of the pixels come out within {span * 100:.2g} % of the range"
        return ""

    def occupied_bits(self, lowest: float, highest: float) -> tuple[int, int, int] | None:
        """Find the bits that the values need, where nothing exceeds a quarter of a range.

        Returns
        -------
        tuple of int, int and int, or None
            Lowest and highest value of the occupied bits, and their number (with the sign); None where the range is not
            too wide, or all values are the same. One pixel in a thousand may lie outside, and so may a border that has
            the highest value of the range, or the lowest of a signed one.
        """
        inner = (self.values < highest) & ((self.values > lowest) | (lowest >= 0))
        values, counts = self.values[inner], self.counts[inner]
        if len(values) < 2:
            return None
        until = np.cumsum(counts)
        tail = int(until[-1] * _OUTLIERS) // 2
        low = int(values[np.searchsorted(until, tail, side="right")])
        high = int(values[np.searchsorted(until, until[-1] - tail, side="left")])
        sign = int(low < 0)
        bits = max(high.bit_length() if high > 0 else 0, (-low - 1).bit_length() if sign else 0, _FEWEST_BITS - sign)
        ends = -sign << bits, (1 << bits) - 1
        if low == high or _TOO_WIDE * (ends[1] - ends[0]) > highest - lowest:
            return None
        return *ends, bits + sign


def distribution(
    stored: NDArray[np.integer], lowest: int, highest: int, padding: tuple[int, int] | None
) -> Distribution:
    """Count the values of an image, without its padding; all lie from `lowest` to `highest`."""
    import cv2

    if highest - lowest < 1 << 16:
        from_zero = (stored if lowest == 0 else stored.astype(np.int32) - lowest).astype(np.uint16, copy=False)
        # in a fifth of the time of NumPy's bincount
        occurring = cv2.calcHist([from_zero], [0], None, [1 << 16], [0.0, 65536.0]).ravel()
        index = np.flatnonzero(occurring)
        values, counts = index + lowest, occurring[index]
    else:
        values, counts = np.unique(stored, return_counts=True)
    kept = np.ones(len(values), bool) if padding is None else (values < padding[0]) | (values > padding[1])
    return Distribution(values[kept].astype(np.int64), counts[kept].astype(np.int64))
