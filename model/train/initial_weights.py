"""Initial weights of a training, and which layers are trained."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.bundle.bundle import DESCRIPTION_FILE, WEIGHTS_FILE, Bundle, BundleInvalid, load_bundle
from model.bundle.labels import label_key
from model.dataset.samples import DatasetInvalid
from model.network.keras_files import ImportRefused, load_keras_file
from model.network.keras_types import KerasModel
from model.preprocessing.tensor import Preprocessing
from model.train.architecture import EXPLANATION_LAYER, Architecture

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of Keras' DenseNet weights (keras.applications.densenet, mode "torch")."""

_BLOCKS: dict[Architecture, tuple[int, ...]] = {
    "densenet121": (0, 6, 12, 24, 16),
    "densenet169": (0, 6, 12, 32, 32),
    "densenet201": (0, 6, 12, 48, 32),
    "tiny": (0, 0, 0),
}
"""Dense layers in conv1, conv2, ... (Huang et al. 2017, table 1)."""


def starting_bundle(start: Path | None) -> Bundle | None:
    """Return the bundle at `start`, or None where `start` is a weights file or None.

    Raises
    ------
    DatasetInvalid
        There is no such file or folder, or the folder is no valid bundle.
    """
    if start is None or start.is_file():
        return None
    if not (start / DESCRIPTION_FILE).is_file():
        raise DatasetInvalid(f"training cannot start from {start}: it is neither a weights file nor a bundle's folder")
    try:
        return load_bundle(start)
    except BundleInvalid as error:
        raise DatasetInvalid(f"training cannot start from {start}: {error}") from error


def starting_digest(start: Path | None) -> str:
    """Return the digest of the initial weights, independent of their path; empty for random weights."""
    bundle = starting_bundle(start)
    if start is None:
        return ""
    return bundle.digest if bundle else hashlib.sha256(start.read_bytes()).hexdigest()


def starting_preprocessing(start: Path | None, own: Preprocessing) -> Preprocessing:
    """Return the preprocessing that the initial weights were trained with; `own` for random weights."""
    if start is None:
        return own
    bundle = starting_bundle(start)
    return bundle.preprocessing if bundle else replace(own, channels=3, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def load_start(network: KerasModel, start: Path | None, labels: tuple[str, ...]) -> str:
    """Load the initial weights into a network; return a description of them.

    Of a bundle all layers are loaded; of the last layer those outputs whose label both have. Of a weights file of
    keras.applications (``.h5``, without top) all but the head.

    Raises
    ------
    DatasetInvalid
        The weights are of another network; the message says which layer differs.
    """
    if start is None:
        return "random weights"
    bundle = starting_bundle(start)
    if bundle is None:
        _load_file(network, start)
        return f"the weights file {start.name}"
    _load_bundle(network, bundle, labels)
    return f"the bundle {bundle.name} {bundle.version} ({bundle.digest[:12]})"


def set_learning(network: KerasModel, trained: str) -> None:
    """Make the layers from a block on trainable and freeze those before it.

    Frozen batch normalisations keep their statistics.

    Parameters
    ----------
    network
        A network of `build_network`.
    trained
        ``all``, ``head``, or a block or layer such as ``conv5`` or ``conv4_block12``.

    Raises
    ------
    ValueError
        There is no such block; the message lists those there are.
    """
    names = [layer.name for layer in network.layers]
    if trained == "all":
        first = 0
    elif trained == "head":
        first = names.index(EXPLANATION_LAYER) + 1
    else:
        matching = [index for index, name in enumerate(names) if name == trained or name.startswith(f"{trained}_")]
        if not matching:
            blocks = dict.fromkeys(m[0] for name in names if (m := re.match(r"conv\d+(?=_)", name)))
            raise ValueError(
                f"the network has no block {trained!r}; allowed are head, all, {', '.join(blocks)}, "
                "and blocks within, such as conv5_block9"
            )
        first = matching[0]
    for index, layer in enumerate(network.layers):
        layer.trainable = index >= first


def check_block(architecture: Architecture, trained: str) -> None:
    """Raise a ValueError unless the architecture has this block; the network is not built for it.

    Unlike `set_learning` it accepts blocks only, not single layers.
    """
    blocks = _BLOCKS[architecture]
    if trained in ("all", "head", *(f"conv{number + 1}" for number in range(len(blocks)))):
        return
    match = re.fullmatch(r"conv(\d+)_block([1-9]\d*)", trained)
    if match and 1 <= int(match.group(1)) <= len(blocks) and int(match.group(2)) <= blocks[int(match.group(1)) - 1]:
        return
    within = ", and blocks within, such as conv5_block9" if any(blocks) else ""
    raise ValueError(
        f"{architecture} has no block {trained!r} to train from; allowed are head, all, "
        f"{', '.join(f'conv{number + 1}' for number in range(len(blocks)))}{within}"
    )


def _load_file(network: KerasModel, start: Path) -> None:
    import keras

    backbone = keras.Model(network.inputs, network.get_layer(EXPLANATION_LAYER).output)
    try:
        backbone.load_weights(start)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DatasetInvalid(
            f"training cannot start from {start}, which holds weights of another network: {reason[0]}"
        ) from error


def _load_bundle(network: KerasModel, bundle: Bundle, labels: tuple[str, ...]) -> None:
    try:
        source = load_keras_file(bundle.folder / WEIGHTS_FILE)
    except ImportRefused as error:
        raise DatasetInvalid(f"training cannot start from {bundle.name}: {error}") from error
    classes = bundle.description.get("provenance", {}).get("classes", [])
    weights_of = {layer.name: layer.get_weights() for layer in source.layers}
    for layer in network.layers:
        own, weights = layer.get_weights(), weights_of.get(layer.name, [])
        if layer.name == "logits" and len(weights) == 2 and weights[0].shape[0] == own[0].shape[0]:
            classes = classes if len(classes) == weights[0].shape[1] else bundle.label_names
            names = [label_key(name) for name in classes]
            for index, label in enumerate(labels):
                if label_key(label) in names:
                    other = names.index(label_key(label))
                    own[0][:, index], own[1][index] = weights[0][:, other], weights[1][other]
            layer.set_weights(own)
        elif [np.shape(w) for w in weights] == [np.shape(w) for w in own]:
            layer.set_weights(weights)
        else:
            raise DatasetInvalid(
                f"training cannot start from {bundle.name}, which is another network: layer {layer.name} has weights "
                f"of shape {[np.shape(w) for w in own]} here and {[np.shape(w) for w in weights]} there"
            )
