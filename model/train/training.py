"""Training a network from images to a complete bundle."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import METRICS_FILE, UNFINISHED_FILE, Bundle
from model.bundle.training_distribution import PERCENTILE, TrainingDistribution, fit_distribution
from model.dataset.given_split import gives_split, split_as_given
from model.dataset.image_inspection import PROBLEMS_FILE, Inspection, inspect_images, reopened, write_problems
from model.dataset.overview import overview
from model.dataset.samples import DatasetInvalid, FileProblem, ReadImageMetadata, Sample, no_metadata
from model.dataset.sources import limited, of_views, read_sources, with_normal_class
from model.dataset.split import check_leaks, check_unseen, read_split, split_by_patient, write_split
from model.dataset.sufficiency import check_parts, choose_labels, counted, few_validated, positives
from model.engine.opening import open_engine
from model.engine.protocol import Engine
from model.evaluate.calibration_fit import FittedCalibration, fit_calibration
from model.evaluate.metrics_with_intervals import RESAMPLES, metrics_by_domain
from model.evaluate.ood_probes import probe_scores, summary
from model.evaluate.predictions import Predictions, calibrate, predict
from model.network.keras_backend import chosen_backend, running_backend
from model.preprocessing.image_files import read_raster
from model.publish.bundle_writer import BundleDescription, write_description, write_network_files
from model.publish.heatmap_scaling import with_fitted_scale
from model.publish.model_card import write_card
from model.train.architecture import EXPLANATION_LAYER, build_network
from model.train.batches import cached
from model.train.exclusive_classes import exclusive_classes, with_logits
from model.train.fitting import HISTORY_FILE, WEIGHTS_FILE, TrainingProgress, fit
from model.train.history import EpochRecord, draw_curves, write_history
from model.train.initial_weights import starting_bundle, starting_digest, starting_preprocessing
from model.train.intended_use import IntendedUse, intended_use
from model.train.plan import TrainingPlan
from model.train.provenance import data_entries, fitting_entries
from model.train.run_folder import begin_run, moved_out, parts_identity, samples_identity

SPLIT_FILE = "split.csv"
RUN_FOLDER, BUNDLE_FOLDER = "training", "bundle"
RESIZED_FILE = "resized.npy"
CURVES_FILE = "curves.png"
DISTRIBUTION_IMAGES = 600
"""Images of each domain of the training part that the training distribution is fitted on; more make no difference."""


ReadImage = Callable[[Path], NDArray[np.float32]]
OnProgress = Callable[[TrainingProgress], None]


def train(
    plan: TrainingPlan,
    read_image: ReadImage = read_raster,
    on_progress: OnProgress = lambda progress: None,
    read_metadata: ReadImageMetadata = no_metadata,
    on_problems: Callable[[Sequence[FileProblem]], None] = lambda problems: None,
    on_notice: Callable[[str], None] = lambda notice: None,
) -> Bundle:
    """Train a network and write a complete bundle: weights, compiled network, thresholds, metrics, curves, model card.

    The state of the run is kept in ``training`` in the output folder until the bundle is complete; a call with the same
    plan resumes it.

    Parameters
    ----------
    plan
        Data and options.
    read_image
        Returns float32 [rows, columns] in [0, 1] of a file.
    on_progress
        Called with the progress of reading images, training and evaluation.
    read_metadata
        Returns the metadata in an image file.
    on_problems
        Called with the problems of single files.
    on_notice
        Called with a sentence for the user.

    Raises
    ------
    DatasetInvalid
        The data are missing, unreadable, leak, or have no label to train on; a part is too small; or the folder holds
        the run of another plan.
    TrainingDiverged
        The loss is nan or infinite.
    BackendUnavailable
        Keras has no backend that can train (`model.network.keras_backend.chosen_backend`).
    """
    plan = replace(plan, preprocessing=starting_preprocessing(plan.start, plan.preprocessing))
    problems: list[FileProblem] = []
    left_out: list[str] = []
    read = read_sources(plan.sources, read_metadata, problems, left_out)
    samples = limited(of_views(read, plan.views), plan.limit)
    for notice in (*left_out, overview(samples)):
        on_notice(notice)
    labels, few = choose_labels(samples, plan.labels, plan.minimum_positives)
    if few:
        on_notice(f"labels with fewer than {plan.minimum_positives} positive images are left out: {counted(few)}")
    classes = exclusive_classes(samples, labels) if plan.exclusive_classes else labels
    run = plan.output / RUN_FOLDER
    run.mkdir(parents=True, exist_ok=True)
    origin = {"backend": chosen_backend("training"), "start": starting_digest(plan.start)}
    begin_run(run, {**plan.fitting(classes).identity, **origin, **samples_identity(samples)})
    inspection = _inspect(plan, samples, run, read_image, on_progress)
    problems += inspection.problems
    write_problems(problems, plan.output / PROBLEMS_FILE)
    on_problems(problems)
    parts, leaks = _parts(plan, list(inspection.samples), on_notice)
    if leaks:
        write_problems([*problems, *leaks], plan.output / PROBLEMS_FILE)
    check_parts(parts, labels)
    for sentence in (*few_validated(parts["validation"]), *intended_use(plan, labels, parts["training"]).unknown):
        on_notice(sentence)
    begin_run(run, parts_identity(parts))
    labelled = {
        part: with_normal_class(members, labels) if plan.exclusive_classes else members
        for part, members in parts.items()
    }
    caches = {part: cached(inspection, labelled[part], classes) for part in ("training", "validation")}
    history = fit(plan.fitting(classes), caches, run, on_progress)
    bundle = make_bundle(plan, labels, classes, parts, run / WEIGHTS_FILE, history, read_image, on_progress)
    shutil.rmtree(run)
    return bundle


def _inspect(
    plan: TrainingPlan, samples: Sequence[Sample], run: Path, read_image: ReadImage, on_progress: OnProgress
) -> Inspection:
    """Inspect every image, or load the inspection of an earlier process of the run."""
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


def _parts(
    plan: TrainingPlan, samples: Sequence[Sample], on_notice: Callable[[str], None]
) -> tuple[dict[str, list[Sample]], list[FileProblem]]:
    """Return the parts of the plan's split file, of the data or of a new split, and images left out as leaks.

    Raises
    ------
    DatasetInvalid
        The parts leak, or the test part has images or patients that the initial weights' bundle was trained on.
    """
    own = starting_bundle(plan.start)
    inherited = own.folder / SPLIT_FILE if own else None
    leaks: list[FileProblem] = []
    notices = [f"split by patient with the seed {plan.seed}"]
    if plan.split_file is not None:
        parts, notices = read_split(plan.split_file, samples), [f"split as in {plan.split_file}"]
    elif gives_split(samples) and not plan.resplit:
        parts, leaks, notices = split_as_given(samples, plan.seed)
    else:
        parts = split_by_patient(samples, plan.seed)
    check_leaks(parts)
    counts = ", ".join(f"{part} {len(members)}" for part, members in parts.items())
    for notice in (*notices, f"images to train on, to validate and to test on: {counts}"):
        on_notice(notice)
    if inherited is not None and inherited.exists():
        try:
            check_unseen(inherited, parts["test"])
        except DatasetInvalid as error:
            raise DatasetInvalid(f"{error}; start with that bundle's split file (--split {inherited})") from error
    return parts, leaks


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
    """Make the bundle of a fitted network: export, calibrate, evaluate with the engine of inference, write the card.

    The bundle is made in the folder of the run, and moved to the output folder when it is complete.

    Parameters
    ----------
    plan, labels
        Options, and the bundle's labels.
    classes
        What the network's outputs are: the labels, or the classes of a softmax.
    parts
        Samples of the three parts.
    weights, history
        Weights file of the fitted network, and the records of its epochs.
    read_image, on_progress
        See `train`.
    """
    folder = plan.output / RUN_FOLDER / BUNDLE_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / UNFINISHED_FILE).write_text("the training has not ended\n", encoding="utf-8")
    size, channels = plan.preprocessing.size, plan.preprocessing.channels
    network = build_network(len(classes), size, channels, architecture=plan.architecture)
    network.load_weights(weights)
    if plan.exclusive_classes:
        network = with_logits(network, classes, labels)
    use = intended_use(plan, labels, parts["training"])
    description = BundleDescription(
        name=plan.name,
        version=plan.version,
        labels=labels,
        preprocessing=plan.preprocessing,
        explanation_layer=EXPLANATION_LAYER,
        ages=use.ages,
        label_ages=use.label_ages,
        views=use.views,
    )
    write_split(parts, folder / SPLIT_FILE)
    write_history(history, folder / HISTORY_FILE)
    draw_curves(history, folder / CURVES_FILE)
    write_network_files(network, description, folder)
    draft = _draft(folder, description, network)
    # in f32: what is fitted here must not depend on the processor that the training ran on
    engine = open_engine(draft, "f32", threads=plan.threads or 1)
    predictions = _predict_parts(engine, draft, parts, read_image, on_progress)
    distribution = _fit_distribution(predictions)
    fitted = fit_calibration(predictions["validation"], labels, plan.domain_ages, plan.seed)
    metrics = _metrics(engine, predictions, distribution, labels, fitted)
    probes = probe_scores(engine, draft.preprocessing, distribution, parts["test"], read_image, plan.seed)
    metrics["distribution"] |= {name: summary(scores) for name, scores in probes.items()}
    _write_metrics(folder, metrics)
    described = replace(description, provenance=_provenance(plan, labels, classes, parts, history, use))
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
    bundle = with_fitted_scale(bundle, engine, parts["validation"], read_image)
    write_card(bundle, CURVES_FILE)
    return moved_out(folder, plan.output)


def _draft(folder: Path, description: BundleDescription, network: Any) -> Bundle:  # noqa: ANN401 - Keras has no types
    """Write a manifest without calibration, so that the engine of inference can be opened to compute the metrics."""
    from model.network.head_extraction import extract_head

    features = int(network.get_layer(description.explanation_layer).output.shape[-1])
    (folder / METRICS_FILE).write_text("{}\n", encoding="utf-8")
    thresholds, temperatures = dict.fromkeys(description.labels, 0.5), dict.fromkeys(description.labels, 1.0)
    head = extract_head(network, description.explanation_layer).as_table()
    distribution = TrainingDistribution.unknown(features)
    return write_description(folder, description, head, distribution, thresholds, temperatures)


def _predict_parts(
    engine: Engine,
    bundle: Bundle,
    parts: Mapping[str, Sequence[Sample]],
    read_image: ReadImage,
    on_progress: OnProgress,
) -> dict[str, Predictions]:
    subsets = {part: list(members) for part, members in parts.items()}
    by_domain: dict[str, list[Sample]] = {}
    for sample in subsets["training"]:
        by_domain.setdefault(sample.domain, []).append(sample)
    subsets["training"] = [s for members in by_domain.values() for s in limited(members, DISTRIBUTION_IMAGES)]
    total, done = sum(map(len, subsets.values())), 0

    def on_image() -> None:
        nonlocal done
        done += 1
        on_progress(TrainingProgress("measuring", done, total))

    return {part: predict(engine, bundle, members, read_image, on_image) for part, members in subsets.items()}


def _fit_distribution(predictions: Mapping[str, Predictions]) -> TrainingDistribution:
    training = {name: part.pooled for name, part in predictions["training"].by_domain().items()}
    validation = {name: part.pooled for name, part in predictions["validation"].by_domain().items()}
    missing = sorted(set(training) - set(validation))
    if missing:
        raise DatasetInvalid(f"the validation part has no image of {', '.join(missing)}: more patients are needed")
    return fit_distribution(training, validation)


def _metrics(
    engine: Engine,
    predictions: Mapping[str, Predictions],
    distribution: TrainingDistribution,
    labels: Sequence[str],
    fitted: FittedCalibration,
) -> dict[str, Any]:
    test = predictions["test"]
    scores = {f"test part, {name}": summary(distribution.score(part.pooled)) for name, part in test.by_domain().items()}
    return {
        "test": {
            "engine": engine.name,
            "precision": engine.precision,
            "resamples": RESAMPLES,
            "images": len(test.logits),
            "domains": metrics_by_domain(
                test, calibrate(test, labels, fitted.everyone, fitted.groups, distribution), labels
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
    use: IntendedUse,
) -> dict[str, Any]:
    bundle = starting_bundle(plan.start)
    named = f"the weights file {plan.start.name}" if plan.start else "random weights"
    start = f"the bundle {bundle.name} {bundle.version} ({bundle.digest[:12]})" if bundle else named
    fitted = fitting_entries(plan.fitting(tuple(labels)), start, history, running_backend())
    outputs = {"answer": "softmax" if plan.exclusive_classes else "sigmoid", "classes": list(classes)}
    members = [sample for part in parts.values() for sample in part]
    left_out = {label: count for label, count in positives(members).items() if label not in labels and not plan.labels}
    if left_out:
        fitted["labels left out"] = f"{counted(left_out)} (fewer than {plan.minimum_positives} positive images)"
    validated = Counter(sample.domain for sample in parts["validation"])
    limits = ", ".join(f"{domain} {count}" for domain, count in sorted(validated.items()))
    fitted |= {
        **use.entries,
        "out-of-distribution limit": f"{PERCENTILE:g}th percentile of validation images: {limits}",
    }
    weaknesses = [*plan.provenance.get("weaknesses", []), *(text[0].upper() + text[1:] + "." for text in use.unknown)]
    return {
        **plan.provenance,
        **outputs,
        **({"weaknesses": weaknesses} if weaknesses else {}),
        "ages_known": bool(use.ages),
        "fitting": fitted,
        "data": data_entries(labels, parts),
    }
