"""How strongly a region of a map is coloured, on one scale for every image, label and model.

A density is a cell's contribution to the calibrated logit times the number of cells: the calibrated logit that the
image would have if every cell were like this one. A map divided by its own maximum would glow on every negative film.
"""

import numpy as np
from numpy.typing import NDArray

DENSITY_FLOOR = 2.0
DENSITY_FULL = 7.0
MAXIMUM_OPACITY = 0.5
"""Opacity grows from nothing at the floor to its maximum at the full density.

On test films of the demonstration network, cells of negative ones reach the floor, outweighed by others that speak
against; cells of positive ones reach the full density.
"""

COLOUR_RANGE = (0.35, 0.9)
"""The part of inferno used: its dark end would hide the radiograph, its last colours look like bone."""


def opacity(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how opaque densities are drawn, float32 in [0, MAXIMUM_OPACITY]; what speaks against is clear."""
    strength = np.clip((density - DENSITY_FLOOR) / (DENSITY_FULL - DENSITY_FLOOR), 0.0, 1.0)
    return (MAXIMUM_OPACITY * strength).astype(np.float32)


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
