"""From a Keras model to what a bundle holds: float16 weights, a two-output network for the engine, a head in NumPy."""

import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.cutting import Step, find_feature_layer, logit_network, steps_after, with_feature_map
from model.head import LOG_ODDS, Head, HeadLayer, HeadUnsupported, Pooling
from model.keras_backend import start_converting
from model.network import KerasModel

_DROPPING = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianNoise", "GaussianDropout")


def save_network(network: KerasModel, path: Path, *, half: bool = True) -> None:
    """Save a Keras model without optimizer; the same weights give the same file.

    With ``half`` its weights are float16 data sets: half the size, and it loads as ever. Keras converts to the
    variables' own type on loading; float16 keeps the logits within 1e-4 on DenseNet121.
    """
    with tempfile.TemporaryDirectory() as name:
        full = Path(name) / "full.keras"
        network.save(full, include_optimizer=False)
        with zipfile.ZipFile(full) as archive:
            archive.extractall(name)
        if half:
            _halve(Path(name) / "model.weights.h5")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in ("metadata.json", "config.json", "model.weights.h5"):
                info = zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))  # a fixed date
                info.compress_type = zipfile.ZIP_DEFLATED
                data = (Path(name) / member).read_bytes()
                archive.writestr(info, _undated(data) if member == "metadata.json" else data)


def _undated(metadata: bytes) -> bytes:
    return json.dumps({**json.loads(metadata), "date_saved": "1980-01-01@00:00:00"}).encode()


def _halve(weights: Path) -> None:
    import h5py

    small = weights.with_name("small.h5")
    with h5py.File(weights) as source, h5py.File(small, "w", track_order=True) as target:
        _copy_half(source, target, h5py)
    small.replace(weights)


def extract_head(network: KerasModel, layer_name: str) -> Head:
    """Return what follows a feature map, up to the logits, as a head in NumPy.

    Raises
    ------
    HeadUnsupported
        The layers after the feature map are not pooling or flattening, then Dense, BatchNormalization, Dropout and
        Activation in one chain.
    """
    network = logit_network(network)
    try:
        steps = steps_after(network, find_feature_layer(network, layer_name))
    except ValueError as error:
        raise HeadUnsupported(str(error)) from error
    pooling: Pooling | None = None
    layers: list[HeadLayer] = []
    while steps:
        step = steps.pop(0)
        if step.kind in _DROPPING:
            continue
        if pooling is None:
            pooling = _pooling(step)
        elif [step.kind, *(later.kind for later in steps)] == ["Reshape", "Logsumexp", "Negative"]:
            layers[-1] = replace(layers[-1], activation=f"{LOG_ODDS}{step.after[-1]}")
            steps.clear()
        elif not (step.kind in ("Flatten", "Reshape") and _cells(step.before) == 1 == _cells(step.after)):
            layers.append(_head_layer(step))
    if pooling is None or not layers:
        raise HeadUnsupported(f"nothing that could be a head follows layer {layer_name}")
    return Head(pooling, tuple(layers))


def _pooling(step: Step) -> Pooling:
    """Return how a step makes a vector of the feature map."""
    operation = step.operation
    first = getattr(operation, "data_format", "channels_last") == "channels_first"
    whole = step.kind == "AveragePooling2D" and step.before[:2] == tuple(operation.pool_size)
    if first or not (step.kind in ("GlobalAveragePooling2D", "Flatten") or whole):
        raise HeadUnsupported(
            f"{step.kind} {operation.name} reads the feature map; GlobalAveragePooling2D or Flatten may, channels last"
        )
    return "flatten" if step.kind == "Flatten" else "average"


def _cells(shape: tuple[int | None, ...]) -> int | None:
    """Return how many vectors of features a shape holds; None where that is open."""
    return math.prod(shape[:-1]) if None not in shape[:-1] else None  # type: ignore[arg-type]


def export_network(weights_file: Path, layer_name: str, path: Path, *, half: bool = True, unsafe: bool = False) -> None:
    """Compile a ``.keras`` file to OpenVINO IR with two outputs, the logits and a feature map.

    Keras' own OpenVINO backend does it, in a process of its own because a process has one backend; TensorFlow is not
    needed.

    Parameters
    ----------
    weights_file
        The Keras model.
    layer_name
        The layer with the feature map.
    path
        Of the ``.xml`` file; the ``.bin`` comes beside it.
    half
        Keep the weights in float16.
    unsafe
        Run the code in the file's Lambda layers.

    Raises
    ------
    ValueError
        Keras or OpenVINO cannot convert the model; the message ends with theirs.
    """
    environment = {**os.environ, "KERAS_BACKEND": "openvino"}
    command = [
        sys.executable,
        "-P",
        "-m",
        "model.export",
        str(weights_file),
        layer_name,
        str(path),
        str(int(half)),
        str(int(unsafe)),
    ]
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parent.parent), *filter(None, [environment.get("PYTHONPATH")])]
    )
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{weights_file.name} cannot be converted for OpenVINO: {reason}")


def compile_network(network: KerasModel, layer_name: str, path: Path, *, half: bool) -> None:
    """Do the work of `export_network` in a process whose Keras backend is openvino."""
    import openvino

    with tempfile.TemporaryDirectory() as name:
        full = Path(name) / "network.xml"
        try:
            with_feature_map(network, layer_name).export(str(full), format="openvino", verbose=False)
        except (NotImplementedError, RuntimeError, AttributeError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ValueError(f"{network.name} cannot be converted for OpenVINO: {reason}") from error
        openvino.save_model(openvino.Core().read_model(full), path, compress_to_fp16=half)


def _export_file(weights_file: Path, layer_name: str, path: Path, half: bool, unsafe: bool) -> None:
    import keras

    network = keras.models.load_model(weights_file, compile=False, safe_mode=not unsafe)
    compile_network(network, layer_name, path, half=half)


def golden_tensors(size: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """Return two synthetic inputs, float32 [2, size, size, channels]: soft blobs like lungs, and stripes.

    Nobody's radiograph, and the same on every machine.
    """
    y, x = np.mgrid[0:size, 0:size] / size
    left = np.exp(-(((x - 0.3) / 0.12) ** 2 + ((y - 0.5) / 0.28) ** 2))
    right = np.exp(-(((x - 0.7) / 0.12) ** 2 + ((y - 0.5) / 0.28) ** 2))
    chest = 0.75 - 0.5 * (left + right) + 0.05 * np.sin(40 * y + 6 * x)
    stripes = 0.5 + 0.4 * np.sin(25 * x) * np.cos(11 * y)
    squares = np.clip(np.stack([chest, stripes]), 0, 1)
    tensors = (squares[..., np.newaxis] - np.array(mean)) / np.array(std)
    # float16 values, so that the file is small and the stored input exact
    return np.broadcast_to(tensors, (2, size, size, channels)).astype(np.float16).astype(np.float32)


def _head_layer(step: Step) -> HeadLayer:
    layer, kind = step.operation, step.kind
    pointwise = kind == "Conv2D" and tuple(layer.kernel_size) == (1, 1) and layer.groups == 1
    if kind == "Dense" or (pointwise and _cells(step.before) == 1):
        first, *bias = (np.asarray(value, np.float32) for value in layer.get_weights())
        kernel: NDArray[np.float32] = first.reshape(-1, first.shape[-1])
        offset = bias[0] if bias else np.zeros(kernel.shape[1], np.float32)
        return HeadLayer(kernel, offset, _activation(layer))
    if kind == "BatchNormalization":
        values = {weight.name: np.asarray(weight, np.float64) for weight in layer.weights}
        scale = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + layer.epsilon)
        offset = values.get("beta", 0.0) - values["moving_mean"] * scale
        return HeadLayer(scale.astype(np.float32), np.asarray(offset, np.float32))
    capped = kind == "ReLU" and (layer.max_value is not None or layer.negative_slope or layer.threshold)
    if kind in ("Activation", "ReLU") and not capped:
        features = int(step.after[-1] or 0)
        name = "relu" if kind == "ReLU" else _activation(layer)
        return HeadLayer(np.ones(features, np.float32), np.zeros(features, np.float32), name)
    raise HeadUnsupported(
        f"head layer {layer.name} is {kind}; allowed are Dense, BatchNormalization, Dropout, Activation"
    )


def _activation(layer: KerasModel) -> str:
    return str(getattr(layer.activation, "__name__", layer.activation))


def _copy_half(source: Any, target: Any, h5py: Any) -> None:  # noqa: ANN401 - h5py carries no types
    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy_half(item, target.create_group(name, track_order=True), h5py)
        else:
            values = item[()]
            if values.dtype == np.float32:
                values = _half(values)
            stored = target.create_dataset(name, data=values)
            stored.attrs.update(item.attrs)


def _half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round to float16. What is too small for it becomes zero, which a normalisation's epsilon bears."""
    limit = np.finfo(np.float16).max
    if np.abs(values).max(initial=0.0) > limit:
        raise ValueError(f"a weight of {np.abs(values).max():g} does not fit float16 (at most {limit:g})")
    return values.astype(np.float16)


if __name__ == "__main__":
    start_converting()
    _export_file(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *(bool(int(word)) for word in sys.argv[4:6]))
