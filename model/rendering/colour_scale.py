"""How strongly a region of a map is coloured, on one scale for every image, label and model.

A map divided by its own maximum glows on every negative image. Here a cell's strength is what it adds to the calibrated
logit times the number of cells (the logit that the image would have if every cell were like this one), in the measure
that the image as a whole speaks for the label: times the sigmoid of all contributions together. So what speaks for a
label and is outweighed stays faint.
"""

import numpy as np
from numpy.typing import NDArray

DENSITY_FLOOR = 2.0
DENSITY_FULL = 10.0
MAXIMUM_OPACITY = 0.5
"""Opacity grows from nothing at the floor to its maximum at the full strength. On a dozen test images looked at with
the demonstration network, those called negative stayed under the floor, and those called positive reached 7 to 15.
"""

COLOUR_RANGE = (0.35, 0.9)
"""The part of inferno used: its dark end would hide the radiograph, its last colours look like bone."""


def strength(contribution: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how strongly each cell of a calibrated logit's map speaks for the label, float32 of its shape."""
    net = float(contribution.sum(dtype=np.float64))
    whole = 0.5 * (1 + np.tanh(net / 2))
    return (np.maximum(contribution, 0) * (contribution.size * whole)).astype(np.float32)


def opacity(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how opaque densities are drawn, float32 in [0, MAXIMUM_OPACITY]; what speaks against is clear."""
    share = np.clip((density - DENSITY_FLOOR) / (DENSITY_FULL - DENSITY_FLOOR), 0.0, 1.0)
    return (MAXIMUM_OPACITY * share).astype(np.float32)


def colours(alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the colour that goes with an `opacity`, uint8 RGB [height, width, 3]."""
    import cv2

    low, high = COLOUR_RANGE
    index = np.rint(255 * (low + (high - low) * alpha / MAXIMUM_OPACITY)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(index, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)


def blend(gray: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour an image float32 [h, w] in [0, 1] as an `opacity` of its shape says, uint8 RGB [h, w, 3]."""
    share = alpha[..., np.newaxis]
    blended = (1 - share) * (gray * 255)[..., np.newaxis] + share * colours(alpha).astype(np.float32)
    return np.rint(blended).clip(0, 255).astype(np.uint8)
