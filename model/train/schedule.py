"""Which layers learn when, at which size and at which rate."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["cosine", "constant", "plateau"]
SCHEDULES: tuple[Schedule, ...] = ("cosine", "constant", "plateau")
WARMING_STEPS = 60
PLATEAU_EPOCHS, PLATEAU_FACTOR = 2, 0.3
"""On a plateau of so many epochs without a better validation part the rate falls to so much of itself."""


@dataclass(frozen=True)
class Stage:
    """A stretch of the training.

    Attributes
    ----------
    size
        Rows and columns of the images. Small images first teach the same for a third of the time.
    share
        Of the whole training.
    trained
        ``all``, ``head`` (everything before the pooled features is frozen, its normalisations in inference mode), or
        the block from which on the layers learn, such as ``conv5`` or ``conv4_block12``.
    rate
        Times the plan's learning rate.
    mixup
        Images are blended with others of their domain, in proportions drawn from Beta(mixup, mixup); 0: they are not.
    """

    size: int
    share: float
    trained: str = "all"
    rate: float = 1.0
    mixup: float = 0.0


def stage_at(stages: Sequence[Stage], progress: float) -> int:
    """Return the index of the stage that a progress in [0, 1] lies in."""
    ends = itertools.accumulate(stage.share for stage in stages)
    return next((index for index, end in enumerate(ends) if progress < end - 1e-9), len(stages) - 1)


def within(stages: Sequence[Stage], index: int, progress: float) -> float:
    """Return how far, in [0, 1], the stretch of stages that share rate and learning layers is done."""

    def alike(other: Stage) -> bool:
        return (other.trained, other.rate) == (stages[index].trained, stages[index].rate)

    first = last = index
    while first > 0 and alike(stages[first - 1]):
        first -= 1
    while last + 1 < len(stages) and alike(stages[last + 1]):
        last += 1
    begin = sum(stage.share for stage in stages[:first])
    length = sum(stage.share for stage in stages[first : last + 1])
    return min(1.0, max(0.0, (progress - begin) / length)) if length else 1.0


def rate_factor(schedule: Schedule, done: float, steps: int, scores: Sequence[float]) -> float:
    """Return what the rate is multiplied by.

    Parameters
    ----------
    schedule
        ``cosine`` falls to a hundredth; ``constant`` stays; ``plateau`` falls whenever the scores stop rising.
    done
        Of the stretch, in [0, 1].
    steps
        Since the stretch began: the rate rises over the first `WARMING_STEPS`.
    scores
        The validation part's, an epoch of the stretch each.
    """
    warming = min(1.0, (steps + 1) / WARMING_STEPS)
    match schedule:
        case "cosine":
            return warming * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        case "plateau":
            return warming * PLATEAU_FACTOR ** _plateaus(scores)
        case _:
            return warming


def stalled(scores: Sequence[float]) -> int:
    """Return for how many epochs the score has not been better than before."""
    best = max(range(len(scores)), key=lambda index: (scores[index], -index), default=-1)
    return len(scores) - 1 - best


def _plateaus(scores: Sequence[float]) -> int:
    best, waited, count = -math.inf, 0, 0
    for score in scores:
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited == PLATEAU_EPOCHS:
            count, waited = count + 1, 0
    return count
