"""Batches for training: sampling by domain, loss weights by label and domain, augmentation, mixup."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.dataset.image_inspection import Inspection
from model.dataset.samples import Sample
from model.preprocessing.tensor import Preprocessing, normalise
from model.train.augmentation import Augmentation
from model.train.losses import pack_targets

MAXIMUM_WEIGHT = 10.0
"""Largest loss weight, so that a single rare positive does not dominate a batch."""


@dataclass(frozen=True, eq=False)
class ImageCache:
    """Resampled images of one part of the split, with targets.

    Attributes
    ----------
    resized
        uint16 [all, size, size], 65535 for 1.0: images of all parts.
    rows
        [n]: the rows of `resized` that are of this part.
    targets
        float32 [n, labels]: 1, 0 or nan (unknown).
    domains
        Domain of each image, n names.
    """

    resized: NDArray[np.uint16]
    rows: NDArray[np.intp]
    targets: NDArray[np.float32]
    domains: tuple[str, ...]

    def images(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return images of the part by index, float32 [n, size, size] in [0, 1]."""
        images: NDArray[np.float32] = np.divide(self.resized[self.rows[indices]], 65535, dtype=np.float32)
        return images


def cached(inspection: Inspection, samples: Sequence[Sample], labels: Sequence[str]) -> ImageCache:
    """Return the images of a part with their targets for these labels."""
    targets = np.array([[sample.target(label) for label in labels] for sample in samples], np.float32)
    domains = tuple(sample.domain for sample in samples)
    return ImageCache(
        inspection.resized, inspection.rows_of(samples), targets.reshape(len(samples), len(labels)), domains
    )


def flat_weights(cache: ImageCache) -> NDArray[np.float32]:
    """Return loss weights [n, labels]: equal for all known labels of an image, with a sum of 1 per image."""
    weights = np.isfinite(cache.targets).astype(np.float32)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1)


def class_weights(cache: ImageCache, balanced: bool) -> NDArray[np.float32]:
    """Return loss weights [n, classes] of exclusive classes; balanced, every class has the same total weight."""
    known = np.isfinite(cache.targets).all(axis=1)
    weights = np.zeros_like(cache.targets)
    weights[known] = 1.0
    if balanced and known.any():
        counts = np.maximum(cache.targets[known].sum(axis=0), 1)
        weights[known] = np.minimum(known.sum() / (len(counts) * counts), MAXIMUM_WEIGHT)
    return weights


def cell_weights(cache: ImageCache) -> NDArray[np.float32]:
    """Return loss weights [n, labels] that balance positives and negatives within each (domain, label).

    A label with only one value in a domain has weight 0 there: the network would learn the domain instead of the
    finding. The weights are divided by the number of known labels of the image: otherwise the domain with the most
    labels would dominate the loss.
    """
    weights = np.zeros_like(cache.targets)
    domains = np.array(cache.domains)
    for domain in sorted(set(cache.domains)):
        for label in range(cache.targets.shape[1]):
            cell = (domains == domain) & np.isfinite(cache.targets[:, label])
            positive, negative = cell & (cache.targets[:, label] == 1), cell & (cache.targets[:, label] == 0)
            if positive.any() and negative.any():
                for of_class in (positive, negative):
                    weights[of_class, label] = min(cell.sum() / (2 * of_class.sum()), MAXIMUM_WEIGHT)
    counted = (weights > 0).sum(axis=1, keepdims=True)
    return weights / np.maximum(counted, 1).astype(np.float32)


def domain_shares(domains: Sequence[str], smallest: float = 1 / 3) -> dict[str, float]:
    """Return each domain's share of an epoch: its share of the images, but at least `smallest`."""
    names, counts = np.unique(np.array(domains), return_counts=True)
    shares = counts / counts.sum()
    floor = min(smallest, 1 / len(names))
    shares = np.maximum(shares, floor)
    large = shares > floor
    if large.any():
        shares[large] *= (1 - floor * (~large).sum()) / shares[large].sum()
    return {str(name): float(share) for name, share in zip(names, shares, strict=True)}


class EpochSampler:
    """Draws the images of each epoch: each domain by its share, and within it without replacement until all were drawn.

    Parameters
    ----------
    domains
        Domain of each image.
    images_an_epoch
        Images to draw, of all domains together.
    random
        Source of the draws.
    smallest
        Least share of a domain.
    """

    def __init__(
        self, domains: Sequence[str], images_an_epoch: int, random: np.random.Generator, smallest: float = 1 / 3
    ) -> None:
        self._random = random
        self._members = {name: np.flatnonzero(np.array(domains) == name) for name in sorted(set(domains))}
        shares = domain_shares(domains, smallest)
        self._counts = {name: max(1, round(images_an_epoch * shares[name])) for name in self._members}
        self._queues = {name: np.empty(0, np.intp) for name in self._members}

    @property
    def images(self) -> int:
        """Images of an epoch; may differ from `images_an_epoch`, since each domain's number is rounded."""
        return sum(self._counts.values())

    def epoch(self) -> NDArray[np.intp]:
        """Return the shuffled indices of the next epoch's images."""
        drawn = []
        for name, count in self._counts.items():
            while len(self._queues[name]) < count:
                self._queues[name] = np.concatenate([self._queues[name], self._random.permutation(self._members[name])])
            drawn.append(self._queues[name][:count])
            self._queues[name] = self._queues[name][count:]
        return self._random.permutation(np.concatenate(drawn))


def training_batches(
    cache: ImageCache,
    weights: NDArray[np.float32],
    order: NDArray[np.intp],
    spec: Preprocessing,
    size: int,
    batch: int,
    augmentation: Augmentation,
    seed: Sequence[int],
    mixup: float = 0.0,
    begin: int = 0,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield the batches of an epoch, each prepared in a thread while the previous one is trained on.

    A batch depends on the seed and its number alone, so that a resumed epoch gets the same batches.

    Parameters
    ----------
    cache, weights
        Images and targets of the part, and loss weights [n, labels].
    order
        Indices of the epoch's images, as `EpochSampler` draws them.
    spec, size
        Preprocessing, and rows and columns of the tensors; no larger than the preprocessing's.
    batch
        Images per batch.
    augmentation, seed
        The augmentation, and the seed of its random numbers.
    mixup
        Both parameters of mixup's Beta distribution; 0: no mixup.
    begin
        Number of batches to skip.

    Yields
    ------
    float32 tensors [batch, size, size, channels], and targets packed by `pack_targets`.
    """
    domains = np.array(cache.domains)

    def make(number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        random = np.random.default_rng([*seed, number])
        indices = chunks[number]
        resized = np.stack([augmentation.apply(image, random) for image in cache.images(indices)])
        targets, loss_weights = cache.targets[indices], weights[indices]
        if mixup:
            resized, targets, loss_weights = _mixed_up(resized, targets, loss_weights, domains[indices], mixup, random)
        return normalise(shrink(resized, size), spec), pack_targets(targets, loss_weights)

    chunks = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)] or [order]
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(make, begin) if begin < len(chunks) else None
        for following in range(begin + 1, len(chunks) + 1):
            assert upcoming is not None
            ready = upcoming.result()
            if following < len(chunks):
                upcoming = pool.submit(make, following)
            yield ready


def _mixed_up(
    resized: NDArray[np.float32],
    targets: NDArray[np.float32],
    weights: NDArray[np.float32],
    domains: NDArray[np.str_],
    strength: float,
    random: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Apply mixup (Zhang et al. 2018) within each domain; unknown labels keep the weight 0."""
    other = np.arange(len(resized))
    for name in np.unique(domains):
        rows = np.flatnonzero(domains == name)
        other[rows] = random.permutation(rows)
    drawn = random.beta(strength, strength, len(resized))
    share = np.maximum(drawn, 1 - drawn).astype(np.float32)[:, np.newaxis]
    mixed = share[..., np.newaxis] * resized + (1 - share[..., np.newaxis]) * resized[other]
    own_weights, other_weights = weights * share, weights[other] * (1 - share)
    total = own_weights + other_weights
    sums = np.nan_to_num(targets) * own_weights + np.nan_to_num(targets[other]) * other_weights
    mixed_targets = np.where(total > 0, sums / np.maximum(total, 1e-9), np.nan)
    return mixed.astype(np.float32), mixed_targets.astype(np.float32), total.astype(np.float32)


def shrink(resized: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return images [n, s, s] resampled to a smaller grid [n, size, size], for stages at a lower resolution."""
    import cv2

    if resized.shape[1] == size:
        return resized
    return np.stack([cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA) for square in resized])
