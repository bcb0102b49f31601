"""Whether an image is out of the training distribution: a distance in the space of pooled features.

Features after a ReLU have heavy tails, and a bright image has more of all of them. So the distance is taken between
their square roots, scaled to length one (Hellinger's): on the first demonstration network it noticed every test image
laid on its side or inverted, where plain features missed a quarter to a half, with as few false alarms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TrainingDistribution:
    """Gaussians of one shared shape around the centre of each training domain.

    The distance is Mahalanobis' within the leading principal components, plus what lies outside them over its mean
    variance (Lee et al. 2018, with the covariance shrunk, since there are more features than adults to fit it on).

    Attributes
    ----------
    domains
        Names of the training domains.
    means
        float32 [domains, features], of evened features.
    components
        float32 [kept, features], orthonormal rows.
    variances
        float32 [kept], shrunk.
    residual_variance
        Mean variance of a direction outside the components.
    thresholds
        float32 [domains]: the distance that counts as 1.0, the 99th percentile of each domain's validation part.
    """

    domains: tuple[str, ...]
    means: NDArray[np.float32]
    components: NDArray[np.float32]
    variances: NDArray[np.float32]
    residual_variance: float
    thresholds: NDArray[np.float32]

    @classmethod
    def unknown(cls, features: int) -> "TrainingDistribution":
        """Return what stands for training images that nobody has: a distance to them cannot be said."""
        nothing, ones = np.zeros((1, features), np.float32), np.ones(1, np.float32)
        return cls(("unknown",), nothing, nothing, ones, 1.0, np.full(1, np.inf, np.float32))

    @property
    def known(self) -> bool:
        """Whether there were training images to learn it from."""
        return bool(np.isfinite(self.thresholds).all())

    def distances(self, pooled: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the distance of each pooled vector [n, features] from each domain, float64 [n, domains]."""
        centred = _even(pooled)[:, np.newaxis, :] - self.means
        inside = centred @ self.components.T.astype(np.float64)
        outside = np.maximum((centred**2).sum(-1) - (inside**2).sum(-1), 0.0)
        free = max(1, self.means.shape[1] - len(self.components))
        squared = (inside**2 / self.variances).sum(-1) + outside / self.residual_variance
        result: NDArray[np.float64] = np.sqrt(squared / (len(self.components) + free))
        return result

    def nearest(self, pooled: NDArray[np.float32]) -> list[str]:
        """Return the training domain that each vector [n, features] lies nearest to.

        By the plain distance: divided by each domain's spread, as for the score, adults of the demonstration network
        look like children, whose images vary more; plainly, 97 in 100 of either are assigned rightly.
        """
        return [self.domains[index] for index in self.distances(pooled).argmin(axis=1)]

    def score(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return each vector's distance from the nearest training domain, float32 [n]; above 1.0 is outside."""
        return (self.distances(pooled) / self.thresholds).min(axis=1).astype(np.float32)

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the arrays that a bundle's ``distribution.npz`` holds."""
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
    percentile: float = 99.0,
) -> TrainingDistribution:
    """Fit the distribution on pooled features [n, features] a domain of the training part.

    Every domain weighs the same in the shared shape. The thresholds come from the validation part, so that one image in
    a hundred of each domain scores above 1.0.
    """
    domains = tuple(sorted(training))
    features = {name: _even(training[name]) for name in domains}
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


def _even(pooled: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return square roots of features [n, features] (what is below zero counts as zero), each row of length one."""
    roots = np.sqrt(np.maximum(pooled.astype(np.float64), 0.0))
    result: NDArray[np.float64] = roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-12)
    return result
