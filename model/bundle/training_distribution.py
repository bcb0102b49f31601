"""Out-of-distribution score of an image: a distance of its pooled features from those of the training images.

Features after a ReLU have heavy tails, and all are larger in a brighter image. So the distance is taken between their
square roots, scaled to unit length (Hellinger transform): on the first demonstration network it detected every test
image that was rotated by 90 degrees or inverted, where untransformed features missed a quarter to a half, at the same
false-positive rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERCENTILE = 99.0
"""Of a domain's held-out distances, which becomes the score 1.0."""


@dataclass(frozen=True, eq=False)
class TrainingDistribution:
    """Gaussians with one shared covariance, centred at the mean of each training domain.

    The distance is the Mahalanobis distance (Lee et al. 2018) within the leading principal components, plus the
    residual outside them over its mean variance. The covariance is shrunk: there are fewer images than features.

    Attributes
    ----------
    domains
        Names of the training domains.
    means
        float32 [domains, features], of Hellinger-transformed features.
    components
        float32 [components, features], orthonormal rows.
    variances
        float32 [components], shrunk.
    residual_variance
        Mean variance along a direction outside the components.
    thresholds
        float32 [domains]: the distance with score 1.0, the 99th percentile of each domain's validation part.
    """

    domains: tuple[str, ...]
    means: NDArray[np.float32]
    components: NDArray[np.float32]
    variances: NDArray[np.float32]
    residual_variance: float
    thresholds: NDArray[np.float32]

    @classmethod
    def unknown(cls, features: int) -> "TrainingDistribution":
        """Return the placeholder of a network whose training images are not available; its scores mean nothing."""
        zeros, ones = np.zeros((1, features), np.float32), np.ones(1, np.float32)
        return cls(("unknown",), zeros, zeros, ones, 1.0, np.full(1, np.inf, np.float32))

    @property
    def known(self) -> bool:
        """Whether it was fitted on images; False for the placeholder `unknown`."""
        return bool(np.isfinite(self.thresholds).all())

    def distances(self, pooled: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the distance of each pooled vector [n, features] from each domain, float64 [n, domains]."""
        centred = _hellinger(pooled)[:, np.newaxis, :] - self.means
        projected = centred @ self.components.T.astype(np.float64)
        residual = np.maximum((centred**2).sum(-1) - (projected**2).sum(-1), 0.0)
        residual_dimensions = max(1, self.means.shape[1] - len(self.components))
        squared = (projected**2 / self.variances).sum(-1) + residual / self.residual_variance
        result: NDArray[np.float64] = np.sqrt(squared / (len(self.components) + residual_dimensions))
        return result

    def nearest(self, pooled: NDArray[np.float32]) -> list[str]:
        """Return the nearest training domain of each pooled vector [n, features].

        By the distance, not by the score: divided by each domain's threshold, adults would be assigned to the children,
        whose images vary more. By distance 97 % of either are assigned correctly (demonstration network).
        """
        return [self.domains[index] for index in self.distances(pooled).argmin(axis=1)]

    def score(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the out-of-distribution score of each pooled vector, float32 [n]; above 1.0 is out of distribution."""
        return (self.distances(pooled) / self.thresholds).min(axis=1).astype(np.float32)

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the arrays of a bundle's ``distribution.npz``."""
        return {
            "means": self.means.astype(np.float32),
            "components": self.components.astype(np.float32),
            "variances": self.variances.astype(np.float32),
            "residual_variance": np.array([self.residual_variance], np.float32),
            "thresholds": self.thresholds.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, domains: Sequence[str], arrays: Mapping[str, NDArray[np.float32]]) -> "TrainingDistribution":
        """Read what `to_arrays` returned; ValueError where the arrays do not fit together."""
        shapes = {name: arrays[name].shape for name in ("means", "components", "variances", "thresholds")}
        features, kept = shapes["means"][-1:], shapes["variances"]
        count = (len(domains),)
        if shapes != {"means": count + features, "components": kept + features, "variances": kept, "thresholds": count}:
            raise ValueError(f"the distribution of {len(domains)} training domains has arrays of the shapes {shapes}")
        return cls(
            tuple(domains),
            arrays["means"],
            arrays["components"],
            arrays["variances"],
            float(arrays["residual_variance"][0]),
            arrays["thresholds"],
        )


def fit_distribution(
    training: Mapping[str, NDArray[np.float32]],
    validation: Mapping[str, NDArray[np.float32]],
    kept: int = 32,
    shrinkage: float = 0.1,
    percentile: float = PERCENTILE,
) -> TrainingDistribution:
    """Fit means and covariance on the training part, and thresholds on the validation part.

    Every domain has the same weight in the shared covariance.

    Parameters
    ----------
    training, validation
        Pooled features, float32 [n, features], by domain.
    kept
        Principal components kept.
    shrinkage
        Share, in [0, 1], that the mean variance has in each variance.
    percentile
        Of each domain's validation distances, which becomes the score 1.0: 1 % of the images score above it.
    """
    domains = tuple(sorted(training))
    features = {name: _hellinger(training[name]) for name in domains}
    means = np.stack([features[name].mean(axis=0) for name in domains])
    centred = [
        (features[name] - mean) / np.sqrt(len(features[name]) * len(domains))
        for name, mean in zip(domains, means, strict=True)
    ]
    stacked = np.concatenate(centred)
    _, singular, rows = np.linalg.svd(stacked, full_matrices=False)
    kept = min(kept, len(singular) - 1)
    variances = singular[:kept] ** 2
    residual = float((singular[kept:] ** 2).sum() / max(1, means.shape[1] - kept))
    residual = max(residual, 1e-12)
    shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean()
    unscaled = TrainingDistribution(
        domains,
        means.astype(np.float32),
        rows[:kept].astype(np.float32),
        shrunk.astype(np.float32),
        residual,
        np.ones(len(domains), np.float32),
    )
    thresholds = [
        np.percentile(unscaled.distances(validation[name])[:, index], percentile) for index, name in enumerate(domains)
    ]
    return TrainingDistribution(
        domains,
        unscaled.means,
        unscaled.components,
        unscaled.variances,
        residual,
        np.asarray(thresholds, np.float32),
    )


def _hellinger(pooled: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return square roots of features [n, features] (negative ones count as zero), each row scaled to unit length."""
    roots = np.sqrt(np.maximum(pooled.astype(np.float64), 0.0))
    result: NDArray[np.float64] = roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-12)
    return result
