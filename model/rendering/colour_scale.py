"""The colour scale of Grad-CAM overlays, one for every image, label and model.

A map divided by its own maximum is bright on every negative image. Here the density of a cell is its contribution to
the calibrated logit times the number of cells (the logit of an image all of whose cells were like this one), times the
sigmoid of the sum of all contributions. So positive contributions that are outweighed by negative ones stay faint.
"""

import numpy as np
from numpy.typing import NDArray

DENSITY_FLOOR = 2.0
DENSITY_FULL = 10.0
MAXIMUM_OPACITY = 0.5
"""Opacity grows linearly from 0 at the floor to its maximum at `DENSITY_FULL`. On a dozen test images inspected with
the demonstration network, negative ones stayed below the floor, and positive ones reached densities of 7 to 15.
"""

COLOUR_RANGE = (0.35, 0.9)
"""The part of the inferno colour map in use: its dark end would hide the radiograph, its bright end looks like bone."""


def strength(contribution: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the density of each cell, zero or more, of contributions to the calibrated logit; float32 of its shape."""
    total = float(contribution.sum(dtype=np.float64))
    sigmoid = 0.5 * (1 + np.tanh(total / 2))
    return (np.maximum(contribution, 0) * (contribution.size * sigmoid)).astype(np.float32)


def opacity(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the opacity of densities, float32 in [0, `MAXIMUM_OPACITY`]; 0 below `DENSITY_FLOOR`."""
    share = np.clip((density - DENSITY_FLOOR) / (DENSITY_FULL - DENSITY_FLOOR), 0.0, 1.0)
    return (MAXIMUM_OPACITY * share).astype(np.float32)


def colours(alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the colour of each opacity [height, width], uint8 RGB [height, width, 3]."""
    import cv2

    low, high = COLOUR_RANGE
    index = np.rint(255 * (low + (high - low) * alpha / MAXIMUM_OPACITY)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(index, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)


def blend(gray: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blend an image, float32 [h, w] in [0, 1], with the colours of an opacity [h, w]; uint8 RGB [h, w, 3]."""
    share = alpha[..., np.newaxis]
    blended = (1 - share) * (gray * 255)[..., np.newaxis] + share * colours(alpha).astype(np.float32)
    return np.rint(blended).clip(0, 255).astype(np.uint8)
