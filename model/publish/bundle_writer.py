"""Writing of a bundle's folder: weights, compiled network, head, distribution, golden output, manifest, checksums."""

import hashlib
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import (
    CARD_FILE,
    DESCRIPTION_FILE,
    DISTRIBUTION_FILE,
    GOLDEN_FILE,
    HEAD_FILE,
    METRICS_FILE,
    NETWORK_DATA_FILE,
    NETWORK_FILE,
    WEIGHTS_FILE,
    Bundle,
    load_bundle,
    model_digest,
)
from model.bundle.calibration import Calibration
from model.bundle.labels import label_of
from model.bundle.manifest import manifest_text
from model.bundle.training_distribution import TrainingDistribution
from model.explain.head import Head, HeadUnsupported
from model.network.keras_types import KerasModel
from model.preprocessing.tensor import Preprocessing


@dataclass(frozen=True)
class BundleDescription:
    """The entries of a bundle's manifest that do not follow from its network; attributes as those of `Bundle`."""

    name: str
    version: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    explanation_layer: str
    ages: tuple[tuple[float, float], ...] = ()
    label_ages: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    views: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    statement: str = "AI result - not for diagnosis"


def write_network_files(
    network: KerasModel, description: BundleDescription, folder: Path, *, half: bool = True, unsafe: bool = False
) -> None:
    """Write weights, compiled network, head and golden output of a float32 Keras model into a folder.

    A head without a closed form is not written. Where such a model cannot be converted for OpenVINO, the bundle has no
    compiled network, and needs the keras engine.

    Parameters
    ----------
    network
        float32 [n, size, size, channels] -> [n, labels], logits or sigmoids.
    description
        Labels, preprocessing, explanation layer.
    folder
        Of the bundle; created if missing.
    half
        Round the weights to float16; False for imported networks, whose outputs must not change.
    unsafe
        Run the code in the network's Lambda layers on conversion.

    Raises
    ------
    ValueError
        The model's output is not [n, labels], or its head has a closed form but it cannot be converted.
    """
    import keras

    from model.network.graph_cutting import with_feature_map
    from model.network.keras_saving import save_network
    from model.network.openvino_export import compile_network, export_network, golden_tensors

    _check_output(network, description.labels)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (NETWORK_FILE, NETWORK_DATA_FILE, HEAD_FILE):
        (folder / name).unlink(missing_ok=True)
    save_network(network, folder / WEIGHTS_FILE, half=half)
    rounded = keras.models.load_model(folder / WEIGHTS_FILE, compile=False) if half else network
    head = closed_form_head(rounded, description.explanation_layer)
    try:
        if not half and keras.backend.backend() == "openvino":
            compile_network(network, description.explanation_layer, folder / NETWORK_FILE, half=False)
        else:
            export_network(
                folder / WEIGHTS_FILE, description.explanation_layer, folder / NETWORK_FILE, half=half, unsafe=unsafe
            )
    except ValueError:
        if head is not None:
            raise
    if head is not None:
        write_arrays(folder / HEAD_FILE, head.to_arrays())
    spec = description.preprocessing
    tensors = golden_tensors(spec.size, spec.channels, spec.mean, spec.std)
    two_outputs = with_feature_map(rounded, description.explanation_layer)
    logits, activations = (np.asarray(value, np.float32) for value in two_outputs.predict_on_batch(tensors))
    golden: dict[str, NDArray[Any]] = {
        "tensors": tensors.astype(np.float16),
        "logits": logits,
        "activations": activations.astype(np.float16) if half else activations,
    }
    write_arrays(folder / GOLDEN_FILE, golden)


def closed_form_head(network: KerasModel, layer_name: str) -> Head | None:
    """Return the layers after a feature map as a head in NumPy, or None where they have no closed form."""
    from model.network.head_extraction import extract_head

    try:
        return extract_head(network, layer_name)
    except HeadUnsupported:
        return None


def write_description(
    folder: Path,
    description: BundleDescription,
    head_table: Mapping[str, Any],
    distribution: TrainingDistribution,
    thresholds: Mapping[str, float],
    temperatures: Mapping[str, float],
    biases: Mapping[str, float] | None = None,
    groups: Sequence[Calibration] = (),
) -> Bundle:
    """Write the distribution, and ``model.toml`` with the SHA-256 of every file; return the loaded bundle.

    Parameters
    ----------
    folder
        Of the bundle, with its network's files.
    description, head_table, distribution
        Entries of the manifest, the head's entry (`describe_head`), and the training distribution.
    thresholds, temperatures, biases
        The calibration of all patients, by label; omitted biases are 0.
    groups
        Calibrations of training domains.

    Raises
    ------
    BundleInvalid
        The result is no valid bundle.
    """
    write_arrays(folder / DISTRIBUTION_FILE, distribution.to_arrays())
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir()) if _has_checksum(path)}
    spec = description.preprocessing
    digest = model_digest(files[WEIGHTS_FILE], description.labels, head_table, files.get(HEAD_FILE, ""), spec)
    table = {
        "model": {
            "name": description.name,
            "version": description.version,
            "digest": digest,
            "statement": description.statement,
        },
        "intended": {
            "ages": [list(limits) for limits in description.ages],
            "views": list(description.views),
            "label_ages": {
                label: [list(limits) for limits in ranges] for label, ranges in description.label_ages.items()
            },
        },
        "preprocessing": spec.as_table(),
        "head": {**head_table, "explanation_layer": description.explanation_layer},
        "distribution": {"domains": list(distribution.domains)},
        "labels": [
            {
                "name": name,
                "threshold": round(float(thresholds[name]), 9),
                "temperature": round(float(temperatures[name]), 6),
                "bias": round(float((biases or {}).get(name, 0.0)), 6),
                "codes": [asdict(code) for code in label_of(name).codes],
            }
            for name in description.labels
        ],
        "calibration": [group.as_table(description.labels) for group in groups],
        "provenance": description.provenance,
        "files": files,
    }
    write_table(folder, table)
    return load_bundle(folder, unfinished=True)


def rewrite_description(
    folder: Path,
    everyone: Calibration,
    groups: Sequence[Calibration],
    changed: Sequence[str] = (METRICS_FILE,),
) -> Bundle:
    """Replace the calibrations in ``model.toml``, and the SHA-256 of the files `changed`; return the loaded bundle.

    The heatmap scale is removed: maps are divided by the temperatures, so it was fitted to other maps.

    Raises
    ------
    BundleInvalid
        Another file was changed too.
    """
    table = tomllib.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    for entry, temperature, bias in zip(table["labels"], everyone.temperatures, everyone.biases, strict=True):
        entry |= {
            "threshold": round(everyone.thresholds[entry["name"]], 6),
            "temperature": round(float(temperature), 6),
            "bias": round(float(bias), 6),
        }
    names = [entry["name"] for entry in table["labels"]]
    table["calibration"] = [group.as_table(names) for group in groups]
    table.pop("heatmap", None)
    table["files"] |= {name: file_digest(folder / name) for name in changed if name in table["files"]}
    write_table(folder, table)
    return load_bundle(folder)


def renew_manifest_checksum(folder: Path) -> Bundle:
    """Renew the checksum of an intentionally edited ``model.toml``, in the current format; return the loaded bundle.

    All other checks remain.

    Raises
    ------
    BundleInvalid
        Another file was changed, or the manifest is inconsistent.
    """
    write_table(folder, load_bundle(folder, edited=True).description)
    return load_bundle(folder)


def write_table(folder: Path, table: Mapping[str, Any]) -> None:
    """Write ``model.toml`` with its checksum, atomically."""
    unfinished = folder / f".{DESCRIPTION_FILE}.unfinished"
    unfinished.write_text(manifest_text(table), encoding="utf-8")
    unfinished.replace(folder / DESCRIPTION_FILE)


@contextmanager
def changed_copy(folder: Path, output: Path) -> Iterator[Path]:
    """Yield a copy of a bundle's folder to change; after the block it becomes ``output``, which may be that folder.

    After a kill ``output`` is the previous bundle; or, between the two renames, both bundles are complete in hidden
    folders. A mixture of both is impossible.
    """
    output = output.resolve()  # "." has no name
    unfinished, before = (output.parent / f".{output.name}.{state}" for state in ("unfinished", "before"))
    for leftover in (unfinished, before):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(folder, unfinished)
    try:
        yield unfinished
        if output.exists():
            output.rename(before)
        unfinished.rename(output)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a compressed ``.npz`` with reproducible bytes; `numpy.savez_compressed` stores the time."""
    import io
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, buffer.getvalue())


FILE_NAMES: Sequence[str] = (
    WEIGHTS_FILE,
    NETWORK_FILE,
    NETWORK_DATA_FILE,
    HEAD_FILE,
    DISTRIBUTION_FILE,
    GOLDEN_FILE,
    METRICS_FILE,
    "split.csv",
    "history.csv",
)
"""The files with a checksum. The model card and the curves have none: people may edit them."""


def _check_output(network: KerasModel, labels: Sequence[str]) -> None:
    from model.network.graph_cutting import final_activation

    shape = tuple(network.outputs[0].shape)
    if shape != (None, len(labels)):
        raise ValueError(f"model {network.name} has an output of shape {shape} for {len(labels)} labels")
    if final_activation(network) == "softmax":
        raise ValueError(
            f"model {network.name} ends in a softmax, whose classes are mutually exclusive; "
            "a logit or a sigmoid for each label is needed"
        )


def _has_checksum(path: Path) -> bool:
    return path.name in FILE_NAMES and path.name != CARD_FILE


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
