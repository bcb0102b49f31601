"""Whether an int8 network may replace its source: the limits, the comparison, and the errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import (
    NETWORK_DATA_FILE,
    Bundle,
)
from model.bundle.training_distribution import TrainingDistribution
from model.dataset.sources import Sample
from model.engine.opening import open_engine
from model.engine.protocol import Engine
from model.evaluate.metrics import auroc
from model.evaluate.predictions import calibrate, predict

LEAST_OF_EITHER = 10
"""Images that show a label, and images that do not, that its AUROC is judged on: of fewer, one image moves it."""


MEAN_MOVE, HIGH_MOVE = 0.02, 0.10
"""Largest mean, and largest 99th percentile, of how far probabilities may move."""
AUROC_DROP = 0.005
"""Largest drop of a label's AUROC that is accepted."""


OUT_OF_DISTRIBUTION_CHANGED = 0.05
"""Largest share of images whose out-of-distribution flag may change."""


ReadImage = Callable[[Path], NDArray[np.float32]]


class QuantizationRefused(RuntimeError):
    """The quantized network is not as good, or cannot be judged; nothing was written. The message gives the figures."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True)
class QuantizationComparison:
    """What was gained and what was lost, measured on the images that were not used to quantize.

    Attributes
    ----------
    calibrated_on, judged_on
        Numbers of images.
    auroc_before, auroc_after
        A label that the judged images know both values of, at least `LEAST_OF_EITHER` times.
    mean_move, high_move
        Mean and 99th percentile of how far probabilities moved.
    speed
        How many times as fast as before, both measured in turn in the same run, on one thread as a worker's child.
    precision_before
        What the other network computed in.
    speed_over_f32
        How many times as fast as the other network in f32.
    not_judged
        Labels that the judged images show, or lack, too few times.
    out_of_distribution_changed
        Share of images that are out of distribution by one network and not by the other.
    size
        Bytes of the network's weights over those before.
    """

    calibrated_on: int
    judged_on: int
    auroc_before: dict[str, float]
    auroc_after: dict[str, float]
    mean_move: float
    high_move: float
    speed: float
    precision_before: str
    size: float
    speed_over_f32: float
    not_judged: tuple[str, ...] = ()
    out_of_distribution_changed: float = 0.0

    def as_table(self) -> dict[str, Any]:
        """Return plain values, with four decimals."""
        areas = {
            key: {label: round(area, 4) for label, area in getattr(self, key).items()}
            for key in ("auroc_before", "auroc_after")
        }
        moves = {key: round(getattr(self, key), 4) for key in ("mean_move", "high_move", "out_of_distribution_changed")}
        return {**asdict(self), **areas, **moves}


def compare(
    before: Bundle,
    after: Bundle,
    calibrated_on: int,
    judging: Sequence[Sample],
    read_image: ReadImage,
    on_image: Callable[[], None],
    threads: int,
) -> QuantizationComparison:
    engines = open_engine(before, threads=threads), open_engine(after, threads=threads)
    predictions = [predict(engine, before, judging, read_image, on_image) for engine in engines]
    labels = before.label_names
    calibrated = [calibrate(each, labels, before.everyone, before.groups, before.distribution) for each in predictions]
    areas = [
        {name: auroc(predictions[0].targets[:, i], each.probabilities[:, i]) for i, name in enumerate(labels)}
        for each in calibrated
    ]
    counts = {
        name: min(int((predictions[0].targets[:, i] == value).sum()) for value in (0, 1))
        for i, name in enumerate(labels)
    }
    known = [name for name in labels if counts[name] >= LEAST_OF_EITHER]
    if not known:
        raise QuantizationRefused(
            f"nothing to judge by: no label of the model is present in at least {LEAST_OF_EITHER} of the "
            f"{len(judging)} images, and absent in as many"
        )
    serving = [open_engine(before, "f32"), open_engine(before), open_engine(after)]
    slowest, usual, fastest = _times(serving, before.golden.tensors[:1])
    moves = np.abs(calibrated[1].probabilities - calibrated[0].probabilities)
    return QuantizationComparison(
        calibrated_on,
        len(judging),
        {name: areas[0][name] for name in known},
        {name: areas[1][name] for name in known},
        float(moves.mean()),
        float(np.percentile(moves, 99)),
        round(usual / fastest, 2),
        serving[1].precision,
        round(
            (after.folder / NETWORK_DATA_FILE).stat().st_size / (before.folder / NETWORK_DATA_FILE).stat().st_size, 2
        ),
        round(slowest / fastest, 2),
        tuple(name for name in labels if name not in known),
        _out_of_distribution_changed(before.distribution, *(each.pooled for each in predictions)),
    )


def _times(engines: Sequence[Engine], tensor: NDArray[np.float32], rounds: int = 15) -> list[float]:
    """Return median seconds an image of each, taken in turn, so that another load on the machine slows all."""
    times: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, taken in zip(engines, times, strict=True):
            started = time.perf_counter()
            engine.run(tensor)
            taken.append(time.perf_counter() - started)
    return [float(np.median(taken)) for taken in times]


def check_accepted(found: QuantizationComparison) -> None:
    # figures like 0.95 and 0.945 lie a little more than 0.005 apart in binary
    dropped = {
        name: (before, found.auroc_after[name])
        for name, before in found.auroc_before.items()
        if before - found.auroc_after[name] > AUROC_DROP + 1e-9
    }
    if dropped:
        listed = ", ".join(f"{name} {before:.4f} -> {after:.4f}" for name, (before, after) in dropped.items())
        raise QuantizationRefused(
            f"int8 is refused: AUROC drops by more than {AUROC_DROP} on {found.judged_on} images: {listed}"
        )
    if found.mean_move > MEAN_MOVE or found.high_move > HIGH_MOVE:
        raise QuantizationRefused(
            f"int8 is refused: probabilities move by {found.mean_move:.4g} on average (allowed {MEAN_MOVE}), and by "
            f"{found.high_move:.4g} at the 99th percentile (allowed {HIGH_MOVE})"
        )
    if found.out_of_distribution_changed > OUT_OF_DISTRIBUTION_CHANGED:
        raise QuantizationRefused(
            f"int8 is refused: for {found.out_of_distribution_changed:.1%} of the images the out-of-distribution flag "
            f"changes (allowed {OUT_OF_DISTRIBUTION_CHANGED:.0%})"
        )


def _out_of_distribution_changed(
    distribution: TrainingDistribution, before: NDArray[np.float32], after: NDArray[np.float32]
) -> float:
    """Return the share of images that are outside the training's by one answer and not by the other."""
    if not distribution.known:
        return 0.0
    return float(((distribution.score(before) > 1) != (distribution.score(after) > 1)).mean())
