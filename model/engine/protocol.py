"""What an engine is: float32 tensors in, logits and feature maps out. Knows no network library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from model.explain.gradcam import LogitMaps

Precision = Literal["auto", "f32", "bf16"]


EngineName = Literal["openvino", "keras"]


KERAS_ADVICE = 'set [reading] engine = "keras"'


class EngineUnsuitable(RuntimeError):
    """The engine cannot run this bundle on this machine as asked; the message says why and what would do."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, eq=False)
class EngineOutput:
    """What a network answers.

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
        """Name and version, as a result records it."""

    @property
    def precision(self) -> str:
        """What it computes in: f32, bf16 or int8."""

    def run(self, batch: NDArray[np.float32]) -> EngineOutput:
        """Run float32 [n, size, size, channels]; a ValueError names a shape that does not fit."""


@runtime_checkable
class Explainer(Protocol):
    """What an engine is that can explain any head by itself, not only those with a closed form."""

    def explain(self, batch: NDArray[np.float32], output: EngineOutput) -> list[LogitMaps]:
        """Return the Grad-CAM maps of every image of a batch and of what ``run`` gave for it."""


def check_shape(batch: NDArray[np.float32], image: tuple[int, ...]) -> None:
    """Raise a ValueError unless a batch holds images float32 [size, size, channels] of this shape."""
    if batch.ndim != 4 or batch.shape[1:] != image or not len(batch):
        raise ValueError(f"a batch of shape {batch.shape} does not fit; [n, {', '.join(map(str, image))}] does")
