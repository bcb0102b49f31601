"""The engine interface: float32 tensors in, logits and feature maps out. Imports no network library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from model.explain.gradcam import GradCamMaps

Precision = Literal["auto", "f32", "bf16"]


EngineName = Literal["openvino", "keras"]


KERAS_ADVICE = 'set [reading] engine = "keras"'


class EngineUnsuitable(RuntimeError):
    """The engine cannot run this bundle on this machine with these settings; the message says why and what would."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, eq=False)
class EngineOutput:
    """The outputs of a network for a batch.

    Attributes
    ----------
    logits
        float32 [n, labels].
    activations
        float32 [n, h, w, channels], the feature map that the head reads.
    """

    logits: NDArray[np.float32]
    activations: NDArray[np.float32]

    @property
    def pooled(self) -> NDArray[np.float32]:
        """float32 [n, channels]: the mean of the feature map over its cells."""
        return self.activations.mean(axis=(1, 2), dtype=np.float32)


class Engine(Protocol):
    """Runs one network in this process."""

    @property
    def name(self) -> str:
        """Name and version, as recorded with each result."""

    @property
    def precision(self) -> str:
        """Numeric precision of its computation: f32, bf16 or int8."""

    def run(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run a batch, float32 [n, size, size, channels]; ValueError where the shape does not fit."""


@runtime_checkable
class Explainer(Protocol):
    """An engine that computes Grad-CAM for any head, not only for those with a closed form."""

    def explain(self, batch: NDArray[np.float32], output: EngineOutput) -> list[GradCamMaps]:
        """Return the Grad-CAM maps of each image of a batch; ``output`` is what ``run`` returned for it."""


def check_shape(batch: NDArray[np.float32], image: tuple[int, ...]) -> None:
    """Raise a ValueError unless a batch holds images float32 [size, size, channels] of this shape."""
    if batch.ndim != 4 or batch.shape[1:] != image or not len(batch):
        raise ValueError(f"a batch of shape {batch.shape} does not fit; [n, {', '.join(map(str, image))}] does")
