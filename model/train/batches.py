"""Batches for training: images held small in memory, domains drawn in fixed shares, cells weighted even."""

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
"""A cell with hardly any positives must not decide a whole batch."""


@dataclass(frozen=True, eq=False)
class ImageCache:
    """Resampled images of a part, with targets float32 [n, labels] (nan: unknown).

    Attributes
    ----------
    resized
        uint16 [more, size, size], 65535 for 1.0, of which `rows` are the part's.
    """

    resized: NDArray[np.uint16]
    rows: NDArray[np.intp]
    targets: NDArray[np.float32]
    domains: tuple[str, ...]

    def images(self, chosen: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the chosen images of the part, float32 [n, size, size] in [0, 1]."""
        images: NDArray[np.float32] = np.divide(self.resized[self.rows[chosen]], 65535, dtype=np.float32)
        return images


def cached(inspection: Inspection, samples: Sequence[Sample], labels: Sequence[str]) -> ImageCache:
    """Return the inspected images of a part with their targets."""
    targets = np.array([[sample.target(label) for label in labels] for sample in samples], np.float32)
    domains = tuple(sample.domain for sample in samples)
    return ImageCache(inspection.resized, inspection.of(samples), targets.reshape(len(samples), len(labels)), domains)


def flat_weights(cache: ImageCache) -> NDArray[np.float32]:
    """Return weights [n, labels] with which every known label weighs the same, and every image 1 in all."""
    weights = np.isfinite(cache.targets).astype(np.float32)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1)


def class_weights(cache: ImageCache, even: bool) -> NDArray[np.float32]:
    """Return weights [n, classes] of classes that exclude one another: even, each class weighs the same in all."""
    known = np.isfinite(cache.targets).all(axis=1)
    weights = np.zeros_like(cache.targets)
    weights[known] = 1.0
    if even and known.any():
        counts = np.maximum(cache.targets[known].sum(axis=0), 1)
        weights[known] = np.minimum(known.sum() / (len(counts) * counts), MAXIMUM_WEIGHT)
    return weights


def cell_weights(cache: ImageCache) -> NDArray[np.float32]:
    """Return weights [n, labels] with which positives and negatives weigh the same in each (domain, label).

    A label that a domain knows only one value of would teach the domain instead of the finding: it weighs nothing.
    Every image weighs about 1, however many labels are known of it: else the domain with the most labels would drown
    the others.
    """
    weights = np.zeros_like(cache.targets)
    domains = np.array(cache.domains)
    for domain in sorted(set(cache.domains)):
        for label in range(cache.targets.shape[1]):
            cell = (domains == domain) & np.isfinite(cache.targets[:, label])
            positive, negative = cell & (cache.targets[:, label] == 1), cell & (cache.targets[:, label] == 0)
            if positive.any() and negative.any():
                for side in (positive, negative):
                    weights[side, label] = min(cell.sum() / (2 * side.sum()), MAXIMUM_WEIGHT)
    counted = (weights > 0).sum(axis=1, keepdims=True)
    return weights / np.maximum(counted, 1).astype(np.float32)


def domain_shares(domains: Sequence[str], smallest: float = 1 / 3) -> dict[str, float]:
    """Return the share of an epoch that each domain gets: its share of the images, raised to `smallest` at least."""
    names, counts = np.unique(np.array(domains), return_counts=True)
    shares = counts / counts.sum()
    floor = min(smallest, 1 / len(names))
    shares = np.maximum(shares, floor)
    large = shares > floor
    if large.any():
        shares[large] *= (1 - floor * (~large).sum()) / shares[large].sum()
    return {str(name): float(share) for name, share in zip(names, shares, strict=True)}


class EpochSampler:
    """Draws the images of each epoch: every domain in its share, each image of it before any comes again."""

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
        """Images of an epoch: each domain's share is rounded, so that they are not always as many as were asked for."""
        return sum(self._counts.values())

    def epoch(self) -> NDArray[np.intp]:
        """Return the indices of the next epoch's images, mixed."""
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
    """Yield (tensors [batch, size, size, channels], packed targets) of an epoch, each made while one is learnt.

    A batch depends on the seed and its own number alone, so that an epoch can begin at any: `begin` leaves out those
    before.
    """
    domains = np.array(cache.domains)

    def make(number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        random = np.random.default_rng([*seed, number])
        indices = chunks[number]
        resized = np.stack([augmentation.apply(image, random) for image in cache.images(indices)])
        targets, weighing = cache.targets[indices], weights[indices]
        if mixup:
            resized, targets, weighing = _blended(resized, targets, weighing, domains[indices], mixup, random)
        return normalise(shrink(resized, size), spec), pack_targets(targets, weighing)

    chunks = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)] or [order]
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(make, begin) if begin < len(chunks) else None
        for following in range(begin + 1, len(chunks) + 1):
            assert upcoming is not None
            ready = upcoming.result()
            if following < len(chunks):
                upcoming = pool.submit(make, following)
            yield ready


def _blended(
    resized: NDArray[np.float32],
    targets: NDArray[np.float32],
    weights: NDArray[np.float32],
    domains: NDArray[np.str_],
    strength: float,
    random: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Blend each image with another of its domain (mixup, Zhang et al. 2018); unknown labels weigh nothing still."""
    other = np.arange(len(resized))
    for name in np.unique(domains):
        rows = np.flatnonzero(domains == name)
        other[rows] = random.permutation(rows)
    drawn = random.beta(strength, strength, len(resized))
    share = np.maximum(drawn, 1 - drawn).astype(np.float32)[:, np.newaxis]
    mixed = share[..., np.newaxis] * resized + (1 - share[..., np.newaxis]) * resized[other]
    mine, theirs = weights * share, weights[other] * (1 - share)
    both = mine + theirs
    sums = np.nan_to_num(targets) * mine + np.nan_to_num(targets[other]) * theirs
    blended = np.where(both > 0, sums / np.maximum(both, 1e-9), np.nan)
    return mixed.astype(np.float32), blended.astype(np.float32), both.astype(np.float32)


def shrink(resized: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return images [n, s, s] on a smaller grid [n, size, size], for the early stages of training."""
    import cv2

    if resized.shape[1] == size:
        return resized
    return np.stack([cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA) for square in resized])
