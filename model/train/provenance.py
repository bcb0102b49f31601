"""Provenance of a trained bundle, for its manifest and model card: fitting and data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from model.dataset.samples import Sample
from model.train.history import EpochRecord
from model.train.plan import FittingPlan

_NAMES = {"densenet121": "DenseNet121", "densenet169": "DenseNet169", "densenet201": "DenseNet201", "tiny": "tiny"}


def fitting_entries(plan: FittingPlan, start: str, history: Sequence[EpochRecord], backend: str) -> dict[str, Any]:
    """Return architecture, optimizer, loss, schedule and duration of a training as texts, by their row in the card."""
    best = max(
        (record for record in history if record.size == plan.preprocessing.size),
        key=lambda record: record.score,
        default=history[-1],
    )
    stages = []
    for stage in plan.stages:
        extras = [*([stage.trained] if stage.trained != "all" else []), *(["mixup"] if stage.mixup > 0 else [])]
        stages.append(f"{stage.share:.0%} at {stage.size} px" + (f" ({', '.join(extras)})" if extras else ""))
    loss = "softmax" if plan.exclusive_classes else "sigmoid"
    return {
        "network": _NAMES[plan.architecture],
        "start": start,
        "trained by": backend,
        "optimizer": f"AdamW, learning rate {plan.learning_rate:g}, {plan.schedule}, "
        f"weight decay {plan.weight_decay:g}",
        "loss": f"{loss} cross-entropy"
        + (f", focal with gamma {plan.focus:g}" if plan.focus else "")
        + (", positives and negatives balanced" if plan.weighted else ""),
        "batch": plan.batch,
        "numbers": plan.precision,
        "stages": ", ".join(stages),
        **({"weights": f"averaged, {plan.averaging:g} kept a step"} if plan.averaging else {}),
        "epochs": f"{len(history)} of {history[0].images} images; the weights are those after epoch {best.epoch}",
        "minutes": f"{sum(record.seconds for record in history) / 60:.0f}"
        + (f" (limited to {plan.minutes:g}, so that the result depends on the machine)" if plan.minutes else ""),
        "seed": plan.seed,
    }


def data_entries(labels: Sequence[str], parts: Mapping[str, Sequence[Sample]]) -> list[dict[str, Any]]:
    """Return the numbers of images, patients and positives of each part and domain."""
    counts = []
    for part, members in parts.items():
        for domain in sorted({sample.domain for sample in members}):
            of_domain = [sample for sample in members if sample.domain == domain]
            positives = {name: sum(sample.target(name) == 1 for sample in of_domain) for name in labels}
            known = {name: n for name, n in positives.items() if any(math.isfinite(s.target(name)) for s in of_domain)}
            patients = len({sample.patient for sample in of_domain})
            counts.append(
                {"part": part, "domain": domain, "images": len(of_domain), "patients": patients, "positives": known}
            )
    return counts
