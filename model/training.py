"""Training a network from images to a complete bundle."""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.augmentation import Augmentation
from model.bundle import METRICS_FILE, Bundle
from model.bundle_writer import BundleDescription, write_description, write_network_files
from model.calibration import AgeRanges
from model.calibration_fitting import FittedCalibration, fit_calibration
from model.card import write_card
from model.curves import EpochRecord, draw_curves, write_history
from model.dataset import DatasetInvalid, Sample, Source, known_labels, limited, read_sources
from model.distribution import TrainingDistribution, fit_distribution
from model.engine import Engine, open_engine
from model.evaluation import RESAMPLES, figures_of_merit
from model.fitting import HISTORY_FILE, WEIGHTS_FILE, FittingPlan, TrainingProgress, fit
from model.measuring import Measured, judge, measure
from model.network import EXPLANATION_LAYER, build_network
from model.preprocessing import Preprocessing
from model.raster import read_raster
from model.split import split_by_patient, write_split
from model.strangers import stranger_scores

SPLIT_FILE = "split.csv"
CURVES_FILE = "curves.png"
DISTRIBUTION_IMAGES = 600
"""Images a domain of the training part that the distribution is fitted on; more change nothing."""


@dataclass(frozen=True)
class TrainingPlan:
    """What to train on what, and what the bundle says of itself.

    Attributes
    ----------
    sources
        Folders of images and the domain each stands for.
    output
        Folder of the bundle to be; made if missing, its files overwritten.
    labels
        In the order of the logits; empty: every label with `minimum_positives` positive images.
    limit
        Use at most so many images, spread over all.
    ages, views, label_ages
        What the bundle is made for; empty: any.
    domain_ages
        The ages that a domain stands for: such a domain gets a calibration of its own.
    provenance
        Further entries of the card: ``command``, ``warning``, ``weaknesses``, ``terms``.
    """

    sources: tuple[Source, ...]
    output: Path
    name: str
    version: str = "1"
    labels: tuple[str, ...] = ()
    minimum_positives: int = 20
    limit: int | None = None
    seed: int = 2026
    epochs: int = 12
    images_an_epoch: int | None = None
    batch: int = 16
    learning_rate: float = 1e-3
    minutes: float | None = None
    threads: int | None = None
    precision: str = "mixed_bfloat16"
    stages: tuple[tuple[int, float], ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    augmentation: Augmentation = field(default_factory=Augmentation)
    ages: tuple[tuple[float, float], ...] = ()
    label_ages: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    domain_ages: Mapping[str, AgeRanges] = field(default_factory=dict)
    views: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def fitting(self, labels: tuple[str, ...]) -> FittingPlan:
        """Return how the network is fitted."""
        size = self.preprocessing.size
        stages = self.stages or (((128, 0.45), (size, 0.55)) if size > 160 else ((size, 1.0),))
        return FittingPlan(
            labels=labels,
            preprocessing=self.preprocessing,
            augmentation=self.augmentation,
            epochs=self.epochs,
            images_an_epoch=self.images_an_epoch,
            batch=self.batch,
            learning_rate=self.learning_rate,
            stages=stages,
            minutes=self.minutes,
            precision=self.precision,
            threads=self.threads,
            seed=self.seed,
        )


ReadImage = Callable[[Path], NDArray[np.float32]]
OnProgress = Callable[[TrainingProgress], None]


def train(
    plan: TrainingPlan, read_image: ReadImage = read_raster, on_progress: OnProgress = lambda progress: None
) -> Bundle:
    """Train a network and write a complete bundle: weights, compiled network, thresholds, metrics, curves, card.

    Raises
    ------
    DatasetInvalid
        The data are missing, unreadable, or have no label to train on.
    """
    samples = limited(read_sources(plan.sources), plan.limit)
    labels = plan.labels or known_labels(samples, plan.minimum_positives)
    missing = set(labels) - set(known_labels(samples))
    if missing or not labels:
        raise DatasetInvalid(
            f"no positive image has the label {', '.join(sorted(missing)) or '(any)'}; "
            f"labels in the data: {', '.join(known_labels(samples)) or 'none'}"
        )
    parts = split_by_patient(samples, plan.seed)
    plan.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cxr-triage-training-") as name:
        run = Path(name)
        history = fit(plan.fitting(labels), parts, run, read_image, on_progress)
        return make_bundle(plan, labels, parts, run / WEIGHTS_FILE, history, read_image, on_progress)


def make_bundle(
    plan: TrainingPlan,
    labels: tuple[str, ...],
    parts: Mapping[str, Sequence[Sample]],
    weights: Path,
    history: Sequence[EpochRecord],
    read_image: ReadImage = read_raster,
    on_progress: OnProgress = lambda progress: None,
) -> Bundle:
    """Make the bundle of a fitted network, judged by the engine that will serve it."""
    folder = plan.output
    folder.mkdir(parents=True, exist_ok=True)
    network = build_network(len(labels), plan.preprocessing.size, plan.preprocessing.channels)
    network.load_weights(weights)
    description = BundleDescription(
        name=plan.name,
        version=plan.version,
        labels=labels,
        preprocessing=plan.preprocessing,
        explanation_layer=EXPLANATION_LAYER,
        ages=plan.ages,
        label_ages=plan.label_ages,
        views=plan.views,
    )
    write_split(parts, folder / SPLIT_FILE)
    write_history(history, folder / HISTORY_FILE)
    draw_curves(history, folder / CURVES_FILE)
    write_network_files(network, description, folder)
    draft = _draft(folder, description, network)
    engine = open_engine(draft, threads=plan.threads or 1)
    answers = _measure_parts(engine, draft, parts, read_image, on_progress)
    distribution = _fit_distribution(answers)
    fitted = fit_calibration(answers["validation"], labels, plan.domain_ages, plan.seed)
    metrics = _metrics(engine, answers, distribution, labels, fitted)
    strangers = stranger_scores(engine, draft.preprocessing, distribution, parts["test"], read_image, plan.seed)
    metrics["distribution"] |= {name: _summary(scores) for name, scores in strangers.items()}
    _write_metrics(folder, metrics)
    described = replace(description, provenance=_provenance(plan, labels, parts, history))
    bundle = write_description(
        folder,
        described,
        draft.head_table,
        distribution,
        fitted.everyone.thresholds,
        dict(zip(labels, map(float, fitted.everyone.temperatures), strict=True)),
        dict(zip(labels, map(float, fitted.everyone.biases), strict=True)),
        fitted.groups,
    )
    write_card(bundle, CURVES_FILE)
    return bundle


def _draft(folder: Path, description: BundleDescription, network: Any) -> Bundle:  # noqa: ANN401 - Keras has no types
    """Write a first description, with nothing measured yet, so that what is measured is the engine that will serve."""
    from model.export import extract_head

    features = int(network.get_layer(description.explanation_layer).output.shape[-1])
    nothing = TrainingDistribution(
        ("none",),
        np.zeros((1, features), np.float32),
        np.zeros((1, features), np.float32),
        np.ones(1, np.float32),
        1.0,
        np.ones(1, np.float32),
    )
    (folder / METRICS_FILE).write_text("{}\n", encoding="utf-8")
    even = dict.fromkeys(description.labels, 0.5)
    ones = dict.fromkeys(description.labels, 1.0)
    head = extract_head(network, description.explanation_layer).as_table()
    return write_description(folder, description, head, nothing, even, ones)


def _measure_parts(
    engine: Engine,
    bundle: Bundle,
    parts: Mapping[str, Sequence[Sample]],
    read_image: ReadImage,
    on_progress: OnProgress,
) -> dict[str, Measured]:
    chosen = {part: list(members) for part, members in parts.items()}
    by_domain: dict[str, list[Sample]] = {}
    for sample in chosen["training"]:
        by_domain.setdefault(sample.domain, []).append(sample)
    chosen["training"] = [s for members in by_domain.values() for s in limited(members, DISTRIBUTION_IMAGES)]
    total, done = sum(map(len, chosen.values())), 0

    def on_image() -> None:
        nonlocal done
        done += 1
        on_progress(TrainingProgress("measuring", done, total))

    return {part: measure(engine, bundle, members, read_image, on_image) for part, members in chosen.items()}


def _fit_distribution(answers: Mapping[str, Measured]) -> TrainingDistribution:
    training = {name: part.pooled for name, part in answers["training"].by_domain().items()}
    validation = {name: part.pooled for name, part in answers["validation"].by_domain().items()}
    missing = sorted(set(training) - set(validation))
    if missing:
        raise DatasetInvalid(f"the validation part has no image of {', '.join(missing)}: more patients are needed")
    return fit_distribution(training, validation)


def _metrics(
    engine: Engine,
    answers: Mapping[str, Measured],
    distribution: TrainingDistribution,
    labels: Sequence[str],
    fitted: FittedCalibration,
) -> dict[str, Any]:
    test = answers["test"]
    scores = {
        f"test part, {name}": _summary(distribution.score(part.pooled)) for name, part in test.by_domain().items()
    }
    return {
        "test": {
            "engine": engine.name,
            "precision": engine.precision,
            "resamples": RESAMPLES,
            "images": len(test.logits),
            "domains": figures_of_merit(
                test, judge(test, labels, fitted.everyone, fitted.groups, distribution), labels
            ),
        },
        "distribution": scores,
    }


def _summary(scores: NDArray[np.float32]) -> dict[str, Any]:
    return {
        "images": len(scores),
        "median": round(float(np.median(scores)), 4),
        "largest": round(float(scores.max()), 4),
        "outside": round(float((scores > 1).mean()), 4),
    }


def _write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    import json

    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def _provenance(
    plan: TrainingPlan,
    labels: Sequence[str],
    parts: Mapping[str, Sequence[Sample]],
    history: Sequence[EpochRecord],
) -> dict[str, Any]:
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
    fitting = plan.fitting(tuple(labels))
    best = max(
        (record for record in history if record.size == plan.preprocessing.size),
        key=lambda record: record.validation_auroc,
        default=history[-1],
    )
    described = {
        "optimizer": f"AdamW, learning rate {fitting.learning_rate:g} by cosine, weight decay {fitting.weight_decay:g}",
        "batch": fitting.batch,
        "numbers": fitting.precision,
        "stages": ", ".join(f"{share:.0%} at {size} px" for size, share in fitting.stages),
        "epochs": f"{len(history)} of {history[0].images} images; the weights are those after epoch {best.epoch}",
        "minutes": f"{sum(record.seconds for record in history) / 60:.0f}"
        + (f" (limited to {plan.minutes:g}, so that the result depends on the machine)" if plan.minutes else ""),
        "seed": plan.seed,
        "start": "random weights",
    }
    return {**plan.provenance, "fitting": described, "data": counts}
