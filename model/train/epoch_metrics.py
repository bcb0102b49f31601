"""Metrics after each epoch, in inference mode, on images without augmentation."""

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
    """Evaluates a network in training on one part, or a fixed subset of it.

    Parameters
    ----------
    cache, weights
        Images and targets of the part, and their loss weights.
    labels
        Names of the outputs.
    spec
        Preprocessing.
    a_domain
        Images of each domain in the subset; None: all.
    batch
        Images per batch.
    seed
        Of the choice of the subset.
    exclusive_classes
        The labels are classes of a softmax.
    """

    def __init__(
        self,
        cache: ImageCache,
        weights: NDArray[np.float32],
        labels: Sequence[str],
        spec: Preprocessing,
        a_domain: int | None,
        batch: int,
        seed: int,
        exclusive_classes: bool = False,
    ) -> None:
        self._cache, self._labels, self._spec, self._batch = cache, labels, spec, batch
        self._subset = _subset(cache, a_domain, seed)
        self._weights, self._exclusive = weights[self._subset], exclusive_classes

    def evaluate(
        self, network: KerasModel, size: int, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[float, float, float, str]:
        """Return mean loss, mean AUROC, mean accuracy, and as text the AUROC of each (domain, label).

        AUROC and accuracy are means over labels, then over domains; nan where there is none.
        """
        from keras import ops

        logits = self._logits(network, size)
        targets, domains = self._cache.targets[self._subset], np.array(self._cache.domains)[self._subset]
        packed = pack_targets(targets, self._weights)
        losses: NDArray[np.float32] = np.asarray(ops.convert_to_numpy(loss(packed, logits)), np.float32)
        scores = _class_logits(logits) if self._exclusive else logits
        areas: list[float] = []
        accuracies: list[float] = []
        texts: list[str] = []
        for domain in sorted(set(self._cache.domains)):
            cell = domains == domain
            of_labels = [auroc(targets[cell, i], scores[cell, i]) for i in range(len(self._labels))]
            known = {label: a for label, a in zip(self._labels, of_labels, strict=True) if math.isfinite(a)}
            texts += [f"{domain}/{label}={area:.3f}" for label, area in known.items()]
            if known:
                areas.append(float(np.mean(list(known.values()))))
            accuracies.append(self._accuracy(targets[cell], logits[cell]))
        return float(losses.mean()), _mean(areas), _mean(accuracies), " ".join(texts)

    def _accuracy(self, targets: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
        if self._exclusive:
            known = np.isfinite(targets).all(axis=1)
            return _mean(list(targets[known].argmax(axis=1) == logits[known].argmax(axis=1)))
        known = np.isfinite(targets)
        correct = (logits > 0) == (targets > 0.5)
        return _mean([_mean(list(correct[known[:, i], i])) for i in range(targets.shape[1]) if known[:, i].any()])

    def _logits(self, network: KerasModel, size: int) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(self._subset), self._batch):
            chunk = self._cache.images(self._subset[start : start + self._batch])
            # padded to a full batch, since another shape would be compiled anew
            padded = np.concatenate([chunk, np.zeros((self._batch - len(chunk), *chunk.shape[1:]), np.float32)])
            tensors = normalise(shrink(padded, size), self._spec)
            rows.append(np.asarray(network.predict_on_batch(tensors), np.float32)[: len(chunk)])
        return np.concatenate(rows) if rows else np.zeros((0, len(self._labels)), np.float32)


def _class_logits(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logit of each class's softmax probability."""
    scores = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(scores)
    others = np.maximum(exponentials.sum(axis=1, keepdims=True) - exponentials, 1e-12)
    result: NDArray[np.float32] = (scores - np.log(others)).astype(np.float32)
    return result


def _mean(values: Sequence[float]) -> float:
    finite = [float(value) for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _subset(cache: ImageCache, a_domain: int | None, seed: int) -> NDArray[np.intp]:
    """Return the sorted indices of at most `a_domain` random images of each domain; None: of all."""
    random, domains = np.random.default_rng(seed), np.array(cache.domains)
    drawn = [random.permutation(np.flatnonzero(domains == name))[:a_domain] for name in sorted(set(cache.domains))]
    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.intp)
