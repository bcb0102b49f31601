"""Plans of fitting and of a whole training: their values, checked when they are made."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.bundle.calibration import AgeRanges
from model.bundle.labels import label_key
from model.dataset.samples import DatasetInvalid, Source
from model.network.keras_types import Tensor
from model.preprocessing.tensor import Preprocessing
from model.train.architecture import ARCHITECTURES, Architecture
from model.train.augmentation import Augmentation
from model.train.batches import ImageCache, cell_weights, class_weights, flat_weights
from model.train.initial_weights import check_block
from model.train.losses import masked_loss, masked_softmax_loss
from model.train.schedule import SCHEDULES, Schedule, Stage

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True, kw_only=True)
class FittingOptions:
    """Options of fitting, independent of labels and data; common to `FittingPlan` and `TrainingPlan`.

    Attributes
    ----------
    preprocessing
        Of the network's tensors.
    augmentation
        Of the training images.
    epochs
        Largest number of epochs.
    images_an_epoch
        Images per epoch; None: as many as the training part has.
    smallest_domain
        Least share of an epoch that each domain gets.
    batch
        Images per step.
    learning_rate
        Peak learning rate.
    weight_decay
        Of AdamW.
    schedule
        Of the learning rate.
    patience
        Epochs at the last size without a higher validation score after which training ends; None: no early stopping.
    averaging
        Decay per step of the exponential moving average of the weights; 0: no averaging.
    minutes
        Wall-clock limit: the schedule then ends with the epochs or the minutes, whichever come first. The result then
        depends on the machine's speed, which the model card states.
    precision
        Dtype policy of Keras.
    threads
        Of the backend; None: its default.
    seed
        Of weights, sampling, augmentation and dropout.
    architecture
        See `build_network`.
    exclusive_classes
        The labels are mutually exclusive classes, with a softmax over them; else independent, each with a sigmoid.
    focus
        Gamma of the focal loss; 0: cross-entropy.
    weighted
        Balance positives and negatives (or classes) in the loss.
    start
        Initial weights: a bundle's folder or a weights file of keras.applications; None: random weights.
    checkpoint_seconds
        Interval of checkpoints within an epoch; there is one after each epoch in any case.
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
    exclusive_classes: bool = False
    focus: float = 0.0
    weighted: bool = True
    start: Path | None = None
    checkpoint_seconds: float = 300.0


@dataclass(frozen=True)
class FittingPlan(FittingOptions):
    """Options of fitting with labels and stages.

    Attributes
    ----------
    labels
        In the order of the logits.
    stages
        In order; the last has the size of the preprocessing.
    monitored
        Training images per domain on which metrics are computed after each epoch; of the validation part, whose score
        selects the best epoch, all.

    Raises
    ------
    DatasetInvalid, ValueError
        There is no label, or an option is out of range.
    """

    labels: tuple[str, ...]
    stages: tuple[Stage, ...] = (Stage(128, 0.45), Stage(224, 0.55))
    monitored: int = 160

    def __post_init__(self) -> None:
        if not self.labels:
            raise DatasetInvalid("no label to train on: every one is missing or has no positive image")
        _check_at_least(self, {"epochs": 1, "batch": 2, "seed": 0, "monitored": 1})
        if self.seed >= 2**32:
            raise ValueError(f"seed is {self.seed}; below {2**32} is needed")
        _check_above_zero(self, ("learning_rate", "minutes"))
        if not self.stages or self.stages[-1].size != self.preprocessing.size:
            raise ValueError(
                f"stages is {self.stages}; the last must have the network's size {self.preprocessing.size}"
            )
        _check_allowed(self, {"schedule": SCHEDULES, "precision": PRECISIONS, "architecture": ARCHITECTURES})
        for stage in self.stages:
            check_block(self.architecture, stage.trained)

    @property
    def identity(self) -> dict[str, Any]:
        """The values that must be equal for a run to be resumed: all but threads, checkpoint interval, start's path."""
        return {k: v for k, v in asdict(self).items() if k not in ("threads", "checkpoint_seconds", "start")}

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss function of packed targets and logits."""
        return partial(masked_softmax_loss if self.exclusive_classes else masked_loss, focus=self.focus)

    def weights(self, cache: ImageCache) -> NDArray[np.float32]:
        """Return the loss weights of a part, float32 [n, labels]."""
        if self.exclusive_classes:
            return class_weights(cache, self.weighted)
        return cell_weights(cache) if self.weighted else flat_weights(cache)


@dataclass(frozen=True)
class TrainingPlan(FittingOptions):
    """A training from images to a bundle: data, options of fitting, and the bundle's metadata.

    With `start`, its preprocessing is used. With `exclusive_classes`, images without any of the labels are of the class
    ``Normal``.

    Attributes
    ----------
    sources
        Folders or tables of images, with their domains.
    output
        Folder of the new bundle; created if missing, its files overwritten.
    name, version
        Of the bundle.
    labels
        In the order of the logits; empty: every label with `minimum_positives` positive images.
    minimum_positives
        See `labels`.
    limit
        Largest number of images used, spread over all; None: all.
    split_file
        Split to use; None: the one that the data come in, or a new one.
    resplit
        Make a new split though the data come in parts.
    head_epochs, trained, fine_tuning
        In the first `head_epochs` epochs only the head is trained, with frozen base; afterwards the layers from
        `trained` on, with `fine_tuning` as factor of the learning rate. Without `head_epochs`: one stage, at full rate.
    stages
        Replaces the three above.
    ages, label_ages, views
        Age ranges, age ranges of single labels, and views that the bundle is intended for; empty: those of the training
        part (`model.train.intended_use`). Images of other views than those given are not trained on.
    domain_ages
        Age ranges of domains; each of these domains gets a calibration of its own.
    provenance
        Further entries of the model card: ``command``, ``warning``, ``weaknesses``, ``terms``.

    Raises
    ------
    DatasetInvalid, ValueError
        An option is out of range.
    """

    sources: tuple[Source, ...]
    output: Path
    name: str
    version: str = "1"
    labels: tuple[str, ...] = ()
    minimum_positives: int = 20
    limit: int | None = None
    split_file: Path | None = None
    resplit: bool = False
    head_epochs: int = 0
    trained: str = "all"
    fine_tuning: float = 0.1
    stages: tuple[Stage, ...] = ()
    ages: tuple[tuple[float, float], ...] = ()
    label_ages: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    domain_ages: Mapping[str, AgeRanges] = field(default_factory=dict)
    views: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_above_zero(self, ("fine_tuning", "smallest_domain"))
        _check_at_least(self, {"minimum_positives": 1})
        if len(set(map(label_key, self.labels))) < len(self.labels):
            raise ValueError(f"labels are {', '.join(self.labels)}; each may be named once")
        self.fitting(self.labels or ("any",))

    def fitting(self, labels: tuple[str, ...]) -> FittingPlan:
        """Return the options of fitting to these labels."""
        options = {option.name: getattr(self, option.name) for option in fields(FittingOptions)}
        return FittingPlan(labels=labels, stages=self.stages or self._default_stages(), **options)

    def _default_stages(self) -> tuple[Stage, ...]:
        size = self.preprocessing.size
        if self.head_epochs:
            if self.head_epochs >= self.epochs:
                raise DatasetInvalid(f"head epochs are {self.head_epochs} of {self.epochs}; at least 1 must be left")
            share = self.head_epochs / self.epochs
            return Stage(size, share, "head"), Stage(size, 1 - share, self.trained, self.fine_tuning)
        if self.start is None and size > 160:
            return Stage(128, 0.45, self.trained), Stage(size, 0.55, self.trained)
        return (Stage(size, 1.0, self.trained),)


def _check_at_least(plan: object, least: Mapping[str, int]) -> None:
    """Raise a ValueError unless each of these values of a plan has at least its minimum."""
    for name, value in least.items():
        if getattr(plan, name) < value:
            raise ValueError(f"{name} is {getattr(plan, name)}; at least {value} is needed")


def _check_above_zero(plan: object, names: Sequence[str]) -> None:
    """Raise a ValueError unless these numbers of a plan are finite and above 0; None is allowed."""
    for name in names:
        value = getattr(plan, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value:g}; a number above 0 is needed")


def _check_allowed(plan: object, allowed: Mapping[str, Sequence[Any]]) -> None:
    """Raise a ValueError unless each of these values of a plan is one of those allowed."""
    for name, values in allowed.items():
        if getattr(plan, name) not in values:
            raise ValueError(f"{name} is {getattr(plan, name)!r}; allowed are {', '.join(values)}")
