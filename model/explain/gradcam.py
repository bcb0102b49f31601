"""Grad-CAM (Selvaraju et al. 2017) of every label from one forward pass.

Behind a global average pool, the gradient of a logit by a cell of the feature map is its gradient by the pooled feature
divided by the number of cells: no backward pass through the network is needed. Maps are of the logit, since the
gradient of a sigmoid's output vanishes on confident images. They are stored before the ReLU, so that negative
contributions are kept too.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.explain.head import Head

_HEADER = struct.Struct("<4sHHH")
_MAGIC = b"CXM1"


@dataclass(frozen=True, eq=False)
class GradCamMaps:
    """Grad-CAM maps of all labels of one image, small enough for a database row.

    Attributes
    ----------
    values
        float16 [labels, h, w] in [-1, 1].
    scales
        float32 [labels]: the largest absolute contribution in each map, in units of the logit.
    """

    values: NDArray[np.float16]
    scales: NDArray[np.float32]

    @classmethod
    def from_contributions(cls, contributions: NDArray[np.float64]) -> "GradCamMaps":
        """Pack contributions [labels, h, w] in units of the logit."""
        scales = np.abs(contributions).max(axis=(1, 2))
        divisors = np.where(scales > 0, scales, 1.0)[:, np.newaxis, np.newaxis]
        return cls((contributions / divisors).astype(np.float16), scales.astype(np.float32))

    def contribution(self, index: int) -> NDArray[np.float32]:
        """Return each cell's contribution to the logit of one label, float32 [h, w], before ReLU.

        For a linear head the contributions sum to the logit minus the head's bias.
        """
        result: NDArray[np.float32] = self.values[index].astype(np.float32) * self.scales[index]
        return result

    def divided(self, temperatures: NDArray[np.float32]) -> "GradCamMaps":
        """Return the maps of the calibrated logits: each label's map divided by its temperature, float32 [labels]."""
        return GradCamMaps(self.values, (self.scales / temperatures).astype(np.float32))

    def to_bytes(self) -> bytes:
        """Return the maps as bytes (little endian: magic, labels, h, w, scales, values)."""
        header = _HEADER.pack(_MAGIC, *self.values.shape)
        return header + self.scales.astype("<f4").tobytes() + self.values.astype("<f2").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "GradCamMaps":
        """Read what `to_bytes` wrote; ValueError where header or length are wrong."""
        if len(data) < _HEADER.size or data[:4] != _MAGIC:
            raise ValueError(f"these {len(data)} bytes are no logit maps: they do not begin with {_MAGIC!r}")
        _, labels, height, width = _HEADER.unpack_from(data)
        cells = labels * height * width
        expected = _HEADER.size + 4 * labels + 2 * cells
        if len(data) != expected:
            raise ValueError(f"logit maps of shape {(labels, height, width)} take {expected} bytes, not {len(data)}")
        scales = np.frombuffer(data, "<f4", labels, _HEADER.size).astype(np.float32)
        values = np.frombuffer(data, "<f2", cells, _HEADER.size + 4 * labels).astype(np.float16)
        return cls(values.reshape(labels, height, width), scales)


def closed_form_maps(head: Head, activations: NDArray[np.float32]) -> GradCamMaps:
    """Return the Grad-CAM maps of all labels of one image.

    Parameters
    ----------
    head
        The bundle's head.
    activations
        float32 [h, w, channels], the feature map at the input of the head.
    """
    height, width, channels = activations.shape
    jacobian = head.jacobian(head.pooled(activations))
    if head.pooling == "average":
        weights = jacobian / (height * width)
    else:
        weights = jacobian.reshape(len(jacobian), height * width, channels).mean(axis=1)
    return weighted_maps(weights, activations)


def weighted_maps(weights: NDArray[np.float64], activations: NDArray[np.float32]) -> GradCamMaps:
    """Return the Grad-CAM maps of all labels: sums of the channels, weighted by the mean derivative of the logit.

    Parameters
    ----------
    weights
        float64 [labels, channels].
    activations
        float32 [h, w, channels].
    """
    return GradCamMaps.from_contributions(np.einsum("lc,hwc->lhw", weights, activations.astype(np.float64)))
