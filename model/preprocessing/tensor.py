"""Preprocessing of a grayscale radiograph to the network's tensor; the same in training, evaluation and inference."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from model.preprocessing.gaussian_resize import resize_gaussian

Geometry = Literal["squash", "crop", "pad"]
Interpolation = Literal["area", "gaussian"]


@dataclass(frozen=True)
class Preprocessing:
    """Parameters of the preprocessing; part of a bundle's digest.

    Parameters
    ----------
    size
        Rows and columns of the tensor.
    geometry
        ``squash`` scales the whole image to a square; ``crop`` takes the central square; ``pad`` centres the whole
        image on a black square. A network's outputs are valid only with the geometry that it was trained with.
    interpolation
        ``area``: mean over the covered pixels along axes that shrink, bilinear along axes that grow. ``gaussian``: as
        by scikit-image, and so by torchxrayvision; see `model.preprocessing.gaussian_resize`.
    channels
        1, or 3 equal channels.
    mean, std
        One value per channel: the tensor is ``(image - mean) / std`` of an image in [0, 1]. ImageNet's values can be
        used as published; torchxrayvision's range of -1024..1024 is a mean of 0.5 and a std of 1/2048.

    Raises
    ------
    ValueError
        A value is out of range.
    """

    size: int = 224
    geometry: Geometry = "squash"
    interpolation: Interpolation = "area"
    channels: int = 3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 4096:
            raise ValueError(f"preprocessing size is {self.size}; allowed are 16 to 4096")
        if self.geometry not in get_args(Geometry):
            raise ValueError(f"preprocessing geometry is {self.geometry!r}; allowed are squash, crop, pad")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"preprocessing interpolation is {self.interpolation!r}; allowed are area, gaussian")
        if self.channels not in (1, 3):
            raise ValueError(f"preprocessing channels is {self.channels}; allowed are 1 and 3")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(
                f"preprocessing has {len(self.mean)} means and {len(self.std)} stds; "
                f"{self.channels} channels need as many"
            )
        if not all(value > 0 for value in self.std):
            raise ValueError(f"preprocessing std is {self.std}; every value must be above 0")

    @property
    def identifier(self) -> str:
        """Stable name: geometry, interpolation, size, channels, and 8 hex digits of a hash over all values."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
        return f"{self.geometry}-{self.interpolation}-{self.size}x{self.channels}-{digest}"

    def as_table(self) -> dict[str, Any]:
        """Return the values for a bundle's ``model.toml``."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Preprocessing":
        """Read the values in a bundle's ``model.toml``; ValueError where one is out of range, KeyError if missing."""
        return cls(
            size=int(table["size"]),
            geometry=cast(Geometry, str(table["geometry"])),
            interpolation=cast(Interpolation, str(table["interpolation"])),
            channels=int(table["channels"]),
            mean=tuple(float(value) for value in table["mean"]),
            std=tuple(float(value) for value in table["std"]),
        )


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """A tensor, and the affine map of its pixels to the image.

    Attributes
    ----------
    tensor
        float32 [size, size, channels].
    affine
        float64 [2, 3]: tensor pixel (x, y) is at ``affine @ (x, y, 1)`` in the image; whole numbers are pixel centres
        in both.
    """

    tensor: NDArray[np.float32]
    affine: NDArray[np.float64]


def prepare(image: NDArray[np.float32], spec: Preprocessing) -> PreparedImage:
    """Return the network's tensor of one grayscale image.

    Parameters
    ----------
    image
        float32 [rows, columns] in [0, 1]; dense tissue is bright (MONOCHROME2).
    spec
        The network's preprocessing.

    Raises
    ------
    ValueError
        The image is not two-dimensional or has no pixels.
    """
    square, affine = resample(image, spec)
    return PreparedImage(normalise(square, spec), affine)


def resample(image: NDArray[np.float32], spec: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the image resampled to float32 [size, size] in [0, 1], and the affine map of `PreparedImage`."""
    if image.ndim != 2 or 0 in image.shape:
        raise ValueError(f"an image of shape {image.shape} cannot be prepared; [rows, columns] with pixels is needed")
    image = np.asarray(image, dtype=np.float32)
    rows, columns = image.shape
    left, top, width, height = 0, 0, columns, rows
    if spec.geometry == "crop":
        width = height = min(rows, columns)
        left, top = columns // 2 - width // 2, rows // 2 - height // 2  # the same rounding as torchxrayvision's
        image = image[top : top + height, left : left + width]
    elif spec.geometry == "pad":
        width = height = max(rows, columns)
        left, top = -((width - columns) // 2), -((height - rows) // 2)
        padded = np.zeros((height, width), dtype=np.float32)
        padded[-top : -top + rows, -left : -left + columns] = image
        image = padded
    scale_x, scale_y = width / spec.size, height / spec.size
    affine = np.array(
        [[scale_x, 0.0, left + scale_x / 2 - 0.5], [0.0, scale_y, top + scale_y / 2 - 0.5]], dtype=np.float64
    )
    if spec.interpolation == "gaussian":
        # outside the image is the value that becomes 0 in the tensor, as in torchxrayvision
        square = resize_gaussian(image, spec.size, float(np.clip(np.mean(spec.mean), 0, 1)))
        return np.ascontiguousarray(np.clip(square, 0.0, 1.0)), affine
    return _resize(image, spec.size), affine


def normalise(square: NDArray[np.float32], spec: Preprocessing) -> NDArray[np.float32]:
    """Return tensors float32 [..., size, size, channels] of images [..., size, size] in [0, 1]."""
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    result: NDArray[np.float32] = (square[..., np.newaxis] - mean) / std
    return result


def _resize(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Resample by area along axes that shrink, then bilinearly along axes that grow."""
    import cv2

    rows, columns = image.shape
    shrunk = (min(columns, size), min(rows, size))
    if shrunk != (columns, rows):
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    if shrunk != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
    return np.ascontiguousarray(np.clip(image, 0.0, 1.0))
