"""Stages of a training and learning rate schedules."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["cosine", "constant", "plateau"]
SCHEDULES: tuple[Schedule, ...] = ("cosine", "constant", "plateau")
WARMUP_STEPS = 60
"""Steps of linear warm-up after a change of the trained layers or the stage's rate."""
PLATEAU_EPOCHS, PLATEAU_FACTOR = 2, 0.3
"""After so many epochs without a higher validation score the learning rate is multiplied by the factor."""


@dataclass(frozen=True)
class Stage:
    """A stage of the training, with its own image size, trained layers and learning rate.

    Attributes
    ----------
    size
        Rows and columns of the images. At 128 pixels a step takes a third of the time it takes at 224.
    share
        Share, in [0, 1], of the whole training.
    trained
        ``all``, ``head`` (all layers before the pooled features are frozen, normalisations in inference mode), or the
        first trained block, such as ``conv5`` or ``conv4_block12``.
    rate
        Factor of the plan's learning rate.
    mixup
        Both parameters of mixup's Beta distribution; images are mixed within their domain. 0: no mixup.
    """

    size: int
    share: float
    trained: str = "all"
    rate: float = 1.0
    mixup: float = 0.0


def stage_at(stages: Sequence[Stage], progress: float) -> int:
    """Return the index of the stage at a progress in [0, 1]."""
    ends = itertools.accumulate(stage.share for stage in stages)
    return next((index for index, end in enumerate(ends) if progress < end - 1e-9), len(stages) - 1)


def within(stages: Sequence[Stage], index: int, progress: float) -> float:
    """Return the progress, in [0, 1], within the schedule of a stage.

    Consecutive stages with the same rate and trained layers share one schedule.
    """

    def shares_schedule(other: Stage) -> bool:
        return (other.trained, other.rate) == (stages[index].trained, stages[index].rate)

    first = last = index
    while first > 0 and shares_schedule(stages[first - 1]):
        first -= 1
    while last + 1 < len(stages) and shares_schedule(stages[last + 1]):
        last += 1
    begin = sum(stage.share for stage in stages[:first])
    length = sum(stage.share for stage in stages[first : last + 1])
    return min(1.0, max(0.0, (progress - begin) / length)) if length else 1.0


def rate_factor(schedule: Schedule, progress: float, steps: int, scores: Sequence[float]) -> float:
    """Return the factor of the learning rate.

    Parameters
    ----------
    schedule
        ``cosine`` decays to a hundredth; ``constant`` stays; ``plateau`` decays whenever the scores stop rising.
    progress
        Within the schedule, in [0, 1].
    steps
        Since the schedule began; the first `WARMUP_STEPS` are a linear warm-up.
    scores
        Validation scores of the schedule's epochs.
    """
    warmup = min(1.0, (steps + 1) / WARMUP_STEPS)
    match schedule:
        case "cosine":
            return warmup * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
        case "plateau":
            return warmup * PLATEAU_FACTOR ** _plateaus(scores)
        case _:
            return warmup


def stalled(scores: Sequence[float]) -> int:
    """Return the number of epochs since the best score."""
    best = max(range(len(scores)), key=lambda index: (scores[index], -index), default=-1)
    return len(scores) - 1 - best


def _plateaus(scores: Sequence[float]) -> int:
    best, waited, count = -math.inf, 0, 0
    for score in scores:
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited == PLATEAU_EPOCHS:
            count, waited = count + 1, 0
    return count
