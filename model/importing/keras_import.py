"""Import of a Keras network as a bundle: labels, preprocessing, explanation layer, golden output, model card."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import Bundle, describe_head
from model.bundle.calibration import sigmoid
from model.bundle.labels import says_no_finding
from model.bundle.training_distribution import TrainingDistribution
from model.engine.opening import open_engine
from model.engine.protocol import KERAS_ADVICE, EngineUnsuitable
from model.evaluate.heatmap_scale_fit import PeakDensities
from model.explain.head import Head, HeadUnsupported
from model.importing.ood_reference import fit_reference
from model.inference.predictor import Predictor
from model.network.graph_cutting import find_feature_layer, first_operations
from model.network.graph_flattening import inlined
from model.network.head_extraction import extract_head
from model.network.keras_files import ImportRefused
from model.network.keras_types import KerasModel
from model.network.label_logits import OutputActivation, label_network, output_activation
from model.network.openvino_export import golden_tensors
from model.preprocessing.pixel_range import normalisation
from model.preprocessing.tensor import Geometry, Interpolation, Preprocessing
from model.publish.bundle_writer import BundleDescription, write_description, write_network_files
from model.publish.heatmap_scaling import with_scale
from model.publish.imported_model_card import write_import_card

AGREEMENT = 1e-4
"""Largest allowed difference between the probabilities of the bundle and of the imported network."""

DEFAULT_SIZE = 224
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ImportPlan:
    """The information about a network that its file does not hold.

    Attributes
    ----------
    name, version
        Of the bundle.
    labels
        One for each output of the network, in its order; an empty label removes its output.
    geometry, interpolation
        See `Preprocessing`.
    value_range
        See `model.preprocessing.pixel_range.normalisation`; None: 0..255 where the network's own first layers scale
        from it, else 0..1.
    size, channels
        None: those of the network's input.
    layer
        Layer whose feature map Grad-CAM explains; None: the last one.
    thresholds
        By label; 0.5 for the others.
    answer
        ``sigmoid`` or ``softmax``, for a network of plain logits.
    no_finding
        Classes that are not findings; None: those with a name in `model.bundle.labels.NO_FINDING_NAMES`.
    ages, views
        Age ranges and view positions that the network was trained for; empty: any.
    unsafe
        See `model.network.keras_files.load_keras_file`.
    command
        The command line, for the model card.

    Raises
    ------
    ValueError
        The name is not allowed.
    """

    name: str
    labels: tuple[str, ...]
    version: str = "1"
    geometry: Geometry = "squash"
    interpolation: Interpolation = "area"
    value_range: str | None = None
    size: int | None = None
    channels: int | None = None
    layer: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    answer: str | None = None
    no_finding: tuple[str, ...] | None = None
    ages: tuple[tuple[float, float], ...] = ()
    views: tuple[str, ...] = ()
    unsafe: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"the name is {self.name!r}; allowed are 1 to 64 letters, digits, '.', '_' and '-', a letter or digit "
                "first"
            )


@dataclass(frozen=True)
class Imported:
    """An imported bundle, and notes on assumptions and limits for the user."""

    bundle: Bundle
    notes: tuple[str, ...]


def import_network(
    network: KerasModel,
    plan: ImportPlan,
    source: Path,
    folder: Path,
    kind: str,
    reference: Iterable[NDArray[np.float32]] | None = None,
) -> Imported:
    """Make a bundle of a Keras network, and compare its probabilities with the network's.

    Parameters
    ----------
    network
        A classifier with one image as input and one vector of logits or probabilities as output.
    plan
        Labels, preprocessing and further information.
    source
        The network's file, for the bundle's provenance.
    folder
        Of the new bundle.
    kind
        Kind of the file in words, for the provenance.
    reference
        Images like those it was trained on, float32 [rows, columns] in [0, 1], to fit the training distribution on;
        None: the out-of-distribution check is unavailable.

    Raises
    ------
    ImportRefused
        The network is no such classifier, or the plan does not fit it; the message says what is allowed.
    """
    try:
        flat = inlined(network)
        notes: list[str] = []
        spec = _preprocessing(flat, plan, notes)
        activation = output_activation(flat, plan.answer)
        kept = _kept(flat, activation, plan, notes)
        labels = tuple(plan.labels[index] for index in kept)
        labelled = label_network(flat, activation, kept)
        layer = find_feature_layer(labelled, plan.layer).name
        unknown = sorted(set(plan.thresholds) - set(labels))
        if unknown:
            raise ValueError(f"a threshold is given for {', '.join(unknown)}; the labels are {', '.join(labels)}")
    except ValueError as error:
        raise ImportRefused(source, str(error)) from error
    head = _head(labelled, layer, notes)
    if not plan.thresholds:
        notes.append("thresholds are the default of 0.5, not fitted to data: `evaluate` shows their effect on yours")
    notes.append("probabilities are the network's own, not calibrated")
    description = BundleDescription(
        plan.name, plan.version, labels, spec, layer, ages=plan.ages, views=plan.views,
        provenance=_provenance(network, flat, plan, source, kind, activation, notes),
    )  # fmt: skip
    features = int(labelled.get_layer(layer).output.shape[-1])

    def described(distribution: TrainingDistribution) -> Bundle:
        thresholds = {label: plan.thresholds.get(label, 0.5) for label in labels}
        head_table, ones = describe_head(head, layer), dict.fromkeys(labels, 1.0)
        return write_description(folder, description, head_table, distribution, thresholds, ones)

    try:
        write_network_files(labelled, description, folder, half=False, unsafe=plan.unsafe)
        bundle = described(TrainingDistribution.unknown(features))
        if reference is not None:
            engine = open_engine(bundle, "f32")
            if head is None:
                bundle = described(fit_reference(engine, spec, reference))
            else:
                peaks = PeakDensities(Predictor(bundle, engine))
                bundle = described(fit_reference(engine, spec, peaks.watching(reference)))
                bundle = with_scale(bundle, peaks.scale("reference images"))
        if not bundle.heatmap.labels:
            remedy = "" if reference is not None else "; --reference fits one"
            notes.append(f"heatmaps are drawn on the program's default scale, not fitted to this network{remedy}")
    except (ValueError, EngineUnsuitable) as error:
        raise ImportRefused(source, str(error)) from error
    _compare(bundle, flat, activation, kept, source)
    write_import_card(bundle)
    return Imported(bundle, tuple(notes))


def _preprocessing(network: KerasModel, plan: ImportPlan, notes: list[str]) -> Preprocessing:
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ValueError(
            f"the network has {len(network.inputs)} inputs and {len(network.outputs)} outputs; one image as input and "
            "one vector as output are supported: make a keras.Model of these two and save it"
        )
    shape = tuple(network.outputs[0].shape)
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(f"the network has an output of shape {shape}; [n, labels] is needed")
    shape = tuple(network.inputs[0].shape)
    if len(shape) != 4 or shape[3] not in (1, 3, None):
        raise ValueError(f"the network has an input of shape {shape}; [n, rows, columns, 1 or 3] is supported")
    sides = {side for side in shape[1:3] if side is not None}
    if len(sides) > 1:
        raise ValueError(f"the network has an input of {shape[1]} x {shape[2]} pixels; only squares are supported")
    size, channels = next(iter(sides), plan.size or DEFAULT_SIZE), shape[3] or plan.channels or 3
    for what, declared, actual in (("size", plan.size, size), ("channels", plan.channels, channels)):
        if declared not in (None, actual):
            raise ValueError(f"{what} is given as {declared}; the network's input {shape} has {actual}")
    value_range = plan.value_range
    if value_range is None:
        value_range = _own_scaling(network) or "0..1"
        notes.append(f"pixel values are scaled to {value_range}, an assumption; --range sets another range")
    mean, std = normalisation(value_range, channels)
    return Preprocessing(size, plan.geometry, plan.interpolation, channels, mean, std)


def _own_scaling(network: KerasModel) -> str | None:
    """Return 0..255 where the network's first layers scale pixel values from that range, else None."""
    for operation in first_operations(network):
        kind = type(operation).__name__
        if kind == "Rescaling" and float(np.max(operation.scale)) < 0.05:
            return "0..255"
        if kind == "Normalization" and float(np.max(np.asarray(operation.mean))) > 2:
            return "0..255"
    return None


def _kept(network: KerasModel, activation: OutputActivation, plan: ImportPlan, notes: list[str]) -> list[int]:
    """Return the indices of the network's outputs that are labels."""
    number, labels = int(network.outputs[0].shape[1]), plan.labels
    if len(labels) != number:
        binary = "; for one output, the label that a high value means" if number == 1 else ""
        raise ValueError(
            f"the network has {number} outputs and {len(labels)} labels were given "
            f"({', '.join(labels) or 'none'}); one for each is needed, in its order{binary}"
        )
    named = [label for label in labels if label]
    if len(set(named)) != len(named):
        raise ValueError(f"labels {', '.join(named)} are not all different")
    unknown = sorted(set(plan.no_finding or ()) - set(labels))
    if unknown:
        raise ValueError(f"no finding is given as {', '.join(unknown)}; the labels are {', '.join(named)}")
    no_finding = plan.no_finding if plan.no_finding is not None else [n for n in named if says_no_finding(n)]
    kept = [index for index, label in enumerate(labels) if label and label not in no_finding]
    if not kept:
        raise ValueError(f"no label is left of {', '.join(named) or 'none'}; name at least one finding")
    if no_finding:
        competes = " and still competes with the other classes" if activation == "softmax" else ""
        notes.append(f"{', '.join(no_finding)} is no finding: it is not reported{competes}")
    return kept


def _head(network: KerasModel, layer: str, notes: list[str]) -> Head | None:
    try:
        return extract_head(network, layer)
    except HeadUnsupported as error:
        notes.append(f"Grad-CAM has no closed form for this network ({error}); to use it, {KERAS_ADVICE}")
        return None


def _compare(
    bundle: Bundle, network: KerasModel, activation: OutputActivation, kept: Sequence[int], source: Path
) -> None:
    """Raise ImportRefused where the engine's probabilities for the golden inputs differ from the imported network's."""
    if not bundle.has_compiled_network:
        return
    spec = bundle.preprocessing
    tensors = golden_tensors(spec.size, spec.channels, spec.mean, spec.std)
    expected = probabilities(np.asarray(network.predict_on_batch(tensors), np.float64), network, activation)[
        :, list(kept)
    ]
    engine = open_engine(bundle, "f32")
    actual = bundle.everyone.probabilities(engine.run(tensors).logits)
    difference = float(np.abs(actual - expected).max())
    if not difference <= AGREEMENT:
        raise ImportRefused(
            source, f"compiled, its probabilities differ by {difference:.2g} from the file's ({AGREEMENT:g} is allowed)"
        )


def probabilities(
    outputs: NDArray[np.float64], network: KerasModel, activation: OutputActivation
) -> NDArray[np.float64]:
    """Return probabilities, float64 [n, outputs], of a network's outputs, which may be plain logits."""
    from model.network.graph_cutting import final_activation

    if final_activation(network) in ("sigmoid", "softmax"):
        return outputs
    if activation == "softmax":
        exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        result: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return result
    return sigmoid(outputs)


def _provenance(
    network: KerasModel,
    flat: KerasModel,
    plan: ImportPlan,
    source: Path,
    kind: str,
    activation: OutputActivation,
    notes: Sequence[str],
) -> dict[str, Any]:
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "architecture": str(network.name),
        "weights": sum(math.prod(weight.shape) for weight in flat.weights),
        "source": {"file": source.name, "kind": kind, "sha256": sha256},
        "answer": activation,
        "classes": list(plan.labels),
        "command": plan.command,
        "notes": list(notes),
    }
