"""The training loop: batches in, checkpoints and a history out."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from model.dataset.samples import DatasetInvalid
from model.network.keras_backend import seed_backend, seed_step, start_backend
from model.network.keras_types import KerasModel, Tensor
from model.preprocessing.tensor import Preprocessing
from model.train.architecture import ARCHITECTURES, Architecture, build_network
from model.train.augmentation import Augmentation
from model.train.batches import EpochSampler, ImageCache, cell_weights, class_weights, flat_weights, training_batches
from model.train.checkpoint import RunState, read_state, restore_variables, save_checkpoint
from model.train.epoch_metrics import Monitor
from model.train.history import EpochRecord, write_history
from model.train.initial_weights import check_block, load_start, set_learning
from model.train.losses import masked_loss, masked_softmax_loss
from model.train.plan_checks import check_above_zero, check_allowed, check_at_least
from model.train.schedule import SCHEDULES, Schedule, Stage, rate_factor, stage_at, stalled, within

WEIGHTS_FILE = "best.weights.h5"
LAST_WEIGHTS_FILE = "last.weights.h5"
HISTORY_FILE = "history.csv"
AVERAGED_STEPS = 10
"""Weights are averaged each so many steps."""

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "mixed_bfloat16", "mixed_float16")


class TrainingDiverged(RuntimeError):
    """The loss is no number any more, and no step can mend it; the message says when, and what may help."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class FittingOptions:
    """How a network is fitted, whatever its labels; `FittingPlan` and a whole training's plan both have these.

    Attributes
    ----------
    preprocessing
        Of the tensors.
    epochs
        At most so many.
    images_an_epoch
        None: as many as the training part has.
    batch
        Images a step.
    learning_rate
        At its highest.
    minutes
        Wall-clock limit: the schedule then ends with whichever comes first, the epochs or the minutes. The result then
        depends on the machine's speed, which the card says.
    smallest_domain
        Share of an epoch that the smallest domain gets at least.
    excluding
        The labels exclude one another: a softmax over them.
    focus
        Gamma of the focal loss; 0: cross-entropy.
    weighted
        Positives and negatives (or classes) weigh the same.
    patience
        Epochs at the last size without a better validation part after which training ends; None: never.
    averaging
        Share of itself that the average of the weights keeps a step; 0: the weights are taken as they are.
    start
        A bundle's folder or a weights file of keras.applications; None: random weights.
    checkpoint_seconds
        Between checkpoints within an epoch; there is one after each epoch in any case.
    """

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int = 12
    images_an_epoch: int | None = None
    smallest_domain: float = 1 / 3
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: Schedule = "cosine"
    patience: int | None = None
    averaging: float = 0.0
    minutes: float | None = None
    precision: Precision = "float32"
    threads: int | None = None
    seed: int = 2026
    architecture: Architecture = "densenet121"
    excluding: bool = False
    focus: float = 0.0
    weighted: bool = True
    start: Path | None = None
    checkpoint_seconds: float = 300.0


@dataclass(frozen=True)
class FittingPlan(FittingOptions):
    """How a network is fitted to labels.

    Attributes
    ----------
    labels
        In the order of the logits.
    stages
        In order; the last has the tensor's own size.
    monitored
        Images a domain that are measured after each epoch, of the training and of the validation part.
    """

    labels: tuple[str, ...]
    stages: tuple[Stage, ...] = (Stage(128, 0.45), Stage(224, 0.55))
    monitored: int = 160

    def __post_init__(self) -> None:
        if not self.labels:
            raise DatasetInvalid("no label to train on: every one is missing or has no positive image")
        check_at_least(self, {"epochs": 1, "batch": 2, "seed": 0, "monitored": 1})
        if self.seed >= 2**32:
            raise ValueError(f"seed is {self.seed}; below {2**32} is needed")
        check_above_zero(self, ("learning_rate", "minutes"))
        if not self.stages or self.stages[-1].size != self.preprocessing.size:
            raise ValueError(f"stages is {self.stages}; the last must have the tensor's size {self.preprocessing.size}")
        check_allowed(self, {"schedule": SCHEDULES, "precision": PRECISIONS, "architecture": ARCHITECTURES})
        for stage in self.stages:
            check_block(self.architecture, stage.trained)

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two runs the same run; neither threads nor the interval of checkpoints do."""
        return {k: v for k, v in asdict(self).items() if k not in ("threads", "checkpoint_seconds", "start")}

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of packed targets and logits."""
        return partial(masked_softmax_loss if self.excluding else masked_loss, focus=self.focus)

    def weights(self, cache: ImageCache) -> NDArray[np.float32]:
        """Return what each cell of a part weighs."""
        if self.excluding:
            return class_weights(cache, self.weighted)
        return cell_weights(cache) if self.weighted else flat_weights(cache)


@dataclass(frozen=True)
class TrainingProgress:
    """What a progress bar shows: the phase, how far it is, and the last finished epoch."""

    phase: str
    done: int
    total: int
    last_epoch: EpochRecord | None = None


def fit(
    plan: FittingPlan,
    caches: Mapping[str, ImageCache],
    folder: Path,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
) -> list[EpochRecord]:
    """Train on the training part; leave the best and the last weights and the history in `folder`.

    The best epoch is the one with the highest AUROC on the validation part, averaged over labels and then domains, of
    those at the tensor's own size. A checkpoint in `folder` is gone on from: the weights are those that a run without
    an interruption gives.
    """
    start_backend(plan.threads, "training")
    import keras

    seed_backend(plan.seed)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(plan.precision)
    try:
        network = build_network(len(plan.labels), None, plan.preprocessing.channels, architecture=plan.architecture)
        load_start(network, plan.start, plan.labels)
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
        self._weights = {part: plan.weights(cache) for part, cache in caches.items()}
        self._monitors = {
            part: Monitor(
                cache,
                self._weights[part],
                plan.labels,
                plan.preprocessing,
                plan.monitored,
                plan.batch,
                plan.seed,
                plan.excluding,
            )
            for part, cache in caches.items()
        }
        images = plan.images_an_epoch or len(self._training.rows)
        random = np.random.default_rng(plan.seed)
        self._sampler = EpochSampler(self._training.domains, images, random, plan.smallest_domain)
        self._steps_an_epoch = max(1, self._sampler.images // plan.batch)
        self._average: list[NDArray[Any]] | None = None
        self._compiled: tuple[str, float] | None = None
        self._state = RunState()
        self._resumed = time.monotonic()
        self._saved = time.monotonic()

    def run(self) -> list[EpochRecord]:
        state = self._restored()
        while not state.finished:
            if state.step == 0:
                self._begin_epoch()
            record = self._epoch()
            state.history.append(record)
            write_history(state.history, self._folder / HISTORY_FILE)
            self._keep(record)
            state.epoch, state.step, state.losses = state.epoch + 1, 0, []
            state.finished = self._is_done()
            self._save()
        if not (self._folder / WEIGHTS_FILE).exists():
            self._network.save_weights(self._folder / WEIGHTS_FILE)
        return state.history

    def _restored(self) -> RunState:
        found = read_state(self._folder)
        if found is not None:
            self._state = found
            for _ in range(found.epoch):
                self._sampler.epoch()
            if found.stage >= 0:
                self._compile(self._plan.stages[found.stage])
                self._average = restore_variables(self._folder, self._network)
        return self._state

    def _begin_epoch(self) -> None:
        state = self._state
        state.stage = stage_at(self._plan.stages, self._progress())
        if self._compile(self._plan.stages[state.stage]):
            state.stretch_began = state.steps

    def _compile(self, stage: Stage) -> bool:
        """Make the stage's layers learn, with a fresh optimizer; return whether anything changed."""
        import keras

        if self._compiled == (stage.trained, stage.rate):
            return False
        self._compiled = (stage.trained, stage.rate)
        set_learning(self._network, stage.trained)
        plan = self._plan
        optimizer = keras.optimizers.AdamW(plan.learning_rate, weight_decay=plan.weight_decay, clipnorm=5.0)
        compiled = keras.backend.backend() == "jax"  # which is slow without; TensorFlow compiles for minutes
        self._network.compile(optimizer=optimizer, loss=plan.loss, jit_compile=compiled)
        return True

    def _epoch(self) -> EpochRecord:
        state, plan = self._state, self._plan
        began, stage = time.monotonic(), plan.stages[state.stage]
        order, rate = self._sampler.epoch(), plan.learning_rate
        batches = training_batches(
            self._training,
            self._weights["training"],
            order,
            plan.preprocessing,
            stage.size,
            plan.batch,
            plan.augmentation,
            (plan.seed, state.epoch),
            stage.mixup,
            begin=state.step,
        )
        for tensors, packed in batches:
            rate = self._rate()
            state.losses.append(self._step(tensors, packed, rate))
            state.step, state.steps = state.step + 1, state.steps + 1
            if plan.averaging and state.steps % AVERAGED_STEPS == 0:
                self._add_to_average()
            total = self._steps_an_epoch * plan.epochs
            last = state.history[-1] if state.history else None
            self._on_progress(TrainingProgress("training", min(state.steps, total), total, last))
            if time.monotonic() - self._saved > plan.checkpoint_seconds:
                self._save()
        live = self._swapped()
        training, validation = (
            self._monitors[part].measure(self._network, stage.size, plan.loss) for part in ("training", "validation")
        )
        self._swap_back(live)
        return EpochRecord(
            epoch=state.epoch + 1,
            size=stage.size,
            images=len(order),
            seconds=time.monotonic() - began,
            learning_rate=rate,
            running_loss=float(np.mean(state.losses)),
            training_loss=training[0],
            validation_loss=validation[0],
            training_auroc=training[1],
            validation_auroc=validation[1],
            validation_by_cell=validation[3],
            training_accuracy=training[2],
            validation_accuracy=validation[2],
            trained=stage.trained,
        )

    def _step(self, tensors: NDArray[np.float32], packed: NDArray[np.float32], rate: float) -> float:
        network = self._network
        network.optimizer.learning_rate.assign(rate)
        network.reset_metrics()  # else Keras answers the mean loss of all steps so far
        # what is left out depends on the step alone, so that a resumed run leaves out the same
        network.get_layer("dropout").seed_generator.state.assign([self._plan.seed, self._state.steps])
        seed_step(self._plan.seed, self._state.steps)
        loss = float(network.train_on_batch(tensors, packed))
        if not math.isfinite(loss):
            state = self._state
            raise TrainingDiverged(
                f"the loss is {loss} in epoch {state.epoch + 1}, step {state.step + 1}: a lower learning rate than "
                f"{self._plan.learning_rate:g} or the precision float32 (now {self._plan.precision}) may help; "
                f"remove {self._folder} to begin anew with them"
            )
        return loss

    def _keep(self, record: EpochRecord) -> None:
        """Save the weights, and as the best where they are."""
        live = self._swapped()
        self._network.save_weights(self._folder / LAST_WEIGHTS_FILE)
        score = record.score
        if record.size == self._plan.preprocessing.size and score > (
            -math.inf if self._state.best is None else self._state.best
        ):
            self._state.best = score
            self._network.save_weights(self._folder / WEIGHTS_FILE)
        self._swap_back(live)

    def _add_to_average(self) -> None:
        self._state.averaged += 1
        count, now = self._state.averaged, self._network.get_weights()
        keep = min(self._plan.averaging**AVERAGED_STEPS, count / (count + 3))
        if self._average is None:
            self._average = now
        else:
            self._average = [keep * old + (1 - keep) * new for old, new in zip(self._average, now, strict=True)]

    def _swapped(self) -> list[NDArray[Any]] | None:
        """Give the network its average weights; return its own."""
        if self._average is None:
            return None
        live: list[NDArray[Any]] = self._network.get_weights()
        self._network.set_weights(self._average)
        return live

    def _swap_back(self, live: list[NDArray[Any]] | None) -> None:
        if live is not None:
            self._network.set_weights(live)

    def _save(self) -> None:
        self._state.elapsed = self._elapsed()
        self._resumed = time.monotonic()
        save_checkpoint(self._folder, self._state, self._network, self._average)
        self._saved = time.monotonic()

    def _elapsed(self) -> float:
        return self._state.elapsed + time.monotonic() - self._resumed

    def _progress(self) -> float:
        by_steps = self._state.steps / (self._steps_an_epoch * self._plan.epochs)
        if self._plan.minutes is None:
            return min(1.0, by_steps)
        return min(1.0, max(by_steps, self._elapsed() / (60 * self._plan.minutes)))

    def _is_done(self) -> bool:
        state, plan = self._state, self._plan
        if state.epoch >= plan.epochs or self._progress() >= 1.0:
            return True
        last = [r.score for r in state.history if r.size == plan.preprocessing.size]
        return plan.patience is not None and stalled(last) >= plan.patience

    def _rate(self) -> float:
        plan, state = self._plan, self._state
        stage = plan.stages[state.stage]
        scores = [record.score for record in state.history if record.trained == stage.trained]
        done = within(plan.stages, state.stage, self._progress())
        factor = rate_factor(plan.schedule, done, state.steps - state.stretch_began, scores)
        return plan.learning_rate * stage.rate * factor
