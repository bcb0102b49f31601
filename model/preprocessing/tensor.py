"""From a grayscale radiograph to the network's tensor: the one function that training, evaluation and reading share."""

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
    """How an image becomes a tensor; part of a bundle's digest.

    Parameters
    ----------
    size
        Rows and columns of the tensor.
    geometry
        ``squash`` stretches the whole image onto the square; ``crop`` takes the central square; ``pad`` centres the
        whole image on a black square. It matters: an image that is normal by one of them may not be by another.
    interpolation
        ``area``: the mean over the covered pixels where the image shrinks, bilinear where it grows. ``gaussian``: as
        scikit-image and so torchxrayvision do, see `model.preprocessing.gaussian_resize`.
    channels
        1, or 3 for a gray image repeated.
    mean, std
        A value a channel: the tensor is ``(image - mean) / std`` with the image in [0, 1]. ImageNet's figures fit as
        they are; torchxrayvision's range of -1024..1024 is a mean of 0.5 and a std of 1/2048.
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
        """Short and stable name of this preprocessing: what it does, then 8 hex digits of all its values."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
        return f"{self.geometry}-{self.interpolation}-{self.size}x{self.channels}-{digest}"

    def as_table(self) -> dict[str, Any]:
        """Return the values as a bundle's ``model.toml`` holds them."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Preprocessing":
        """Read the values of a bundle's ``model.toml``; a ValueError or KeyError names what is wrong."""
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
    """A tensor and where its pixels lie in the image.

    Attributes
    ----------
    tensor
        float32 [size, size, channels].
    affine
        float64 [2, 3]: the centre of tensor pixel (x, y) lies at ``affine @ (x, y, 1)`` in image pixels, whole numbers
        being pixel centres on both sides.
    """

    tensor: NDArray[np.float32]
    affine: NDArray[np.float64]


def prepare(image: NDArray[np.float32], spec: Preprocessing) -> PreparedImage:
    """Make the network's tensor of one grayscale image.

    Parameters
    ----------
    image
        float32 [rows, columns] in [0, 1], white is dense.
    spec
        A bundle's preprocessing.

    Raises
    ------
    ValueError
        The image is not two-dimensional or has no pixels.
    """
    square, affine = resample(image, spec)
    return PreparedImage(normalise(square, spec), affine)


def resample(image: NDArray[np.float32], spec: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the image on the tensor's grid, float32 [size, size] in [0, 1], and the affine of `PreparedImage`."""
    if image.ndim != 2 or 0 in image.shape:
        raise ValueError(f"an image of shape {image.shape} cannot be prepared; [rows, columns] with pixels is needed")
    image = np.asarray(image, dtype=np.float32)
    rows, columns = image.shape
    left, top, width, height = 0, 0, columns, rows
    if spec.geometry == "crop":
        width = height = min(rows, columns)
        left, top = columns // 2 - width // 2, rows // 2 - height // 2  # to the pixel as torchxrayvision crops
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
        # beyond the edges lies what is zero to the network, as where it was trained
        square = resize_gaussian(image, spec.size, float(np.clip(np.mean(spec.mean), 0, 1)))
        return np.ascontiguousarray(np.clip(square, 0.0, 1.0)), affine
    return _resize(image, spec.size), affine


def normalise(square: NDArray[np.float32], spec: Preprocessing) -> NDArray[np.float32]:
    """Turn images [..., size, size] in [0, 1] into tensors [..., size, size, channels] in the network's range."""
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    result: NDArray[np.float32] = (square[..., np.newaxis] - mean) / std
    return result


def _resize(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Resize by area along the axes that shrink, then bilinearly along those that grow."""
    import cv2

    rows, columns = image.shape
    shrunk = (min(columns, size), min(rows, size))
    if shrunk != (columns, rows):
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA).astype(np.float32, copy=False)
    if shrunk != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
    return np.ascontiguousarray(np.clip(image, 0.0, 1.0))
