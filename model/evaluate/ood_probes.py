"""Out-of-distribution probes: does the score notice images that are no upright chest radiographs?"""

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
"""Test images that are turned into probes, of all domains together."""


def probe_scores(
    engine: Engine,
    spec: Preprocessing,
    distribution: TrainingDistribution,
    samples: Sequence[Sample],
    read_image: Callable[[Path], Image],
    seed: int = 2026,
) -> dict[str, NDArray[np.float32]]:
    """Return the scores of test images turned upside down, laid on their side and inverted, and of noise."""
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
    """Return the scores of images, float32 [n]."""
    return distribution.score(np.stack([_pooled(engine, spec, image) for image in images]))


def summary(scores: NDArray[np.float32]) -> dict[str, Any]:
    """Return number, median and largest of scores, and the share above 1.0."""
    return {
        "images": len(scores),
        "median": round(float(np.median(scores)), 4),
        "largest": round(float(scores.max()), 4),
        "outside": round(float((scores > 1).mean()), 4),
    }


def _pooled(engine: Engine, spec: Preprocessing, image: Image) -> NDArray[np.float32]:
    return engine.run(prepare(image, spec).tensor[np.newaxis]).pooled[0]
