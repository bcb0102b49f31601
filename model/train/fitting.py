"""The training loop: trains a network on batches, with checkpoints and a history."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from model.network.keras_backend import seed_backend, seed_step, start_backend
from model.network.keras_types import KerasModel
from model.train.architecture import build_network
from model.train.batches import EpochSampler, ImageCache, training_batches
from model.train.checkpoint import RunState, read_state, restore_variables, save_checkpoint
from model.train.epoch_metrics import Monitor
from model.train.history import EpochRecord, write_history
from model.train.initial_weights import load_start, set_learning
from model.train.plan import FittingPlan
from model.train.run_folder import sync
from model.train.schedule import Stage, rate_factor, stage_at, stalled, within

WEIGHTS_FILE = "best.weights.h5"
LAST_WEIGHTS_FILE = "last.weights.h5"
HISTORY_FILE = "history.csv"
AVERAGED_STEPS = 10
"""Steps between two updates of the averaged weights."""


class TrainingDiverged(RuntimeError):
    """The loss is nan or infinite; the message says in which step, and what may help."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True)
class TrainingProgress:
    """Progress for display: phase, finished and total steps of it, and the record of the last finished epoch."""

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
    """Train a network; write the best weights, the last weights and the history into `folder`.

    The best epoch has the highest validation AUROC, averaged over labels and then domains, among those at the last
    stage's size. A run with a checkpoint in `folder` is resumed, with the same weights as without the interruption.

    Parameters
    ----------
    plan
        The options.
    caches
        The parts ``training`` and ``validation``.
    folder
        Of the run.
    on_progress
        Called after each step.

    Returns
    -------
    A record of each epoch.

    Raises
    ------
    TrainingDiverged
        The loss is nan or infinite.
    BackendUnavailable
        Keras has no backend that can train.
    DatasetInvalid
        The initial weights do not fit.
    """
    start_backend(plan.threads, "training", deterministic=True)
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
                plan.monitored if part == "training" else None,
                plan.batch,
                plan.seed,
                plan.exclusive_classes,
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
            self._save_weights(WEIGHTS_FILE)
        return state.history

    def _restored(self) -> RunState:
        stored = read_state(self._folder)
        if stored is not None:
            self._state = stored
            for _ in range(stored.epoch):  # advance the sampler to the current epoch
                self._sampler.epoch()
            if stored.stage >= 0:
                self._compile(self._plan.stages[stored.stage])
                self._average = restore_variables(self._folder, self._network)
        return self._state

    def _begin_epoch(self) -> None:
        state = self._state
        state.stage = stage_at(self._plan.stages, self._progress())
        if self._compile(self._plan.stages[state.stage]):
            state.warmup_start = state.steps

    def _compile(self, stage: Stage) -> bool:
        """Compile with the stage's trainable layers and a new optimizer; return False where neither changed."""
        import keras

        if self._compiled == (stage.trained, stage.rate):
            return False
        self._compiled = (stage.trained, stage.rate)
        set_learning(self._network, stage.trained)
        plan = self._plan
        optimizer = keras.optimizers.AdamW(plan.learning_rate, weight_decay=plan.weight_decay, clipnorm=5.0)
        jit = keras.backend.backend() == "jax"  # slow without; on TensorFlow XLA would compile for minutes
        self._network.compile(optimizer=optimizer, loss=plan.loss, jit_compile=jit)
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
        live = self._use_average()
        training, validation = (
            self._monitors[part].evaluate(self._network, stage.size, plan.loss) for part in ("training", "validation")
        )
        self._use(live)
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
        network.reset_metrics()  # otherwise train_on_batch returns the mean loss of all steps so far
        # dropout depends on the step alone, so that a resumed run drops the same features
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
        """Save the weights as the last, and as the best where their score is the highest."""
        live = self._use_average()
        self._save_weights(LAST_WEIGHTS_FILE)
        score = record.score
        if record.size == self._plan.preprocessing.size and score > (
            -math.inf if self._state.best is None else self._state.best
        ):
            self._state.best = score
            self._save_weights(WEIGHTS_FILE)
        self._use(live)

    def _save_weights(self, name: str) -> None:
        self._network.save_weights(self._folder / name)
        sync(self._folder / name)

    def _add_to_average(self) -> None:
        self._state.averaged += 1
        count, now = self._state.averaged, self._network.get_weights()
        keep = min(self._plan.averaging**AVERAGED_STEPS, count / (count + 3))
        if self._average is None:
            self._average = now
        else:
            self._average = [keep * old + (1 - keep) * new for old, new in zip(self._average, now, strict=True)]

    def _use_average(self) -> list[NDArray[Any]] | None:
        """Set the averaged weights; return those that were trained, or None where nothing is averaged."""
        if self._average is None:
            return None
        live: list[NDArray[Any]] = self._network.get_weights()
        self._network.set_weights(self._average)
        return live

    def _use(self, live: list[NDArray[Any]] | None) -> None:
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
        progress = within(plan.stages, state.stage, self._progress())
        factor = rate_factor(plan.schedule, progress, state.steps - state.warmup_start, scores)
        return plan.learning_rate * stage.rate * factor
