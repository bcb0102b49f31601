"""How well a network in training answers: fixed, unchanged images of both parts, in reading mode."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from model.evaluate.metrics import auroc
from model.network.keras_types import KerasModel, Tensor
from model.preprocessing.tensor import Preprocessing, normalise
from model.train.batches import ImageCache, shrink
from model.train.losses import pack_targets


class Monitor:
    """The same images of a part every time, so many of each domain."""

    def __init__(
        self,
        cache: ImageCache,
        weights: NDArray[np.float32],
        labels: Sequence[str],
        spec: Preprocessing,
        a_domain: int,
        batch: int,
        seed: int,
        excluding: bool = False,
    ) -> None:
        self._cache, self._labels, self._spec, self._batch = cache, labels, spec, batch
        self._chosen = _pick(cache, a_domain, seed)
        self._weights, self._excluding = weights[self._chosen], excluding

    def measure(
        self, network: KerasModel, size: int, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[float, float, float, str]:
        """Return loss, mean AUROC, mean accuracy, and in words the AUROC a (domain, label)."""
        from keras import ops

        logits = self._logits(network, size)
        targets, domains = self._cache.targets[self._chosen], np.array(self._cache.domains)[self._chosen]
        packed = pack_targets(targets, self._weights)
        losses: NDArray[np.float32] = np.asarray(ops.convert_to_numpy(loss(packed, logits)), np.float32)
        scores = _odds(logits) if self._excluding else logits
        areas: list[float] = []
        rights: list[float] = []
        texts: list[str] = []
        for domain in sorted(set(self._cache.domains)):
            cell = domains == domain
            of_labels = [auroc(targets[cell, i], scores[cell, i]) for i in range(len(self._labels))]
            known = {label: a for label, a in zip(self._labels, of_labels, strict=True) if math.isfinite(a)}
            texts += [f"{domain}/{label}={area:.3f}" for label, area in known.items()]
            if known:
                areas.append(float(np.mean(list(known.values()))))
            rights.append(self._accuracy(targets[cell], logits[cell]))
        return float(losses.mean()), _mean(areas), _mean(rights), " ".join(texts)

    def _accuracy(self, targets: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
        if self._excluding:
            whole = np.isfinite(targets).all(axis=1)
            return _mean(list(targets[whole].argmax(axis=1) == logits[whole].argmax(axis=1)))
        known = np.isfinite(targets)
        right = (logits > 0) == (targets > 0.5)
        return _mean([_mean(list(right[known[:, i], i])) for i in range(targets.shape[1]) if known[:, i].any()])

    def _logits(self, network: KerasModel, size: int) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(self._chosen), self._batch):
            chunk = self._cache.images(self._chosen[start : start + self._batch])
            padded = np.concatenate([chunk, np.zeros((self._batch - len(chunk), *chunk.shape[1:]), np.float32)])
            tensors = normalise(shrink(padded, size), self._spec)
            rows.append(np.asarray(network.predict_on_batch(tensors), np.float32)[: len(chunk)])
        return np.concatenate(rows) if rows else np.zeros((0, len(self._labels)), np.float32)


def _odds(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logit of each class's softmax probability."""
    scores = logits - logits.max(axis=1, keepdims=True)
    whole = np.exp(scores)
    others = np.maximum(whole.sum(axis=1, keepdims=True) - whole, 1e-12)
    result: NDArray[np.float32] = (scores - np.log(others)).astype(np.float32)
    return result


def _mean(values: Sequence[float]) -> float:
    finite = [float(value) for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _pick(cache: ImageCache, a_domain: int, seed: int) -> NDArray[np.intp]:
    """Choose the same images of each domain every time."""
    random, domains = np.random.default_rng(seed), np.array(cache.domains)
    chosen = [random.permutation(np.flatnonzero(domains == name))[:a_domain] for name in sorted(set(cache.domains))]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.intp)
