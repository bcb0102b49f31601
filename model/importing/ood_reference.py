"""What a network that came without its training images may expect: learnt from images like them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from model.bundle.training_distribution import TrainingDistribution, fit_distribution
from model.engine.protocol import Engine
from model.preprocessing.tensor import Preprocessing, prepare

FEWEST = 40
"""Reference images below which a percentile of their distances means nothing."""


def fit_reference(
    engine: Engine, spec: Preprocessing, images: Iterable[NDArray[np.float32]], name: str = "reference"
) -> TrainingDistribution:
    """Return the distribution of reference images; every fourth sets the limit, the others the shape.

    Parameters
    ----------
    engine
        Of the network.
    spec
        Its preprocessing.
    images
        float32 [rows, columns] in 0..1; one is in memory at a time where they are read on the way.
    name
        Of the domain.

    Raises
    ------
    ValueError
        There are fewer than `FEWEST` images.
    """
    found = [engine.run(prepare(image, spec).tensor[np.newaxis]).pooled[0] for image in images]
    if len(found) < FEWEST:
        raise ValueError(f"{len(found)} reference images are too few; {FEWEST} and more will do")
    pooled = np.stack(found)
    limit = np.arange(len(pooled)) % 4 == 3
    return fit_distribution({name: pooled[~limit]}, {name: pooled[limit]})
