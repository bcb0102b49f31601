"""Shrinking as scikit-image's ``resize`` does by default, which is how torchxrayvision makes its tensors.

A Gaussian of (factor - 1) / 2 pixels, cut at four of them, then bilinear interpolation; what lies outside the image is
zero to both. All of it is linear and separable: the rows first, then the columns.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

TRUNCATE = 4.0
"""Standard deviations at which SciPy's Gaussian ends."""


def resize_gaussian(image: NDArray[np.float32], size: int, outside: float) -> NDArray[np.float32]:
    """Return an image [rows, columns] on a grid [size, size], ``outside`` being the value beyond its edges.

    The result stays within the image's own range, as scikit-image has it.
    """
    rows, columns = image.shape
    shrunk = _apply(image - np.float32(outside), _taps(rows, size))
    result: NDArray[np.float32] = _apply(np.ascontiguousarray(shrunk.T), _taps(columns, size)).T + np.float32(outside)
    low, high = min(float(image.min()), outside), max(float(image.max()), outside)
    return np.clip(result, low, high)


def _apply(image: NDArray[np.float32], taps: "_Taps") -> NDArray[np.float32]:
    """Combine the rows of an image, a few at a time: a whole matrix would be nearly all zeros."""
    return np.stack([weights @ image[low : low + len(weights)] for low, weights in taps])


_Taps = tuple[tuple[int, NDArray[np.float32]], ...]
"""For each value made: the first that it is made of, and the weights of that one and those after it."""


@lru_cache(maxsize=64)
def _taps(length: int, size: int) -> _Taps:
    """Return what brings `length` values to `size`."""
    factor = length / size
    sigma = max(0.0, (factor - 1) / 2)
    radius = int(TRUNCATE * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2) if sigma > 0 else np.ones(1)
    kernel /= kernel.sum()
    taps = []
    for place in (np.arange(size) + 0.5) * factor - 0.5:
        first, weights = int(np.floor(place)), np.zeros(length + 2 * radius + 2)
        for at, share in ((first, 1 - (place - first)), (first + 1, place - first)):
            if 0 <= at < length:  # interpolation reads the smoothed image, which has no pixels beyond its edges
                weights[at : at + 2 * radius + 1] += share * kernel
        low, high = max(0, first - radius), min(length, first + radius + 2)
        taps.append((low, weights[low + radius : high + radius].astype(np.float32)))
    return tuple(taps)
