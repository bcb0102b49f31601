"""Colours and iso-lines of Grad-CAM overlays, on a scale that is the same for every image of a model.

A map divided by its own maximum is bright on every negative image. Here the density of a cell is its contribution to
the calibrated logit times the number of cells (the logit of an image all of whose cells were like this one), times the
sigmoid of the sum of all contributions. So positive contributions that are outweighed by negative ones stay faint.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.bundle.heatmap_scale import LabelScale

OverlayStyle = Literal["filled", "contours", "both"]

MAXIMUM_OPACITY = 0.35
"""Of the filled map: at least 65 % of the radiograph's contrast is left everywhere. At 0.5, in yellow, vessels and
ribs under it could no longer be told apart on the images looked at.
"""

COLOUR_RANGE = (0.35, 0.9)
"""The part of the inferno colour map in use: its dark end would hide the radiograph, its bright end looks like bone."""

LINE_COLOURS = ((60, 190, 225), (120, 220, 240), (200, 245, 252))
"""Of the iso-lines at `LabelScale.lines`: colours neither of the filled map nor of a warning, each with a dark seam, so
that it is seen on lung and on bone.
"""


@dataclass(frozen=True, eq=False)
class Layer:
    """What is drawn over a radiograph.

    Attributes
    ----------
    colour
        float32 [h, w, 3] in 0..255, multiplied by the opacity.
    alpha
        float32 [h, w] in [0, 1], the opacity.
    """

    colour: NDArray[np.float32]
    alpha: NDArray[np.float32]

    def on(self, gray: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return an image, float32 [h, w] in [0, 1], with this layer over it; uint8 RGB [h, w, 3]."""
        under = gray * 255
        picture = np.repeat(np.rint(under).clip(0, 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)
        shown = self.alpha > 0
        blended = self.colour[shown] + ((1 - self.alpha[shown]) * under[shown])[..., np.newaxis]
        picture[shown] = np.rint(blended).clip(0, 255).astype(np.uint8)
        return picture

    def rgba(self) -> NDArray[np.uint8]:
        """Return it as uint8 RGBA [h, w, 4], alpha not premultiplied; all zero where nothing is drawn."""
        alpha = np.rint(255 * self.alpha).clip(0, 255).astype(np.uint8)
        colour = self.colour / np.maximum(self.alpha, 1e-6)[..., np.newaxis]
        drawn = np.where(alpha[..., np.newaxis] > 0, np.rint(colour).clip(0, 255), 0).astype(np.uint8)
        return np.dstack([drawn, alpha])


def strength(contribution: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the density of each cell, zero or more, of contributions to the calibrated logit; float32 of its shape."""
    total = float(contribution.sum(dtype=np.float64))
    sigmoid = 0.5 * (1 + np.tanh(total / 2))
    return (np.maximum(contribution, 0) * (contribution.size * sigmoid)).astype(np.float32)


def peak_density(contribution: NDArray[np.float32]) -> float:
    """Return the largest density of a map of contributions; below the scale's floor its overlay is empty."""
    return float(strength(contribution).max())


def opacity(density: NDArray[np.float32], scale: LabelScale) -> NDArray[np.float32]:
    """Return the opacity of the filled map: linear from 0 at the floor to `MAXIMUM_OPACITY` where it is full."""
    share = np.clip((density - scale.floor) / (scale.full - scale.floor), 0.0, 1.0)
    return (MAXIMUM_OPACITY * share).astype(np.float32)


def colours(alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the colour of each opacity [height, width], uint8 RGB [height, width, 3]."""
    import cv2

    low, high = COLOUR_RANGE
    index = np.rint(255 * (low + (high - low) * alpha / MAXIMUM_OPACITY)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(index, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)


def filled(density: NDArray[np.float32], scale: LabelScale) -> Layer:
    """Return the filled map of a density [h, w]."""
    alpha = opacity(density, scale)
    return Layer(alpha[..., np.newaxis] * colours(alpha).astype(np.float32), alpha)


def iso_lines(density: NDArray[np.float32], scale: LabelScale, over: Layer | None = None) -> Layer:
    """Return the lines along which a density [h, w] has the values of `LabelScale.lines`, with their dark seams.

    A line is where the distance to its value, divided by the slope, is below half a width: no line runs along the
    edge of the image.

    Parameters
    ----------
    over
        What the lines are drawn over; it is changed.
    """
    import cv2

    layer = over or Layer(np.zeros((*density.shape, 3), np.float32), np.zeros(density.shape, np.float32))
    width = max(1.6, max(density.shape) / 400)
    right, down = (
        cv2.Sobel(density, cv2.CV_32F, *axis, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE)
        for axis in ((1, 0), (0, 1))
    )
    slope = np.maximum(cv2.magnitude(right, down), 1e-6)
    for value, colour in zip(scale.lines, LINE_COLOURS, strict=True):
        near = np.abs(density - value) < (width / 2 + 1.5) * slope
        distance = np.abs(density[near] - value) / slope[near]
        seam = 0.4 * np.clip(width / 2 + 1.5 - distance, 0, 1)
        line = np.clip(width / 2 + 0.5 - distance, 0, 1)
        left = (1 - seam) * (1 - line)
        layer.colour[near] = left[:, np.newaxis] * layer.colour[near] + np.outer(line, colour)
        layer.alpha[near] = 1 - left * (1 - layer.alpha[near])
    return layer


def drawn(density: NDArray[np.float32], scale: LabelScale, style: OverlayStyle) -> Layer:
    """Return what is drawn of a density [h, w] in a style."""
    if style == "contours":
        return iso_lines(density, scale)
    layer = filled(density, scale)
    return layer if style == "filled" else iso_lines(density, scale, layer)
