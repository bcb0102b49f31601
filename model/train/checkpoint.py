"""A training run on disk: killed at any moment, it goes on at the step of its last checkpoint."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.network.keras_types import KerasModel
from model.train.history import EpochRecord

CHECKPOINT_FILE = "checkpoint.npz"


@dataclass
class RunState:
    """Where a run is; with the variables of network and optimizer, all that the next step depends on.

    Attributes
    ----------
    epoch, step
        Finished epochs, and finished steps of the one under way.
    steps, stretch_began
        Finished steps in all, and those before the present stretch of stages.
    stage
        Of the epoch under way.
    losses
        Of its steps.
    elapsed
        Seconds of training, over all processes.
    averaged
        How often weights were added to the average.
    best
        The best score so far.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    stretch_began: int = 0
    stage: int = -1
    losses: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    averaged: int = 0
    best: float | None = None
    finished: bool = False
    history: list[EpochRecord] = field(default_factory=list)


def save_checkpoint(folder: Path, state: RunState, network: KerasModel, average: Sequence[NDArray[Any]] | None) -> None:
    """Write state and variables in one file, which replaces the last one as a whole or not at all."""
    arrays = {f"weight.{index}": value for index, value in enumerate(network.get_weights())}
    arrays |= {f"optimizer.{index}": v.numpy() for index, v in enumerate(network.optimizer.variables)}
    arrays |= {f"average.{index}": value for index, value in enumerate(average or ())}
    arrays["state"] = np.frombuffer(json.dumps(asdict(state)).encode(), np.uint8)
    temporary = folder / f"{CHECKPOINT_FILE}.temporary"
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / CHECKPOINT_FILE)


def read_state(folder: Path) -> RunState | None:
    """Return the state of the last checkpoint, or None where there is none."""
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        table = json.loads(arrays["state"].tobytes())
    table["history"] = [EpochRecord(**record) for record in table["history"]]
    return RunState(**table)


def restore_variables(folder: Path, network: KerasModel) -> list[NDArray[Any]] | None:
    """Give network and optimizer, which are compiled as they were, the checkpoint's values; return the average."""
    with np.load(folder / CHECKPOINT_FILE, allow_pickle=False) as arrays:
        network.set_weights(_of(arrays, "weight"))
        network.optimizer.build(network.trainable_variables)
        values = _of(arrays, "optimizer")
        for variable, value in zip(network.optimizer.variables, values, strict=True):
            variable.assign(value)
        return _of(arrays, "average") or None


def _of(arrays: Any, kind: str) -> list[NDArray[Any]]:  # noqa: ANN401 - NumPy's archive has no type to name
    number = sum(name.startswith(f"{kind}.") for name in arrays.files)
    return [arrays[f"{kind}.{index}"] for index in range(number)]
