"""Batches for training: images held small in memory, domains drawn in fixed shares, cells weighted even."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.augmentation import Augmentation
from model.dataset import Sample
from model.network import pack_targets
from model.preprocessing import Preprocessing, normalise, resample

MAXIMUM_WEIGHT = 10.0
"""A cell with hardly any positives must not decide a whole batch."""


@dataclass(frozen=True, eq=False)
class ImageCache:
    """Resampled images as uint8 [n, size, size], with targets float32 [n, labels] (nan: unknown)."""

    images: NDArray[np.uint8]
    targets: NDArray[np.float32]
    domains: tuple[str, ...]


def cache_images(
    samples: Sequence[Sample],
    labels: Sequence[str],
    spec: Preprocessing,
    read_image: Callable[[Path], NDArray[np.float32]],
    on_image: Callable[[], None] = lambda: None,
) -> ImageCache:
    """Read every sample once and keep what the tensor is made of; 50 kB an image at 224."""
    images = np.empty((len(samples), spec.size, spec.size), np.uint8)
    for index, sample in enumerate(samples):
        images[index] = np.rint(resample(read_image(sample.path), spec)[0] * 255).astype(np.uint8)
        on_image()
    targets = np.array([[sample.target(label) for label in labels] for sample in samples], np.float32)
    return ImageCache(images, targets.reshape(len(samples), len(labels)), tuple(sample.domain for sample in samples))


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

    def __init__(self, domains: Sequence[str], images_an_epoch: int, random: np.random.Generator) -> None:
        self._random = random
        self._members = {name: np.flatnonzero(np.array(domains) == name) for name in sorted(set(domains))}
        shares = domain_shares(domains)
        self._counts = {name: max(1, round(images_an_epoch * shares[name])) for name in self._members}
        self._queues = {name: np.empty(0, np.intp) for name in self._members}

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
    random: np.random.Generator,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield (tensors [batch, size, size, channels], packed targets) of an epoch, each made while one is learnt."""

    def make(indices: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        squares = [augmentation.apply(cache.images[i].astype(np.float32) / 255, random) for i in indices]
        tensors = normalise(shrink(np.stack(squares), size), spec)
        return tensors, pack_targets(cache.targets[indices], weights[indices])

    chunks = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)] or [order]
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, chunks[0])
        for following in [*chunks[1:], None]:
            ready = coming.result()
            if following is not None:
                coming = pool.submit(make, following)
            yield ready


def shrink(squares: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return images [n, s, s] on a smaller grid [n, size, size], for the early stages of training."""
    import cv2

    if squares.shape[1] == size:
        return squares
    return np.stack([cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA) for square in squares])
