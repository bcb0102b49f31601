"""Rendering of results: the radiograph with a label's Grad-CAM overlay, and a legend below."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle
from model.bundle.heatmap_scale import DEFAULT, LabelScale
from model.inference.predictor import InferenceResult
from model.rendering.colour_scale import (
    MAXIMUM_OPACITY,
    Layer,
    OverlayStyle,
    colours,
    drawn,
    opacity,
    peak_density,
    strength,
)
from model.rendering.legend import Legend, draw_legend

__all__ = [
    "RENDERING_VERSION",
    "Legend",
    "Overlay",
    "OverlayStyle",
    "draw_layer",
    "draw_overlay",
    "draw_scale",
    "draw_thumbnail",
    "legend_for",
    "peak_density",
    "probability_text",
]

RENDERING_VERSION = 4
"""Incremented when the same inputs are drawn differently."""

_NARROWEST = 20  # pixels of width that a legend needs; a narrower radiograph is padded with black


@dataclass(frozen=True, eq=False)
class Overlay:
    """A rendered result.

    Attributes
    ----------
    rgb
        uint8 [height, width, 3]: the radiograph, and the legend below it.
    scale
        Drawn pixels per image pixel, equal in x and y.
    radiograph
        (left, top, width, height) of the radiograph, in drawn pixels.
    """

    rgb: NDArray[np.uint8]
    scale: float
    radiograph: tuple[int, int, int, int]


def legend_for(
    bundle: Bundle, result: InferenceResult, index: int, flags: tuple[str, ...], style: OverlayStyle = "both"
) -> Legend:
    """Return the legend of one label, by index, of a result; it holds no data of the patient."""
    label = bundle.label_names[index]
    probability, threshold = float(result.probabilities[index]), result.calibration.thresholds[label]
    verdict = "at or above the threshold" if probability >= threshold else "below the threshold"
    scale = bundle.heatmap.of(label)
    peak = peak_density(result.maps.contribution(index))
    peak_text = (
        f"peak contribution {peak:.1f} on the scale below"
        if peak > scale.floor
        else f"peak contribution {peak:.1f}: below the scale, so nothing is drawn"
    )
    return Legend(
        title=label,
        lines=(
            f"probability {probability_text(probability)} (threshold {probability_text(threshold)}): {verdict}",
            peak_text,
            f"model {bundle.name} {bundle.version} ({bundle.digest[:12]})",
        ),
        flags=flags,
        footer=bundle.statement,
        scale=scale,
        origin=bundle.heatmap.origin(label),
        style=style,
    )


def probability_text(value: float) -> str:
    """Return a probability with three decimals; never 0 or 1, but "under 0.001" and "over 0.999"."""
    if value >= 0.9995:
        return "over 0.999"
    return f"{value:.3f}" if value >= 0.0005 else "under 0.001"


def draw_overlay(
    image: NDArray[np.float32],
    contribution: NDArray[np.float32],
    affine: NDArray[np.float64],
    tensor_size: int,
    legend: Legend,
    longest_side: int = 1024,
) -> Overlay:
    """Draw one label's overlay on the radiograph.

    Parameters
    ----------
    image
        float32 [rows, columns] in [0, 1], from which the tensor was made.
    contribution
        float32 [h, w], `GradCamMaps.contribution` of an `InferenceResult`: contributions to the calibrated logit,
        before ReLU.
    affine
        `PreparedImage.affine`: tensor pixel -> image pixel.
    tensor_size
        Rows and columns of the tensor.
    legend
        Drawn below the radiograph; its scale and style are those of the overlay.
    longest_side
        Of the drawn radiograph, in pixels, at least 64; a smaller image is enlarged to it.

    Raises
    ------
    ValueError
        A shape or the longest side does not fit.
    """
    if image.ndim != 2 or contribution.ndim != 2 or affine.shape != (2, 3):
        raise ValueError(
            f"shapes are image {image.shape}, map {contribution.shape}, affine {affine.shape}; "
            "[rows, columns], [h, w], [2, 3] are needed"
        )
    if longest_side < 64:
        raise ValueError(f"longest side is {longest_side}; at least 64 is needed")
    gray, scale = _scaled(image, longest_side)
    radiograph = _layer(contribution, affine, tensor_size, scale, gray.shape, legend.scale, legend.style).on(gray)
    if gray.shape[1] < _NARROWEST:
        radiograph = np.pad(radiograph, ((0, 0), (0, _NARROWEST - gray.shape[1]), (0, 0)))
    beneath = draw_legend(legend, radiograph.shape[1])
    rgb = np.concatenate([radiograph, beneath], axis=0)
    return Overlay(rgb, scale, (0, 0, gray.shape[1], gray.shape[0]))


def draw_thumbnail(image: NDArray[np.float32], longest_side: int = 256) -> NDArray[np.uint8]:
    """Return a thumbnail, uint8 [h, w], of an image float32 [rows, columns] in [0, 1]; it is never enlarged."""
    gray, _ = _scaled(image, min(longest_side, max(image.shape)))
    return np.rint(gray * 255).astype(np.uint8)


def draw_layer(
    contribution: NDArray[np.float32],
    affine: NDArray[np.float64],
    tensor_size: int,
    image_shape: tuple[int, int],
    longest_side: int = 1024,
    label_scale: LabelScale = DEFAULT,
    style: OverlayStyle = "both",
) -> NDArray[np.uint8]:
    """Draw one label's overlay without the radiograph, as a transparent layer of the same size.

    Parameters
    ----------
    contribution, affine, tensor_size
        As for `draw_overlay`.
    image_shape
        Rows and columns of the image.
    longest_side
        Of the drawn layer, in pixels; it is never larger than the image.
    label_scale, style
        As in the legend of `draw_overlay`.

    Returns
    -------
    uint8 RGBA [height, width, 4], alpha not premultiplied; all zero where nothing is drawn.
    """
    rows, columns = image_shape
    scale = min(longest_side, max(rows, columns)) / max(rows, columns)
    width, height = _drawn_size(rows, columns, scale)
    return _layer(contribution, affine, tensor_size, scale, (height, width), label_scale, style).rgba()


def draw_scale(width: int = 240, height: int = 10) -> NDArray[np.uint8]:
    """Return the colours of all overlays, uint8 RGBA [height, width, 4]: a scale's floor left, full right."""
    density = np.linspace(DEFAULT.floor, DEFAULT.full, width, dtype=np.float32)
    alpha = opacity(np.tile(density, (height, 1)), DEFAULT)
    return np.dstack([colours(alpha), np.rint(255 * alpha / MAXIMUM_OPACITY).astype(np.uint8)])


def _layer(
    contribution: NDArray[np.float32],
    affine: NDArray[np.float64],
    tensor_size: int,
    scale: float,
    shape: tuple[int, ...],
    label_scale: LabelScale,
    style: OverlayStyle,
) -> Layer:
    density, covered = _density_on(contribution, affine, tensor_size, scale, shape)
    layer = drawn(density, label_scale, style)
    return Layer(layer.colour * covered[..., np.newaxis], layer.alpha * covered)


def _scaled(image: NDArray[np.float32], longest_side: int) -> tuple[NDArray[np.float32], float]:
    import cv2

    rows, columns = image.shape
    scale = longest_side / max(rows, columns)
    size = _drawn_size(rows, columns, scale)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    drawn = cv2.resize(np.asarray(image, np.float32), size, interpolation=interpolation)
    return np.clip(drawn, 0.0, 1.0).astype(np.float32), scale


def _drawn_size(rows: int, columns: int, scale: float) -> tuple[int, int]:
    """Return width and height in drawn pixels, in OpenCV's order."""
    return max(1, round(columns * scale)), max(1, round(rows * scale))


def _density_on(
    contribution: NDArray[np.float32],
    affine: NDArray[np.float64],
    tensor_size: int,
    scale: float,
    shape: tuple[int, ...],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a map's density on the drawn radiograph, and 1 where the tensor covers it, else 0; float32 of its shape.

    Outside the tensor the density goes on as it ends, so that no iso-line runs along the tensor's edge.
    """
    import cv2

    height, width = contribution.shape
    density = strength(contribution)
    # cell -> tensor pixel -> image pixel -> drawn pixel; whole numbers are centres in each
    cell = np.array([[tensor_size / width, 0, tensor_size / width / 2 - 0.5]])
    cell = np.concatenate([cell, [[0, tensor_size / height, tensor_size / height / 2 - 0.5]], [[0, 0, 1]]])
    to_image = np.concatenate([affine, [[0, 0, 1]]])
    to_drawn = np.array([[scale, 0, scale / 2 - 0.5], [0, scale, scale / 2 - 0.5], [0, 0, 1]])
    padded = np.pad(density, 1, mode="edge")
    shift = np.array([[1.0, 0, -1], [0, 1, -1], [0, 0, 1]])
    forward = to_drawn @ to_image @ cell @ shift
    size = (shape[1], shape[0])
    warped: NDArray[np.float32] = cv2.warpAffine(
        padded, forward[:2], size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.float32)
    covered = _covered(to_drawn @ to_image, tensor_size, shape)
    # cubic interpolation overshoots: the density stays at or below that of the strongest cell
    return np.clip(warped, 0, density.max()), covered


def _covered(tensor_to_drawn: NDArray[np.float64], tensor_size: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return 1 where the tensor covers a drawn pixel, else 0, float32 of the drawn radiograph's shape."""
    inverse = np.linalg.inv(tensor_to_drawn)
    x, y = np.arange(shape[1]), np.arange(shape[0])
    columns = inverse[0, 0] * x + inverse[0, 2]
    rows = inverse[1, 1] * y + inverse[1, 2]
    inside_x = (columns >= -0.5) & (columns <= tensor_size - 0.5)
    inside_y = (rows >= -0.5) & (rows <= tensor_size - 0.5)
    return np.outer(inside_y, inside_x).astype(np.float32)
