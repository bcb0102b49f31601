"""Training a network from images to a complete bundle."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import METRICS_FILE, UNFINISHED_FILE, Bundle
from model.bundle.calibration import AgeRanges
from model.bundle.training_distribution import TrainingDistribution, fit_distribution
from model.dataset.image_inspection import PROBLEMS_FILE, Inspection, inspect_images, reopened, write_problems
from model.dataset.samples import DatasetInvalid, FileProblem, ReadFacts, Sample, Source, no_facts
from model.dataset.sources import excluding, limited, of_views, read_sources
from model.dataset.split import check_leaks, check_unseen, read_split, split_by_patient, write_split
from model.dataset.sufficiency import check_parts, choose_labels, counted, positives
from model.engine.opening import open_engine
from model.engine.protocol import Engine
from model.evaluate.calibration_fit import FittedCalibration, fit_calibration
from model.evaluate.metrics_with_intervals import RESAMPLES, figures_of_merit
from model.evaluate.ood_probes import probe_scores, summary
from model.evaluate.predictions import Measured, judge, measure
from model.network.keras_backend import chosen_backend, running_backend
from model.preprocessing.image_files import read_raster
from model.publish.bundle_writer import BundleDescription, write_description, write_network_files
from model.publish.model_card import write_card
from model.train.architecture import EXPLANATION_LAYER, build_network
from model.train.batches import cached
from model.train.exclusive_classes import exclusive_classes, with_logits
from model.train.fitting import HISTORY_FILE, WEIGHTS_FILE, FittingOptions, FittingPlan, TrainingProgress, fit
from model.train.history import EpochRecord, draw_curves, write_history
from model.train.initial_weights import starting_bundle, starting_digest, starting_preprocessing
from model.train.plan_checks import check_above_zero, check_at_least
from model.train.provenance import data_entries, fitting_entries
from model.train.run_folder import begin_run, moved_out, parts_identity, samples_identity
from model.train.schedule import Stage

SPLIT_FILE = "split.csv"
RUN_FOLDER, BUNDLE_FOLDER = "training", "bundle"
RESIZED_FILE = "resized.npy"
CURVES_FILE = "curves.png"
DISTRIBUTION_IMAGES = 600
"""Images a domain of the training part that the distribution is fitted on; more change nothing."""


@dataclass(frozen=True)
class TrainingPlan(FittingOptions):
    """What to train on what, and what the bundle says of itself.

    The preprocessing becomes that of `start`. Where labels exclude one another, images with none of them are of
    the class ``Normal``.

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
        What the bundle is made for; empty: any. Images of other views are left out of training.
    split_file
        Divides the images; None: they are divided anew.
    head_epochs, trained, fine_tuning
        So many of the epochs teach the head alone, its base frozen; the others all layers from `trained` on, at so much
        of the learning rate. Without `head_epochs` there is one stage, at the full rate.
    stages
        Instead of the above.
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
    split_file: Path | None = None
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
        check_above_zero(self, ("fine_tuning", "smallest_domain"))
        check_at_least(self, {"minimum_positives": 1})
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels are {', '.join(self.labels)}; each may be named once")
        self.fitting(self.labels or ("any",))

    def fitting(self, labels: tuple[str, ...]) -> FittingPlan:
        """Return how the network is fitted."""
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


ReadImage = Callable[[Path], NDArray[np.float32]]
OnProgress = Callable[[TrainingProgress], None]


def train(
    plan: TrainingPlan,
    read_image: ReadImage = read_raster,
    on_progress: OnProgress = lambda progress: None,
    read_facts: ReadFacts = no_facts,
    on_problems: Callable[[Sequence[FileProblem]], None] = lambda problems: None,
    on_notice: Callable[[str], None] = lambda notice: None,
) -> Bundle:
    """Train a network and write a complete bundle: weights, compiled network, thresholds, metrics, curves, card.

    What a run has done lies in ``training`` in the output folder until the bundle is complete. The same plan goes on
    from there.

    Raises
    ------
    DatasetInvalid
        The data are missing, unreadable, leak, or have no label to train on; a part cannot be trained on, calibrated
        with or judged by; or another plan's run lies in the folder.
    TrainingDiverged
        The loss is no number any more.
    BackendUnavailable
        The backend of Keras is missing, or is none that can train (`model.network.keras_backend.chosen_backend`).
    """
    plan = replace(plan, preprocessing=starting_preprocessing(plan.start, plan.preprocessing))
    problems: list[FileProblem] = []
    samples = limited(of_views(read_sources(plan.sources, read_facts, problems), plan.views), plan.limit)
    labels, few = choose_labels(samples, plan.labels, plan.minimum_positives)
    if few:
        on_notice(f"labels with fewer than {plan.minimum_positives} positive images are left out: {counted(few)}")
    classes = exclusive_classes(samples, labels) if plan.excluding else labels
    run = plan.output / RUN_FOLDER
    run.mkdir(parents=True, exist_ok=True)
    begun = {"backend": chosen_backend("training"), "start": starting_digest(plan.start)}
    begin_run(run, {**plan.fitting(classes).identity, **begun, **samples_identity(samples)})
    found = _inspected(plan, samples, run, read_image, on_progress)
    problems += found.problems
    write_problems(problems, plan.output / PROBLEMS_FILE)
    on_problems(problems)
    parts = _parts(plan, list(found.samples))
    check_parts(parts, labels)
    begin_run(run, parts_identity(parts))
    used = {part: excluding(members, labels) if plan.excluding else members for part, members in parts.items()}
    caches = {part: cached(found, used[part], classes) for part in ("training", "validation")}
    history = fit(plan.fitting(classes), caches, run, on_progress)
    bundle = make_bundle(plan, labels, classes, parts, run / WEIGHTS_FILE, history, read_image, on_progress)
    shutil.rmtree(run)
    return bundle


def _inspected(
    plan: TrainingPlan, samples: Sequence[Sample], run: Path, read_image: ReadImage, on_progress: OnProgress
) -> Inspection:
    """Read every image, unless an earlier process of the run did."""
    earlier = reopened(samples, run / RESIZED_FILE)
    if earlier is not None:
        on_progress(TrainingProgress("reading images", len(samples), len(samples)))
        return earlier
    done = 0

    def on_image() -> None:
        nonlocal done
        done += 1
        on_progress(TrainingProgress("reading images", done, len(samples)))

    return inspect_images(samples, plan.preprocessing, read_image, run / RESIZED_FILE, on_image)


def _parts(plan: TrainingPlan, samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Divide the images; keep apart what the bundle that is started from kept apart."""
    own = starting_bundle(plan.start)
    inherited = own.folder / SPLIT_FILE if own else None
    if plan.split_file is not None:
        parts = read_split(plan.split_file, samples)
    else:
        parts = split_by_patient(samples, plan.seed)
    check_leaks(parts)
    if inherited is not None and inherited.exists():
        try:
            check_unseen(inherited, parts["test"])
        except DatasetInvalid as error:
            raise DatasetInvalid(f"{error}; start with that bundle's split file (--split {inherited})") from error
    return parts


def make_bundle(
    plan: TrainingPlan,
    labels: tuple[str, ...],
    classes: tuple[str, ...],
    parts: Mapping[str, Sequence[Sample]],
    weights: Path,
    history: Sequence[EpochRecord],
    read_image: ReadImage = read_raster,
    on_progress: OnProgress = lambda progress: None,
) -> Bundle:
    """Make the bundle of a fitted network, judged by the engine that will serve it.

    ``classes`` are what the network's scores are of: the labels, or what a softmax is over. The bundle is made in the
    folder of the run. The folder of the plan gets it complete, or not at all.
    """
    folder = plan.output / RUN_FOLDER / BUNDLE_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / UNFINISHED_FILE).write_text("the training has not ended\n", encoding="utf-8")
    size, channels = plan.preprocessing.size, plan.preprocessing.channels
    network = build_network(len(classes), size, channels, architecture=plan.architecture)
    network.load_weights(weights)
    if plan.excluding:
        network = with_logits(network, classes, labels)
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
    probes = probe_scores(engine, draft.preprocessing, distribution, parts["test"], read_image, plan.seed)
    metrics["distribution"] |= {name: summary(scores) for name, scores in probes.items()}
    _write_metrics(folder, metrics)
    described = replace(description, provenance=_provenance(plan, labels, classes, parts, history))
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
    return moved_out(folder, plan.output)


def _draft(folder: Path, description: BundleDescription, network: Any) -> Bundle:  # noqa: ANN401 - Keras has no types
    """Write a first description, with nothing measured yet, so that what is measured is the engine that will serve."""
    from model.network.head_extraction import extract_head

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
    scores = {f"test part, {name}": summary(distribution.score(part.pooled)) for name, part in test.by_domain().items()}
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


def _write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    import json

    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")


def _provenance(
    plan: TrainingPlan,
    labels: Sequence[str],
    classes: Sequence[str],
    parts: Mapping[str, Sequence[Sample]],
    history: Sequence[EpochRecord],
) -> dict[str, Any]:
    bundle = starting_bundle(plan.start)
    named = f"the weights file {plan.start.name}" if plan.start else "random weights"
    start = f"the bundle {bundle.name} {bundle.version} ({bundle.digest[:12]})" if bundle else named
    fitted = fitting_entries(plan.fitting(tuple(labels)), start, history, running_backend())
    answer = {"answer": "softmax" if plan.excluding else "sigmoid", "classes": list(classes)}
    members = [sample for part in parts.values() for sample in part]
    left_out = {label: count for label, count in positives(members).items() if label not in labels and not plan.labels}
    if left_out:
        fitted["labels left out"] = f"{counted(left_out)} (fewer than {plan.minimum_positives} positive images)"
    return {**plan.provenance, **answer, "fitting": fitted, "data": data_entries(labels, parts)}
