"""Saving of a network as a `.keras` file: float16 weights, no optimizer, reproducible bytes."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.network.keras_types import KerasModel


def save_network(network: KerasModel, path: Path, *, half: bool = True) -> None:
    """Save a Keras model without its optimizer; the same weights give the same bytes.

    Parameters
    ----------
    network
        A Keras model.
    path
        The ``.keras`` file.
    half
        Store the weights as float16, half the size; Keras converts them to the variables' dtype on loading. It changes
        the logits of DenseNet121 by less than 1e-4.

    Raises
    ------
    ValueError
        A weight exceeds the range of float16.
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
    """Round to float16. Values below its range become zero; in variances a normalisation's epsilon absorbs that."""
    limit = np.finfo(np.float16).max
    if np.abs(values).max(initial=0.0) > limit:
        raise ValueError(f"a weight of {np.abs(values).max():g} does not fit float16 (at most {limit:g})")
    return values.astype(np.float16)
