"""The training loop: batches in, checkpoints and a history out."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.augmentation import Augmentation
from model.batches import EpochSampler, ImageCache, cache_images, cell_weights, shrink, training_batches
from model.curves import EpochRecord, write_history
from model.dataset import DatasetInvalid, Sample
from model.figures import auroc
from model.network import KerasModel, build_network, masked_loss, pack_targets
from model.preprocessing import Preprocessing, normalise

WEIGHTS_FILE = "best.weights.h5"
LAST_WEIGHTS_FILE = "last.weights.h5"
HISTORY_FILE = "history.csv"


@dataclass(frozen=True)
class FittingPlan:
    """How a network is fitted.

    Attributes
    ----------
    stages
        Sizes in pixels and the share of the training each has, in order; the last is the tensor's own size. Small
        images first teach the same for a third of the time.
    minutes
        Wall-clock limit: the learning rate's cosine then ends with whichever comes first, the epochs or the minutes.
        The result then depends on the machine's speed, which the card says.
    monitored
        Images a domain that are measured after each epoch, of the training and of the validation part.
    """

    labels: tuple[str, ...]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int = 12
    images_an_epoch: int | None = None
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    stages: tuple[tuple[int, float], ...] = ((128, 0.45), (224, 0.55))
    minutes: float | None = None
    precision: str = "mixed_bfloat16"
    threads: int | None = None
    seed: int = 2026
    monitored: int = 160

    def __post_init__(self) -> None:
        if not self.labels:
            raise DatasetInvalid("no label to train on: every one is missing or has no positive image")
        if self.epochs < 1 or self.batch < 2:
            raise ValueError(f"epochs is {self.epochs} and batch {self.batch}; at least 1 and 2 are needed")
        if not self.stages or self.stages[-1][0] != self.preprocessing.size:
            raise ValueError(f"stages is {self.stages}; the last must have the tensor's size {self.preprocessing.size}")


@dataclass(frozen=True)
class TrainingProgress:
    """What a progress bar shows: the phase, how far it is, and the last finished epoch."""

    phase: str
    done: int
    total: int
    last_epoch: EpochRecord | None = None


def fit(
    plan: FittingPlan,
    parts: Mapping[str, Sequence[Sample]],
    folder: Path,
    read_image: Callable[[Path], NDArray[np.float32]],
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
) -> list[EpochRecord]:
    """Train on the training part; leave the best and the last weights and the history in `folder`.

    The best epoch is the one with the highest AUROC on the validation part, averaged over labels and then domains, of
    those at the tensor's own size. Everything is written after each epoch, so that a stopped run keeps its best.
    """
    import keras

    keras.utils.set_random_seed(plan.seed)
    _set_threads(plan.threads)
    samples = {part: list(parts[part]) for part in ("training", "validation")}
    total, done = sum(map(len, samples.values())), 0

    def on_image() -> None:
        nonlocal done
        done += 1
        on_progress(TrainingProgress("reading images", done, total))

    caches = {
        part: cache_images(members, plan.labels, plan.preprocessing, read_image, on_image)
        for part, members in samples.items()
    }
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(plan.precision)
    try:
        network = build_network(len(plan.labels), None, plan.preprocessing.channels)
        optimizer = keras.optimizers.AdamW(plan.learning_rate, weight_decay=plan.weight_decay, clipnorm=5.0)
        network.compile(optimizer=optimizer, loss=masked_loss, jit_compile=False)
        return _Fit(plan, network, caches, folder, on_progress).run()
    finally:
        keras.config.set_dtype_policy(policy)


class _Fit:
    """One training run."""

    def __init__(
        self,
        plan: FittingPlan,
        network: KerasModel,
        caches: Mapping[str, ImageCache],
        folder: Path,
        on_progress: Callable[[TrainingProgress], None],
    ) -> None:
        self._plan, self._network, self._folder, self._on_progress = plan, network, folder, on_progress
        self._training = caches["training"]
        self._weights = {part: cell_weights(cache) for part, cache in caches.items()}
        self._monitored = {part: _pick(cache, plan.monitored, plan.seed) for part, cache in caches.items()}
        self._caches = caches
        self._random = np.random.default_rng(plan.seed)
        images = plan.images_an_epoch or len(self._training.images)
        self._sampler = EpochSampler(self._training.domains, images, self._random)
        self._steps_an_epoch = max(1, images // plan.batch)
        self._steps = 0
        self._began = time.monotonic()

    def run(self) -> list[EpochRecord]:
        history: list[EpochRecord] = []
        best = -math.inf
        while len(history) < self._plan.epochs and self._progress() < 1.0:
            record = self._epoch(len(history) + 1, history)
            history.append(record)
            write_history(history, self._folder / HISTORY_FILE)
            self._network.save_weights(self._folder / LAST_WEIGHTS_FILE)
            score = record.validation_auroc if math.isfinite(record.validation_auroc) else -record.validation_loss
            if record.size == self._plan.preprocessing.size and score > best:
                best = score
                self._network.save_weights(self._folder / WEIGHTS_FILE)
        if not (self._folder / WEIGHTS_FILE).exists():
            self._network.save_weights(self._folder / WEIGHTS_FILE)
        return history

    def _epoch(self, number: int, history: Sequence[EpochRecord]) -> EpochRecord:
        began, size, losses = time.monotonic(), self._size(), []
        rate = self._plan.learning_rate
        order = self._sampler.epoch()
        for tensors, packed in training_batches(
            self._training,
            self._weights["training"],
            order,
            self._plan.preprocessing,
            size,
            self._plan.batch,
            self._plan.augmentation,
            self._random,
        ):
            rate = self._rate()
            self._network.optimizer.learning_rate.assign(rate)
            losses.append(float(self._network.train_on_batch(tensors, packed)))
            self._steps += 1
            last = history[-1] if history else None
            total = self._steps_an_epoch * self._plan.epochs
            self._on_progress(TrainingProgress(f"epoch {number}", min(self._steps, total), total, last))
        training, validation = self._measure("training", size), self._measure("validation", size)
        return EpochRecord(
            epoch=number,
            size=size,
            images=len(order),
            seconds=time.monotonic() - began,
            learning_rate=rate,
            running_loss=float(np.mean(losses)),
            training_loss=training[0],
            validation_loss=validation[0],
            training_auroc=training[1],
            validation_auroc=validation[1],
            validation_by_cell=validation[2],
        )

    def _progress(self) -> float:
        by_steps = self._steps / (self._steps_an_epoch * self._plan.epochs)
        if self._plan.minutes is None:
            return by_steps
        return max(by_steps, (time.monotonic() - self._began) / (60 * self._plan.minutes))

    def _rate(self) -> float:
        """Cosine to a hundredth of the rate, after 60 steps of warming up."""
        progress = min(1.0, self._progress())
        cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2
        return self._plan.learning_rate * cosine * min(1.0, (self._steps + 1) / 60)

    def _size(self) -> int:
        progress, end = self._progress(), 0.0
        for size, share in self._plan.stages:
            end += share
            if progress < end:
                return size
        return self._plan.stages[-1][0]

    def _measure(self, part: str, size: int) -> tuple[float, float, str]:
        """Return loss, mean AUROC and the AUROC a (domain, label) of a part's monitored images."""
        cache, chosen = self._caches[part], self._monitored[part]
        logits = self._logits(cache.images[chosen], size)
        targets, weights = cache.targets[chosen], self._weights[part][chosen]
        loss = np.asarray(masked_loss(pack_targets(targets, weights), logits), np.float32)
        domains = np.array(cache.domains)[chosen]
        means, texts = [], []
        for domain in sorted(set(cache.domains)):
            cell = domains == domain
            areas = {
                label: auroc(targets[cell, index], logits[cell, index]) for index, label in enumerate(self._plan.labels)
            }
            known = {label: area for label, area in areas.items() if math.isfinite(area)}
            texts += [f"{domain}/{label}={area:.3f}" for label, area in known.items()]
            if known:
                means.append(float(np.mean(list(known.values()))))
        return float(loss.mean()), float(np.mean(means)) if means else math.nan, " ".join(texts)

    def _logits(self, images: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
        batch = self._plan.batch
        rows = []
        for start in range(0, len(images), batch):
            chunk = images[start : start + batch].astype(np.float32) / 255
            padded = np.concatenate([chunk, np.zeros((batch - len(chunk), *chunk.shape[1:]), np.float32)])
            tensors = normalise(shrink(padded, size), self._plan.preprocessing)
            rows.append(np.asarray(self._network.predict_on_batch(tensors), np.float32)[: len(chunk)])
        return np.concatenate(rows)


def _pick(cache: ImageCache, a_domain: int, seed: int) -> NDArray[np.intp]:
    """Choose the same images of each domain every time."""
    random, domains = np.random.default_rng(seed), np.array(cache.domains)
    chosen = [random.permutation(np.flatnonzero(domains == name))[:a_domain] for name in sorted(set(cache.domains))]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.intp)


def _set_threads(threads: int | None) -> None:
    import keras

    if threads is not None and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        except RuntimeError:  # the process has computed already, and its threads stand
            return
