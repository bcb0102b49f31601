"""From a Keras model to what a bundle holds: float16 weights, a two-output network for the engine, a head in NumPy."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.cutting import find_feature_layer, logit_network, with_feature_map
from model.head import Head, HeadLayer, HeadUnsupported, Pooling
from model.network import KerasModel


def save_half_precision(network: KerasModel, path: Path) -> None:
    """Save a Keras model without optimizer, its weights as float16 data sets: half the size, and it loads as ever.

    Keras converts to the variables' own type on loading; float16 keeps the logits within 1e-4 on DenseNet121.
    """
    import h5py  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as name:
        full = Path(name) / "full.keras"
        network.save(full, include_optimizer=False)
        with zipfile.ZipFile(full) as archive:
            archive.extractall(name)
        weights = Path(name) / "model.weights.h5"
        small = Path(name) / "small.h5"
        with h5py.File(weights) as source, h5py.File(small, "w", track_order=True) as target:
            _copy_half(source, target, h5py)
        small.replace(weights)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in ("metadata.json", "config.json", "model.weights.h5"):
                # a fixed date: the same weights give the same file, and the same digest
                info = zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, (Path(name) / member).read_bytes())


def extract_head(network: KerasModel, layer_name: str) -> Head:
    """Return what follows a feature map, up to the logits, as a head in NumPy.

    Raises
    ------
    HeadUnsupported
        The layers after the feature map are not pooling or flattening, then Dense, BatchNormalization, Dropout and
        Activation in one chain.
    """
    network = logit_network(network)
    layer = find_feature_layer(network, layer_name)
    pooling: Pooling | None = None
    layers: list[HeadLayer] = []
    while True:
        followers = [node.operation for node in layer._outbound_nodes if node.operation in network.layers]
        if not followers:
            break
        if len(followers) > 1:
            raise HeadUnsupported(f"layer {layer.name} feeds {len(followers)} layers; the head must be one chain")
        layer = followers[0]
        kind = type(layer).__name__
        if pooling is None:
            if kind not in ("GlobalAveragePooling2D", "Flatten"):
                raise HeadUnsupported(
                    f"{kind} {layer.name} reads the feature map; GlobalAveragePooling2D or Flatten may"
                )
            pooling = "average" if kind == "GlobalAveragePooling2D" else "flatten"
        elif kind not in ("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout"):
            layers.append(_head_layer(layer, kind))
    if pooling is None or not layers:
        raise HeadUnsupported(f"nothing that could be a head follows layer {layer_name}")
    return Head(pooling, tuple(layers))


def export_network(weights_file: Path, layer_name: str, path: Path) -> None:
    """Compile a ``.keras`` file to OpenVINO IR with float16 weights and two outputs, the logits and a feature map.

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

    Raises
    ------
    ValueError
        Keras or OpenVINO cannot convert the model; the message ends with theirs.
    """
    environment = {**os.environ, "KERAS_BACKEND": "openvino"}
    command = [sys.executable, "-P", "-m", "model.export", str(weights_file), layer_name, str(path)]
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parent.parent), *filter(None, [environment.get("PYTHONPATH")])]
    )
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{weights_file.name} cannot be converted for OpenVINO: {reason}")


def _export_here(weights_file: Path, layer_name: str, path: Path) -> None:
    """Do the work of `export_network` in a process whose Keras backend is openvino."""
    import keras
    import openvino

    network = with_feature_map(keras.models.load_model(weights_file, compile=False), layer_name)
    with tempfile.TemporaryDirectory() as name:
        full = Path(name) / "network.xml"
        network.export(str(full), format="openvino", verbose=False)
        openvino.save_model(openvino.Core().read_model(full), path, compress_to_fp16=True)


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


def _head_layer(layer: KerasModel, kind: str) -> HeadLayer:
    if kind == "Dense":
        kernel, *bias = (np.asarray(value, np.float32) for value in layer.get_weights())
        offset = bias[0] if bias else np.zeros(kernel.shape[1], np.float32)
        return HeadLayer(kernel, offset, _activation(layer))
    if kind == "BatchNormalization":
        values = {weight.name: np.asarray(weight, np.float64) for weight in layer.weights}
        scale = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + layer.epsilon)
        offset = values.get("beta", 0.0) - values["moving_mean"] * scale
        return HeadLayer(scale.astype(np.float32), np.asarray(offset, np.float32))
    if kind in ("Activation", "ReLU"):
        features = int(layer.output.shape[-1])
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
    _export_here(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
