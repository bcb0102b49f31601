"""Downsampling as by scikit-image's ``resize`` with its defaults, which torchxrayvision's preprocessing uses.

A Gaussian filter with a standard deviation of (factor - 1) / 2 pixels, truncated at four deviations, then bilinear
interpolation, both with zero outside the image. The whole is linear and separable: rows first, then columns.

Not scikit-image itself: in the worker it would add SciPy, NetworkX and tifffile for this one function. OpenCV's warps
interpolate in steps of 1/32 pixel, which changes the results. The tests compare with scikit-image.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

TRUNCATE = 4.0
"""Standard deviations at which SciPy truncates a Gaussian."""


def resize_gaussian(image: NDArray[np.float32], size: int, outside: float) -> NDArray[np.float32]:
    """Return an image [rows, columns] resampled to float32 [size, size].

    Parameters
    ----------
    image
        float32 [rows, columns].
    size
        Rows and columns of the result.
    outside
        Value outside the image. The result is clipped to the range of the image and this value, as by scikit-image.
    """
    rows, columns = image.shape
    shrunk = _apply(image - np.float32(outside), _taps(rows, size))
    result: NDArray[np.float32] = _apply(np.ascontiguousarray(shrunk.T), _taps(columns, size)).T + np.float32(outside)
    low, high = min(float(image.min()), outside), max(float(image.max()), outside)
    return np.clip(result, low, high)


def _apply(image: NDArray[np.float32], taps: "_Taps") -> NDArray[np.float32]:
    """Return weighted sums of an image's rows; the weights of each are few, so a full matrix would be mostly zeros."""
    return np.stack([weights @ image[low : low + len(weights)] for low, weights in taps])


_Taps = tuple[tuple[int, NDArray[np.float32]], ...]
"""For each output row: index of its first input row, and the weights, float32, of this and the following input rows."""


@lru_cache(maxsize=64)
def _taps(length: int, size: int) -> _Taps:
    """Return the weights that resample `length` values to `size`: the Gaussian filter, then linear interpolation."""
    factor = length / size
    sigma = max(0.0, (factor - 1) / 2)
    radius = int(TRUNCATE * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2) if sigma > 0 else np.ones(1)
    kernel /= kernel.sum()
    taps = []
    for position in (np.arange(size) + 0.5) * factor - 0.5:
        first, weights = int(np.floor(position)), np.zeros(length + 2 * radius + 2)
        for index, share in ((first, 1 - (position - first)), (first + 1, position - first)):
            if 0 <= index < length:  # the filtered image that is interpolated has no pixels outside
                weights[index : index + 2 * radius + 1] += share * kernel
        low, high = max(0, first - radius), min(length, first + radius + 2)
        taps.append((low, weights[low + radius : high + radius].astype(np.float32)))
    return tuple(taps)
