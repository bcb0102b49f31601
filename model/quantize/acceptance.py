"""Comparison of an int8 network with its source, and the limits within which it is accepted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import (
    NETWORK_DATA_FILE,
    Bundle,
)
from model.bundle.training_distribution import TrainingDistribution
from model.engine.opening import open_engine
from model.engine.protocol import Engine
from model.evaluate.metrics import auroc
from model.evaluate.metrics_with_intervals import interval_over_patients
from model.evaluate.predictions import calibrate, predict
from model.quantize.images import QuantizationImages

LEAST_OF_EITHER = 10
"""Positive and negative images, each, that a label needs for its AUROC to be compared."""


MEAN_MOVE, HIGH_MOVE = 0.02, 0.10
"""Limits of the absolute change of probabilities: mean, and 99th percentile."""
AUROC_DROP = 0.005
"""Limit of the drop of a label's AUROC."""
AUROC_DROP_BOUND = 0.02
"""Limit of the drop at the lower end of its 95 % interval: with few positive images the drop itself tells little."""
CHANGED_CALLS = 0.05
"""Limit of the share of positive calls that int8 loses, and of those that it adds: of all labels together, and of each
label with at least `ENOUGH_CALLS`."""
ENOUGH_CALLS = 20


OUT_OF_DISTRIBUTION_CHANGED = 0.05
"""Limit of the share of images whose out-of-distribution flag changes."""


ReadImage = Callable[[Path], NDArray[np.float32]]


class QuantizationRefused(RuntimeError):
    """The quantized network exceeds a limit, or cannot be compared; nothing was written. The message has the values."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class QuantizationComparison:
    """Quality and speed of the quantized network against its source, on images that were not used to quantize.

    Attributes
    ----------
    calibrated_on, judged_on
        Numbers of images that set the quantization ranges, and that were compared.
    auroc_before, auroc_after
        By label, for labels with at least `LEAST_OF_EITHER` positive and as many negative images.
    mean_move, high_move
        Mean and 99th percentile of the absolute change of probabilities.
    speed
        Ratio of the source's time per image to the quantized network's, on one thread, measured in turn in one run.
    precision_before
        Precision of the source in that measurement.
    size
        Ratio of the sizes of the weights, quantized over source.
    speed_over_f32
        As `speed`, with the source in f32.
    auroc_change
        By label: 95 % interval of the change of AUROC, from paired bootstrap resamples of patients.
    calls
        By label: images that the source calls positive, those of them that int8 does not, and those that only int8
        does; of images with a known value.
    compared
        As in `QuantizationImages`.
    not_judged
        Labels with too few positive or negative images.
    out_of_distribution_changed
        Share of images that are out of distribution by one of the two networks alone.
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
    auroc_change: dict[str, tuple[float, float]] = field(default_factory=dict)
    calls: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    compared: str = ""
    not_judged: tuple[str, ...] = ()
    out_of_distribution_changed: float = 0.0

    @property
    def all_calls(self) -> tuple[int, int, int]:
        """`calls`, of all labels together."""
        summed = np.array(list(self.calls.values()) or [(0, 0, 0)]).sum(axis=0)
        return int(summed[0]), int(summed[1]), int(summed[2])

    def as_table(self) -> dict[str, Any]:
        """Return the values for JSON, AUROC and shares rounded to four decimals."""
        areas: dict[str, dict[str, Any]] = {
            key: {label: round(area, 4) for label, area in getattr(self, key).items()}
            for key in ("auroc_before", "auroc_after")
        }
        areas["auroc_change"] = {
            label: [round(bound, 4) for bound in limits] for label, limits in self.auroc_change.items()
        }
        moves = {key: round(getattr(self, key), 4) for key in ("mean_move", "high_move", "out_of_distribution_changed")}
        return {**asdict(self), **areas, **moves}


def compare(
    before: Bundle,
    after: Bundle,
    images: QuantizationImages,
    read_image: ReadImage,
    on_image: Callable[[], None],
    threads: int,
) -> QuantizationComparison:
    """Compare a quantized bundle with its source.

    Parameters
    ----------
    before, after
        The source and the quantized bundle.
    images
        Those that set the quantization ranges, and those to compare on.
    read_image, on_image
        As for `model.evaluate.predictions.predict`.
    threads
        Of the engines, except in the measurement of speed.

    Raises
    ------
    QuantizationRefused
        No label has enough positive and negative images.
    """
    engines = open_engine(before, threads=threads), open_engine(after, threads=threads)
    judging = images.judging
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
            f"AUROC cannot be compared: no label of the model is present in at least {LEAST_OF_EITHER} of the "
            f"{len(judging)} images, and absent in as many"
        )
    serving = [open_engine(before, "f32"), open_engine(before), open_engine(after)]
    slowest, usual, fastest = _times(serving, before.golden.tensors[:1])
    moves = np.abs(calibrated[1].probabilities - calibrated[0].probabilities)
    sizes = [(bundle.folder / NETWORK_DATA_FILE).stat().st_size for bundle in (before, after)]
    return QuantizationComparison(
        calibrated_on=len(images.ranging),
        judged_on=len(judging),
        auroc_before={name: areas[0][name] for name in known},
        auroc_after={name: areas[1][name] for name in known},
        mean_move=float(moves.mean()),
        high_move=float(np.percentile(moves, 99)),
        speed=round(usual / fastest, 2),
        precision_before=serving[1].precision,
        size=round(sizes[1] / sizes[0], 2),
        speed_over_f32=round(slowest / fastest, 2),
        auroc_change={
            name: paired_interval(
                predictions[0].targets[:, i],
                calibrated[0].probabilities[:, i],
                calibrated[1].probabilities[:, i],
                predictions[0].patients,
            )
            for i, name in enumerate(labels)
            if name in known
        },
        calls={
            name: _calls(predictions[0].targets[:, i], *(each.positive[:, i] for each in calibrated))
            for i, name in enumerate(labels)
        },
        compared=images.compared,
        not_judged=tuple(name for name in labels if name not in known),
        out_of_distribution_changed=_out_of_distribution_changed(
            before.distribution, *(each.pooled for each in predictions)
        ),
    )


def paired_interval(
    targets: NDArray[np.float32],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    patients: NDArray[np.str_],
    seed: int = 2026,
) -> tuple[float, float]:
    """Return the 95 % interval of the change of AUROC, of bootstrap resamples of patients, the same for both networks.

    Parameters
    ----------
    targets
        float32 [n]: 1, 0, or nan (unknown, left out).
    before, after
        float64 [n]: probabilities of the two networks.
    patients
        str [n].
    """
    known = np.isfinite(targets)
    truth, scores = targets[known], (before[known], after[known])

    def change(rows: NDArray[np.intp]) -> float:
        one, other = (auroc(truth[rows], each[rows]) for each in scores)
        return other - one

    low, high = interval_over_patients(change, patients[known], seed)
    return float(low), float(high)


def _calls(targets: NDArray[np.float32], before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[int, int, int]:
    known = np.isfinite(targets)
    return int((known & before).sum()), int((known & before & ~after).sum()), int((known & ~before & after).sum())


def _times(engines: Sequence[Engine], tensor: NDArray[np.float32], rounds: int = 15) -> list[float]:
    """Return the median seconds per image of each engine, run in turn, so that other load affects all alike."""
    times: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, taken in zip(engines, times, strict=True):
            started = time.perf_counter()
            engine.run(tensor)
            taken.append(time.perf_counter() - started)
    return [float(np.median(taken)) for taken in times]


def check_accepted(found: QuantizationComparison) -> None:
    """Raise QuantizationRefused where the comparison exceeds a limit."""
    # 1e-9: 0.95 - 0.945 is slightly more than 0.005 in binary
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
    uncertain = {label: low for label, (low, _) in found.auroc_change.items() if low < -AUROC_DROP_BOUND - 1e-9}
    if uncertain:
        listed = ", ".join(f"{label} {low:+.4f}" for label, low in uncertain.items())
        raise QuantizationRefused(
            f"int8 is refused: {found.judged_on} images leave it open whether AUROC drops by more than "
            f"{AUROC_DROP_BOUND}: the 95 % interval of its change begins at {listed}; more images tell more"
        )
    _check_calls(found)
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


def _check_calls(found: QuantizationComparison) -> None:
    judged = {label: calls for label, calls in found.calls.items() if calls[0] >= ENOUGH_CALLS}
    judged = {"all labels": found.all_calls, **judged}
    changed = [
        f"{label}: {lost} lost and {gained} added of {positive}"
        for label, (positive, lost, gained) in judged.items()
        if max(lost, gained) > CHANGED_CALLS * positive
    ]
    if changed:
        raise QuantizationRefused(
            f"int8 is refused: it changes more than {CHANGED_CALLS:.0%} of the positive calls on {found.judged_on} "
            f"images: {'; '.join(changed)}"
        )


def _out_of_distribution_changed(
    distribution: TrainingDistribution, before: NDArray[np.float32], after: NDArray[np.float32]
) -> float:
    """Return the share of images whose out-of-distribution flag differs between pooled features [n, channels]."""
    if not distribution.known:
        return 0.0
    return float(((distribution.score(before) > 1) != (distribution.score(after) > 1)).mean())
