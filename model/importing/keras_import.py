"""From a network of others to a bundle: labels, preprocessing, explanation layer, golden output, card."""

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
from model.explain.head import Head, HeadUnsupported
from model.importing.ood_reference import fit_reference
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
from model.publish.imported_model_card import write_import_card

AGREEMENT = 1e-4
"""How far a bundle's probabilities may lie from those of the network that it was made of."""

DEFAULT_SIZE = 224
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ImportPlan:
    """What a person says of a network that the file does not.

    Attributes
    ----------
    labels
        One for each number that the network answers, in its order; an empty one leaves its number out.
    value_range
        See `model.preprocessing.pixel_range.normalisation`; None: what the network's first layers say, else 0..1.
    size, channels
        None: what the network's input says.
    layer
        With the feature map that is explained; None: the last one.
    thresholds
        Of labels; others have 0.5.
    answer
        ``sigmoid`` or ``softmax``, for a network that ends in plain logits.
    no_finding
        Classes that are no finding; None: those that are called so (`model.bundle.labels.NO_FINDING_NAMES`).
    ages, views
        What the network was trained for; empty: any.
    unsafe
        See `model.network.keras_files.load_keras_file`.
    command
        With which this was asked for, for the card.
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
            raise ValueError(f"the name {self.name!r} will not do; letters, digits, '.', '_' and '-' will, 64 at most")


@dataclass(frozen=True)
class Imported:
    """A bundle that was made of a network of others, and what a person should know of it."""

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
    """Make a bundle of a Keras network, and see that it answers as the network does.

    Parameters
    ----------
    network
        One image in, one vector of logits or probabilities out.
    plan
        What is said of it.
    source
        The file that it came in, for the bundle's provenance.
    folder
        Of the new bundle.
    kind
        What the file is, in words.
    reference
        Images like those that it was trained on, float32 [rows, columns] in 0..1; `fit_reference` learns from them what
        is unlike.

    Raises
    ------
    ImportRefused
        The network is no such classifier, or the plan does not fit it; the message says what would.
    """
    try:
        flat = inlined(network)
        notes: list[str] = []
        spec = _preprocessing(flat, plan, notes)
        answer = output_activation(flat, plan.answer)
        kept = _kept(flat, answer, plan, notes)
        labels = tuple(plan.labels[index] for index in kept)
        labelled = label_network(flat, answer, kept)
        layer = find_feature_layer(labelled, plan.layer).name
        unknown = sorted(set(plan.thresholds) - set(labels))
        if unknown:
            raise ValueError(f"a threshold is given for {', '.join(unknown)}; the labels are {', '.join(labels)}")
    except ValueError as error:
        raise ImportRefused(source, str(error)) from error
    head = _head(labelled, layer, notes)
    if not plan.thresholds:
        notes.append("thresholds are 0.5, chosen on no data: `evaluate` shows what they mean on yours")
    notes.append("probabilities are the network's own, calibrated on no data")
    description = BundleDescription(
        plan.name, plan.version, labels, spec, layer, ages=plan.ages, views=plan.views,
        provenance=_provenance(network, flat, plan, source, kind, answer, notes),
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
            bundle = described(fit_reference(open_engine(bundle, "f32"), spec, reference))
    except (ValueError, EngineUnsuitable) as error:
        raise ImportRefused(source, str(error)) from error
    _compare(bundle, flat, answer, kept, source)
    write_import_card(bundle)
    return Imported(bundle, tuple(notes))


def _preprocessing(network: KerasModel, plan: ImportPlan, notes: list[str]) -> Preprocessing:
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ValueError(
            f"the network has {len(network.inputs)} inputs and {len(network.outputs)} outputs; one image in and one "
            "vector out can be read: make a keras.Model of these two and save it"
        )
    shape = tuple(network.outputs[0].shape)
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(f"the network answers with shape {shape}; a vector of numbers [n, labels] is needed")
    shape = tuple(network.inputs[0].shape)
    if len(shape) != 4 or shape[3] not in (1, 3, None):
        raise ValueError(f"the network reads inputs of shape {shape}; [n, rows, columns, 1 or 3] can be read")
    sides = {side for side in shape[1:3] if side is not None}
    if len(sides) > 1:
        raise ValueError(f"the network reads {shape[1]} x {shape[2]} pixels; a square can be read")
    size, channels = next(iter(sides), plan.size or DEFAULT_SIZE), shape[3] or plan.channels or 3
    for what, asked, found in (("size", plan.size, size), ("channels", plan.channels, channels)):
        if asked not in (None, found):
            raise ValueError(f"{what} is said to be {asked}; the network's input {shape} has {found}")
    value_range = plan.value_range
    if value_range is None:
        value_range = _inner_range(network) or "0..1"
        notes.append(f"pixel values are brought to {value_range}, which nobody said; --range says otherwise")
    mean, std = normalisation(value_range, channels)
    return Preprocessing(size, plan.geometry, plan.interpolation, channels, mean, std)


def _inner_range(network: KerasModel) -> str | None:
    """Return the range that a network expects if its own first layers scale: Keras' do so from 0..255."""
    for operation in first_operations(network):
        kind = type(operation).__name__
        if kind == "Rescaling" and float(np.max(operation.scale)) < 0.05:
            return "0..255"
        if kind == "Normalization" and float(np.max(np.asarray(operation.mean))) > 2:
            return "0..255"
    return None


def _kept(network: KerasModel, answer: OutputActivation, plan: ImportPlan, notes: list[str]) -> list[int]:
    """Return the indices of the network's outputs that are labels."""
    number, labels = int(network.outputs[0].shape[1]), plan.labels
    if len(labels) != number:
        binary = "; of one number, name what it speaks for" if number == 1 else ""
        raise ValueError(
            f"the network answers {number} numbers and {len(labels)} labels were given "
            f"({', '.join(labels) or 'none'}); one for each is needed, in its order{binary}"
        )
    named = [label for label in labels if label]
    if len(set(named)) != len(named):
        raise ValueError(f"labels {', '.join(named)} are not all different")
    stray = sorted(set(plan.no_finding or ()) - set(labels))
    if stray:
        raise ValueError(f"{', '.join(stray)} is said to be no finding; the labels are {', '.join(named)}")
    nothing = plan.no_finding if plan.no_finding is not None else [n for n in named if says_no_finding(n)]
    kept = [index for index, label in enumerate(labels) if label and label not in nothing]
    if not kept:
        raise ValueError(f"no label is left of {', '.join(named) or 'none'}; name what the network finds")
    if nothing:
        competes = " and still competes with the other classes" if answer == "softmax" else ""
        notes.append(f"{', '.join(nothing)} is no finding: it is not reported{competes}")
    return kept


def _head(network: KerasModel, layer: str, notes: list[str]) -> Head | None:
    try:
        return extract_head(network, layer)
    except HeadUnsupported as error:
        notes.append(f"no closed form explains this network ({error}); to read with it, {KERAS_ADVICE}")
        return None


def _compare(bundle: Bundle, network: KerasModel, answer: OutputActivation, kept: Sequence[int], source: Path) -> None:
    """See that the bundle's engine answers as the network did before anything was changed."""
    if not bundle.has_compiled_network:
        return
    spec = bundle.preprocessing
    tensors = golden_tensors(spec.size, spec.channels, spec.mean, spec.std)
    expected = probabilities(np.asarray(network.predict_on_batch(tensors), np.float64), network, answer)[:, list(kept)]
    engine = open_engine(bundle, "f32")
    found = bundle.everyone.probabilities(engine.run(tensors).logits)
    distance = float(np.abs(found - expected).max())
    if not distance <= AGREEMENT:
        raise ImportRefused(
            source, f"compiled, its probabilities differ by {distance:.2g} from the file's ({AGREEMENT:g} is allowed)"
        )


def probabilities(answers: NDArray[np.float64], network: KerasModel, answer: OutputActivation) -> NDArray[np.float64]:
    """Return the probabilities [n, outputs] that a network's own answers mean."""
    from model.network.graph_cutting import final_activation

    ending = final_activation(network)
    if ending in ("sigmoid", "softmax"):
        return answers
    if answer == "softmax":
        powers = np.exp(answers - answers.max(axis=1, keepdims=True))
        result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return result
    return sigmoid(answers)


def _provenance(
    network: KerasModel,
    flat: KerasModel,
    plan: ImportPlan,
    source: Path,
    kind: str,
    answer: OutputActivation,
    notes: Sequence[str],
) -> dict[str, Any]:
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "architecture": str(network.name),
        "weights": sum(math.prod(weight.shape) for weight in flat.weights),
        "source": {"file": source.name, "kind": kind, "sha256": sha256},
        "answer": answer,
        "classes": list(plan.labels),
        "command": plan.command,
        "notes": list(notes),
    }
