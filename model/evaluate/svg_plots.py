"""ROC, precision-recall and reliability plots as inline SVG of a few KB.

Not Matplotlib: it is in the extra [train], without which `evaluate` runs, and its SVG is three times as large.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.evaluate.metrics import reliability

SIDE, LEFT, TOP, RIGHT, BOTTOM = 200, 38, 24, 10, 34

Points = Sequence[tuple[float, float]]


def roc_plot(targets: NDArray[np.float32], scores: NDArray[np.float32], at: tuple[float, float]) -> str:
    """Draw the ROC curve; ``at`` is the (1 - specificity, sensitivity) at the threshold in use."""
    true_positives, false_positives = _cumulative_counts(targets, scores)
    rates = false_positives / false_positives[-1], true_positives / true_positives[-1]
    line = list(zip(*rates, strict=True))
    return _plot("ROC", "1 − specificity", "sensitivity", [(0.0, 0.0), *line], diagonal=True, mark=at)


def precision_recall_plot(targets: NDArray[np.float32], scores: NDArray[np.float32], at: tuple[float, float]) -> str:
    """Draw precision over recall; ``at`` is the (recall, precision) at the threshold; the dashed line: prevalence."""
    true_positives, false_positives = _cumulative_counts(targets, scores)
    recall, precision = true_positives / true_positives[-1], true_positives / (true_positives + false_positives)
    steps: list[tuple[float, float]] = []
    last = 0.0
    for reached, value in zip(recall, precision, strict=True):
        steps += [(last, float(value)), (float(reached), float(value))]
        last = float(reached)
    return _plot("Precision and recall", "recall", "precision", steps, level=float(targets.mean()), mark=at)


def reliability_plot(targets: NDArray[np.float32], probabilities: NDArray[np.float32]) -> str:
    """Draw the share of positives over the predicted probability, one dot per bin, larger with more images."""
    counts, confidence, frequency = reliability(targets, probabilities)
    line = [(float(x), float(y)) for x, y in zip(confidence, frequency, strict=True)]
    radii = 2 + 7 * np.sqrt(counts / counts.max())
    dots = [(x, y, float(radius)) for (x, y), radius in zip(line, radii, strict=True)]
    return _plot("Reliability", "predicted probability", "share of positives", line, diagonal=True, dots=dots)


def _cumulative_counts(
    targets: NDArray[np.float32], scores: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return true and false positives at each distinct score as the threshold, by falling score."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    true_positives = np.cumsum(targets[order] == 1)[last_of_tie].astype(np.float64)
    return true_positives, np.cumsum(targets[order] == 0)[last_of_tie].astype(np.float64)


def _plot(
    title: str,
    across: str,
    up: str,
    line: Points,
    diagonal: bool = False,
    level: float | None = None,
    mark: tuple[float, float] | None = None,
    dots: Sequence[tuple[float, float, float]] = (),
) -> str:
    def x(value: float) -> str:
        return f"{LEFT + SIDE * value:.1f}"

    def y(value: float) -> str:
        return f"{TOP + SIDE * (1 - value):.1f}"

    width, height = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">',
        f'<text x="{LEFT}" y="14" class="title">{title}</text>',
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path class="grid" d="M{x(tick)} {y(0)}V{y(1)}M{x(0)} {y(tick)}H{x(1)}"/>')
        if tick in (0.0, 0.5, 1.0):
            parts.append(f'<text x="{x(tick)}" y="{TOP + SIDE + 14}" text-anchor="middle">{tick:g}</text>')
            parts.append(f'<text x="{LEFT - 5}" y="{float(y(tick)) + 3:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text x="{LEFT + SIDE / 2}" y="{height - 4}" text-anchor="middle">{across}</text>')
    parts.append(
        f'<text x="10" y="{TOP + SIDE / 2}" text-anchor="middle" '
        f'transform="rotate(-90 10 {TOP + SIDE / 2})">{up}</text>'
    )
    if diagonal:
        parts.append(f'<path class="dash" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    if level is not None:
        parts.append(f'<path class="dash" d="M{x(0)} {y(level)}H{x(1)}"/>')
    path = "L".join(f"{x(a)} {y(b)}" for a, b in line)
    parts.append(f'<path class="line" d="M{path}"/>')
    parts += [f'<circle class="dot" cx="{x(a)}" cy="{y(b)}" r="{r:.1f}"/>' for a, b, r in dots]
    if mark is not None:
        parts.append(f'<circle class="mark" cx="{x(mark[0])}" cy="{y(mark[1])}" r="4.5"/>')
    return "".join([*parts, "</svg>"])
