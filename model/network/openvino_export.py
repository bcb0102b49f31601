"""Conversion of Keras models to OpenVINO IR with two outputs, logits and feature map; golden inputs."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.network.graph_cutting import with_feature_map
from model.network.keras_backend import start_converting
from model.network.keras_types import KerasModel


def export_network(weights_file: Path, layer_name: str, path: Path, *, half: bool = True, unsafe: bool = False) -> None:
    """Convert a ``.keras`` file to OpenVINO IR with two outputs, the logits and a feature map.

    Keras' OpenVINO backend converts, in a separate process, since a process has only one backend.

    Parameters
    ----------
    weights_file
        The Keras model.
    layer_name
        The layer with the feature map.
    path
        Of the ``.xml`` file; the ``.bin`` is written beside it.
    half
        Store the weights as float16.
    unsafe
        Run the code in the file's Lambda layers.

    Raises
    ------
    ValueError
        Keras or OpenVINO cannot convert the model; the message ends with their error.
    """
    environment = {**os.environ, "KERAS_BACKEND": "openvino"}
    command = [
        sys.executable,
        "-P",
        "-m",
        "model.network.openvino_export",
        str(weights_file),
        layer_name,
        str(path),
        str(int(half)),
        str(int(unsafe)),
    ]
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[2]), *filter(None, [environment.get("PYTHONPATH")])]
    )
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{weights_file.name} cannot be converted for OpenVINO: {reason}")


def compile_network(network: KerasModel, layer_name: str, path: Path, *, half: bool) -> None:
    """Convert as `export_network` does, in this process, whose Keras backend must be openvino."""
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
    """Return two synthetic inputs, float32 [2, size, size, channels]: dark blobs like lungs, and a pattern of stripes.

    Synthetic, so that no patient's image is in a bundle, and the same on every machine.

    Parameters
    ----------
    size, channels, mean, std
        Of the network's `Preprocessing`.
    """
    y, x = np.mgrid[0:size, 0:size] / size
    left = np.exp(-(((x - 0.3) / 0.12) ** 2 + ((y - 0.5) / 0.28) ** 2))
    right = np.exp(-(((x - 0.7) / 0.12) ** 2 + ((y - 0.5) / 0.28) ** 2))
    chest = 0.75 - 0.5 * (left + right) + 0.05 * np.sin(40 * y + 6 * x)
    stripes = 0.5 + 0.4 * np.sin(25 * x) * np.cos(11 * y)
    resized = np.clip(np.stack([chest, stripes]), 0, 1)
    tensors = (resized[..., np.newaxis] - np.array(mean)) / np.array(std)
    # rounded to float16, in which they are stored
    return np.broadcast_to(tensors, (2, size, size, channels)).astype(np.float16).astype(np.float32)


if __name__ == "__main__":
    start_converting()
    _export_file(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *(bool(int(word)) for word in sys.argv[4:6]))
