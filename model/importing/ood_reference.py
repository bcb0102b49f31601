"""The training distribution of an imported network, fitted on reference images in place of its training images."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from model.bundle.training_distribution import TrainingDistribution, fit_distribution
from model.engine.protocol import Engine
from model.preprocessing.tensor import Preprocessing, prepare

FEWEST = 40
"""Reference images needed for a percentile of their distances."""


def fit_reference(
    engine: Engine, spec: Preprocessing, images: Iterable[NDArray[np.float32]], name: str = "reference"
) -> TrainingDistribution:
    """Fit a training distribution on reference images: every fourth sets the threshold, the others mean and covariance.

    Parameters
    ----------
    engine
        Of the network.
    spec
        Its preprocessing.
    images
        float32 [rows, columns] in [0, 1]; a generator keeps one in memory at a time.
    name
        Of the domain.

    Raises
    ------
    ValueError
        There are fewer than `FEWEST` images.
    """
    rows = [engine.run(prepare(image, spec).tensor[np.newaxis]).pooled[0] for image in images]
    if len(rows) < FEWEST:
        raise ValueError(f"{len(rows)} reference images are too few; at least {FEWEST} are needed")
    pooled = np.stack(rows)
    for_threshold = np.arange(len(pooled)) % 4 == 3
    return fit_distribution({name: pooled[~for_threshold]}, {name: pooled[for_threshold]})
