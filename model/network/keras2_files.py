"""Translation of networks saved by Keras 2 to configurations of Keras 3, which refuses most of them untranslated.

Observed with Keras 3.15 and files of tf_keras 2.21: layer names with a slash, which all of Keras 2's DenseNets have;
renamed or removed arguments; a Sequential without an input; mixed precision policies.
"""

import inspect
import json
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.network.keras_types import KerasModel

_Config = dict[str, Any]

_RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}
_OF_TRAINING = ("_initializer", "_regularizer", "_constraint", "implementation", "seed", "rng_type")
"""Suffixes of arguments that do not affect inference."""

_WITHOUT_EFFECT: tuple[object, ...] = (None, False, 1, {}, [])
"""Values with which an argument unknown to Keras 3 has no effect: `groups` of 1, `ragged` of False."""

_EVERY_LAYERS = frozenset({"name", "trainable", "dtype", "activity_regularizer"})
_CONTAINERS = {"Functional": "Functional", "Model": "Functional", "Sequential": "Sequential"}
_NORMALISATION = ("gamma", "beta", "moving_mean", "moving_variance")


class NotTranslatable(ValueError):
    """A Keras 2 network has an argument without an equivalent in Keras 3; the message names layer, argument, value."""


def is_keras2(path: Path) -> bool:
    """Return whether a ``.h5`` or ``.keras`` file was written by Keras 1 or 2, by the version recorded in it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if "metadata.json" not in archive.namelist():
                return False
            version = json.loads(archive.read("metadata.json")).get("keras_version")
    else:
        import h5py

        with h5py.File(path, "r") as file:
            version = file.attrs.get("keras_version", "1")
    text = version.decode() if isinstance(version, bytes) else str(version)
    return text.split(".")[0] in ("1", "2")


@contextmanager
def translated_copy(path: Path, config: _Config) -> Iterator[Path]:
    """Yield the path of a temporary copy of a file, with its network's configuration translated to Keras 3.

    Raises
    ------
    NotTranslatable
        A layer has no equivalent.
    """
    text = json.dumps(translated(config))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
                for member in source.namelist():
                    target.writestr(member, text if member == "config.json" else source.read(member))
        else:
            import h5py

            shutil.copyfile(path, copy)
            with h5py.File(copy, "r+") as file:
                file.attrs["model_config"] = text
        yield copy


def translated(network: _Config) -> _Config:
    """Return a Keras 2 network's configuration translated to Keras 3.

    Raises
    ------
    NotTranslatable
        A layer has an argument that Keras 3 does not know, with a value that affects inference.
    """
    kind, config = network["class_name"], network["config"]
    if isinstance(config, list):  # Keras before 2.3 wrote a Sequential as a list of layers
        config = {"name": "sequential", "layers": config}
    nested = {_own_name(each): each["class_name"] for each in config["layers"] if _is_network(each)}
    layers = [_layer(each, nested) for each in config["layers"]]
    if kind == "Sequential":
        _add_input_layer(layers)
    inner = {**config, "layers": layers}
    for key in ("input_layers", "output_layers"):
        if key in inner:
            # node indices are those of Keras 2 for nested Functional networks, but not for Sequential ones
            tensors = _references(inner[key], [name for name, of in nested.items() if of == "Sequential"])
            # a list of one tensor would make a network whose output is a list
            inner[key] = tensors[0] if len(tensors) == 1 else tensors
    inner.pop("build_input_shape", None)
    kind = _CONTAINERS.get(kind, kind)
    module = "keras.src.models.functional" if kind == "Functional" else "keras"  # as Keras 3 itself writes it
    return {"module": module, "class_name": kind, "config": inner, **_kept(network)}


def check_order_of_weights(network: KerasModel, path: Path) -> None:
    """Check that Keras 3 assigned the weights of batch normalisations as the file names them.

    Keras 3 loads a Keras 2 file's weights by their order. The four vectors of a normalisation have the same shape, so a
    different order would not be noticed.

    Raises
    ------
    NotTranslatable
        The order differs; the message names the layer.
    """
    import h5py

    if zipfile.is_zipfile(path):  # a .keras file stores the weights of each layer separately
        return
    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        saved = [
            [_last(name) for name in _texts(group[layer].attrs, "weight_names")]
            for layer in _texts(group.attrs, "layer_names")
        ]
    saved = [names for names in saved if names]
    own = [layer for layer in network.layers if layer.weights]
    for layer, names in zip(own, saved, strict=False):
        expected = [_last(each.name) for each in (*layer.trainable_weights, *layer.non_trainable_weights)]
        for stored, assigned in zip(names, expected, strict=False):
            if stored != assigned and {stored, assigned} & set(_NORMALISATION):
                raise NotTranslatable(f"layer {layer.name} stores {stored} where Keras 3 expects {assigned}")


def _own_name(entry: _Config) -> str:
    config = entry["config"]
    return str(entry.get("name") or (config.get("name") if isinstance(config, dict) else ""))


def _is_network(entry: _Config) -> bool:
    config = entry["config"]
    return entry["class_name"] in _CONTAINERS and (isinstance(config, list) or "layers" in config)


def _layer(entry: _Config, nested: Collection[str]) -> _Config:
    """Return the translated entry of a layer or nested network; ``nested`` are the nested networks at its level."""
    if _is_network(entry):
        made = translated(entry)
    else:
        kind = entry["class_name"]
        config = _arguments(kind, dict(entry["config"]))
        made = {"module": "keras.layers", "class_name": kind, "config": config, **_kept(entry)}
    if "name" in made["config"]:
        made["config"]["name"] = _name(made["config"]["name"])
    if "name" in made:
        made["name"] = _name(made["name"])
    if "inbound_nodes" in made:
        made["inbound_nodes"] = _references(made["inbound_nodes"], nested)
    return made


def _kept(entry: _Config) -> _Config:
    return {key: entry[key] for key in ("name", "inbound_nodes") if key in entry}


def _arguments(kind: str, config: _Config) -> _Config:
    """Return a layer's arguments by their names in Keras 3."""
    import keras

    config["dtype"] = _type_name(config.get("dtype"))
    for (layer, old), new in _RENAMED.items():
        if kind == layer and old in config:
            config[new] = config.pop(old)
    if kind == "InputLayer":
        shape = config.get("batch_input_shape") or config.get("batch_shape")
        return {"batch_shape": shape, "dtype": config["dtype"], "name": config.get("name", "input")}
    axis = config.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    made = getattr(keras.layers, kind, None)
    if made is None or kind == "Lambda":  # unknown layers are reported by Keras, Lambda layers by `load_keras_file`
        return config
    parameters = inspect.signature(made.__init__).parameters
    takes_more = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    known = {*parameters, "batch_input_shape", *(_EVERY_LAYERS if takes_more else ())}
    for key in [key for key in config if key not in known]:
        value = config.pop(key)
        if not (key.endswith(_OF_TRAINING) or value in _WITHOUT_EFFECT):
            raise NotTranslatable(f"layer {config.get('name')} ({kind}) has {key} = {value!r}, which Keras 3 cannot do")
    return config


def _type_name(dtype: Any) -> str:  # noqa: ANN401 - JSON
    """Return the dtype that a layer computes in; float32 for mixed precision, whose weights are float32."""
    if isinstance(dtype, dict):
        dtype = dtype.get("config", {}).get("name")
    return "float32" if dtype is None or str(dtype).startswith("mixed_") else str(dtype)


def _add_input_layer(layers: list[_Config]) -> None:
    """Insert an InputLayer before a Sequential's first layer where that only has an input shape."""
    shape = layers[0]["config"].get("batch_input_shape") if layers else None
    for layer in layers:
        layer["config"].pop("batch_input_shape", None)
    if shape is not None and layers[0]["class_name"] != "InputLayer":
        config = {"batch_shape": shape, "dtype": "float32", "name": f"{layers[0]['config'].get('name', 'first')}_input"}
        layers.insert(0, {"module": "keras.layers", "class_name": "InputLayer", "config": config})


def _name(name: str) -> str:
    return name.replace("/", "_")  # Keras 3 builds paths from layer names


def _references(node: Any, networks: Collection[str]) -> Any:  # noqa: ANN401 - JSON
    """Return references ``[name, node, tensor, ...]`` to layers with their names and node indices in Keras 3.

    In Keras 2 a nested network had a node of its own before that of its first call: indices are one higher.
    """
    if not isinstance(node, list):
        return node
    if len(node) >= 3 and isinstance(node[0], str) and all(isinstance(number, int) for number in node[1:3]):
        return [_name(node[0]), node[1] - (node[0] in networks), *node[2:]]
    return [_references(each, networks) for each in node]


def _texts(attributes: Any, name: str) -> list[str]:  # noqa: ANN401 - h5py carries no types
    """Return a list of names from HDF5 attributes, where long lists are split into numbered chunks."""
    if name in attributes:
        chunks = [attributes[name]]
    else:
        numbers = (number for number in range(len(attributes)) if f"{name}{number}" in attributes)
        chunks = [attributes[f"{name}{number}"] for number in numbers]
    return [each.decode() if isinstance(each, bytes) else str(each) for chunk in chunks for each in chunk]


def _last(name: str) -> str:
    return name.split("/")[-1].split(":")[0]
