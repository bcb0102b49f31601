"""Out-of-distribution probes: scores of test images that were turned, inverted or replaced by noise."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.training_distribution import TrainingDistribution
from model.dataset.sources import Sample, limited
from model.engine.protocol import Engine
from model.preprocessing.tensor import Preprocessing, prepare

Image = NDArray[np.float32]

NUMBER = 60
"""Test images, over all domains, of which probes are made."""


def probe_scores(
    engine: Engine,
    spec: Preprocessing,
    distribution: TrainingDistribution,
    samples: Sequence[Sample],
    read_image: Callable[[Path], Image],
    seed: int = 2026,
) -> dict[str, NDArray[np.float32]]:
    """Return out-of-distribution scores, float32 [n], of each kind of probe.

    Parameters
    ----------
    engine, spec, distribution
        The network, its preprocessing and its training distribution.
    samples
        Test images; `NUMBER` of them are used.
    read_image
        Returns float32 [rows, columns] in [0, 1] of a file.
    seed
        Of the noise.
    """
    images = [read_image(sample.path) for sample in limited(samples, NUMBER)]
    random = np.random.default_rng(seed)
    changes: Mapping[str, Callable[[Image], Image]] = {
        "test part, upside down": lambda image: np.ascontiguousarray(image[::-1]),
        "test part, on its side": lambda image: np.ascontiguousarray(np.rot90(image)),
        "test part, inverted": lambda image: (1 - image).astype(np.float32),
        "noise": lambda image: random.random(image.shape, dtype=np.float32),
    }
    return {
        name: image_scores(engine, spec, distribution, [change(image) for image in images])
        for name, change in changes.items()
    }


def image_scores(
    engine: Engine, spec: Preprocessing, distribution: TrainingDistribution, images: Sequence[Image]
) -> NDArray[np.float32]:
    """Return the out-of-distribution score of each image, float32 [n]; above 1.0 is out of distribution."""
    return distribution.score(np.stack([_pooled(engine, spec, image) for image in images]))


def summary(scores: NDArray[np.float32]) -> dict[str, Any]:
    """Return number, median and maximum of scores [n], and the share above 1.0, rounded to four decimals."""
    return {
        "images": len(scores),
        "median": round(float(np.median(scores)), 4),
        "largest": round(float(scores.max()), 4),
        "outside": round(float((scores > 1).mean()), 4),
    }


def _pooled(engine: Engine, spec: Preprocessing, image: Image) -> NDArray[np.float32]:
    return engine.run(prepare(image, spec).tensor[np.newaxis]).pooled[0]
