"""Functions for notebooks: load a model, preprocess a radiograph, compute a Grad-CAM heatmap."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import DESCRIPTION_FILE, load_bundle
from model.engine.gradient_explainer import GradientExplainer
from model.explain.gradcam import closed_form_maps
from model.explain.head import HeadUnsupported
from model.network.graph_cutting import find_feature_layer
from model.network.graph_flattening import inlined, is_nested
from model.network.head_extraction import extract_head
from model.network.keras_backend import start_any_backend
from model.network.keras_files import load_keras_file
from model.network.keras_types import KerasModel
from model.preprocessing.image_files import read_raster
from model.preprocessing.tensor import Preprocessing, prepare

_MODEL_SUFFIXES = (".keras", ".h5")


def load_model(path: str | Path) -> KerasModel:
    """Load a Keras model, on TensorFlow where that is installed, else on JAX, PyTorch or OpenVINO.

    Parameters
    ----------
    path
        A ``.keras`` or ``.h5`` file, or the folder of a bundle.

    Returns
    -------
    keras.Model, not compiled. ``model.predict(image)`` takes float32 [n, size, size, channels] and returns float32
    [n, labels], uncalibrated: of a bundle's network the logits, in the order of its labels; of another network the
    output of its last layer, mostly probabilities. ``cxr-triage analyse`` returns calibrated probabilities with their
    thresholds.

    Raises
    ------
    ImportRefused
        The file is damaged, holds weights without a network, or carries code (Lambda layers).
    FileNotFoundError
        The path does not exist.
    ValueError
        It is neither a bundle nor a ``.keras`` or ``.h5`` file.
    BundleInvalid
        The bundle is damaged.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / DESCRIPTION_FILE).is_file():
            raise ValueError(f"folder {path} is no bundle: it holds no {DESCRIPTION_FILE}")
        path = load_bundle(path).weights_path
    elif path.suffix.lower() not in _MODEL_SUFFIXES:
        raise ValueError(f"{path} is no model; allowed are .keras, .h5 and the folder of a bundle")
    start_any_backend()
    return load_keras_file(path)


def preprocess_xray(path: str | Path, preprocessing: Preprocessing | None = None) -> NDArray[np.float32]:
    """Read a PNG or JPEG radiograph and return the network's input tensor.

    Parameters
    ----------
    path
        The image file. DICOM files are read by ``cxr-triage analyse``.
    preprocessing
        That of a bundle, ``load_bundle(folder).preprocessing``; by default that of the demonstration bundle.

    Returns
    -------
    float32 [1, size, size, channels], by default [1, 224, 224, 3].

    Raises
    ------
    UnreadableImage
        The file is no grayscale PNG or JPEG image.
    """
    return prepare(read_raster(Path(path)), preprocessing or Preprocessing()).tensor[np.newaxis]


def generate_gradcam(
    model: KerasModel, image: NDArray[np.float32], layer_name: str | None = None, label: int | None = None
) -> NDArray[np.float32]:
    """Return the Grad-CAM heatmap of one output of a model, computed on the logit.

    Parameters
    ----------
    model
        What `load_model` returned.
    image
        float32 [1, size, size, channels] or [size, size, channels], what `preprocess_xray` returned.
    layer_name
        The layer with the feature map, in a nested network too; by default the last layer that has one.
    label
        Index of the output to explain; by default the highest output.

    Returns
    -------
    float32 [h, w] of the feature map's size, rows and columns as in the image, zero or more: each cell's contribution
    to the logit. ``cv2.resize(heatmap, (columns, rows))`` brings it to the size of the image. Not divided by its
    maximum, so that a negative image does not look like a positive one.

    Raises
    ------
    ValueError
        The layer has no feature map (the message lists those that do), the output does not depend on it, or the image
        does not fit the model.
    """
    batch = _batch(image, model.input_shape)
    flat, explainers = _flat_network(model)
    layer_name = find_feature_layer(flat, layer_name).name
    if layer_name not in explainers:
        explainers[layer_name] = GradientExplainer(flat, layer_name)
    explainer = explainers[layer_name]
    output = explainer.run(batch)
    index = _output_index(output.logits[0], label)
    try:
        maps = closed_form_maps(extract_head(flat, layer_name), output.activations[0])
    except HeadUnsupported:
        maps = explainer.maps(batch[0], output.activations[0])
    return np.maximum(maps.contribution(index), 0)


_FlatNetwork = tuple[KerasModel, dict[str, GradientExplainer]]
_CACHE = "_cxr_triage_explainers"


def _flat_network(model: KerasModel) -> _FlatNetwork:
    """Return the flat network and its explainers by layer, cached on the model: compiling takes longer than running."""
    cached: _FlatNetwork | None = vars(model).get(_CACHE)
    if cached is None:
        cached = (inlined(model) if is_nested(model) else model, {})
        object.__setattr__(model, _CACHE, cached)  # Keras' own __setattr__ would track it as a layer
    return cached


def _batch(image: NDArray[np.float32], expected: Sequence[int | None]) -> NDArray[np.float32]:
    batch = image[np.newaxis] if image.ndim == 3 else image
    fits = batch.ndim == 4 and all(
        want in (None, have) for want, have in zip(expected[1:], batch.shape[1:], strict=True)
    )
    if not fits or len(batch) != 1:
        raise ValueError(
            f"an image of shape {image.shape} does not fit; one of [1, {', '.join(map(str, expected[1:]))}] does"
        )
    return np.asarray(batch, np.float32)


def _output_index(logits: NDArray[np.float32], label: int | None) -> int:
    if label is None:
        return int(np.argmax(logits))
    if not 0 <= label < len(logits):
        raise ValueError(f"label is {label}; the model has {len(logits)} outputs, 0 to {len(logits) - 1}")
    return label
