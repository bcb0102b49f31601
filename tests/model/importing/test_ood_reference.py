"""The out-of-distribution limit of an imported network: of images like the reference images about 1 % lie beyond it."""

from types import SimpleNamespace

import numpy as np
import pytest

from model.importing.ood_reference import FEWEST, fit_reference
from model.preprocessing.tensor import Preprocessing

SPEC = Preprocessing(size=16, channels=1, mean=(0.5,), std=(0.25,))
MIXING = np.random.default_rng(0).random((12, 64))


def features(number, random):
    """Pooled features as a ReLU leaves them: 64, driven by 12 causes with heavy tails."""
    return (random.lognormal(0, 0.6, (number, 12)) @ MIXING + random.exponential(0.3, (number, 64))).astype(np.float32)


def fitted(pooled):
    rows = iter(pooled)
    engine = SimpleNamespace(run=lambda _tensor: SimpleNamespace(pooled=next(rows)[np.newaxis]))
    return fit_reference(engine, SPEC, (np.zeros((16, 16), np.float32) for _ in pooled))


def test_of_images_like_the_reference_images_about_one_percent_are_flagged():
    random = np.random.default_rng(1)
    flagged = [(fitted(features(FEWEST, random)).score(features(500, random)) > 1).mean() for _ in range(20)]
    assert 0.002 < np.mean(flagged) < 0.025, "a fourth of the images as the measure flagged 0.05"
    other = np.random.default_rng(2).exponential(1.0, (200, 64)).astype(np.float32)
    assert (fitted(features(FEWEST, random)).score(other) > 1).mean() > 0.95


def test_too_few_reference_images_are_refused_with_the_number_that_is_needed():
    with pytest.raises(ValueError, match="99 reference images are too few; at least 100 are needed"):
        fitted(features(99, np.random.default_rng(1)))
