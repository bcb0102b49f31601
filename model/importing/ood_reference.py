"""The training distribution of an imported network, fitted on reference images in place of its training images."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.bundle.training_distribution import PERCENTILE, TrainingDistribution, fit_distribution
from model.engine.protocol import Engine
from model.preprocessing.tensor import Preprocessing, prepare

FEWEST = 100
"""Reference images needed for the 99th percentile of their distances.

With 40 of the demonstration network's images no way of fitting gives a limit that holds: of like images it flags from
none to a fifth, depending on the choice of the 40. With 100, by folds, it flags 0.5 to 1.3 % on average.
"""
FOLDS = 5


def fit_reference(
    engine: Engine, spec: Preprocessing, images: Iterable[NDArray[np.float32]], name: str = "reference"
) -> TrainingDistribution:
    """Fit a training distribution on reference images.

    Means and covariance are fitted on all of them. The threshold is the 99th percentile of the distances of all of
    them, each from the fit of the other four fifths: set by a fourth of the images alone, as one part for the fit and
    one for the threshold, it flagged 4 to 6 % of like images instead of 1 % (100 images of the demonstration network).

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
    fold = np.arange(len(pooled)) % FOLDS
    distances = np.empty(len(pooled))
    for number in range(FOLDS):
        held = fold == number
        fitted = fit_distribution({name: pooled[~held]}, {name: pooled[held]})
        distances[held] = fitted.distances(pooled[held])[:, 0]
    thresholds = np.array([np.percentile(distances, PERCENTILE)], np.float32)
    return replace(fit_distribution({name: pooled}, {name: pooled}), thresholds=thresholds)
