"""Checkpoints of a training run; a run that was killed resumes at the step of its last checkpoint."""

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
from model.train.run_folder import sync

CHECKPOINT_FILE = "checkpoint.npz"


@dataclass
class RunState:
    """Progress of a run: with the variables of network and optimizer, everything that the next step depends on.

    Attributes
    ----------
    epoch, step
        Finished epochs, and finished steps of the current epoch.
    steps, warmup_start
        Finished steps in total, and those before the current learning rate warm-up.
    stage
        Index of the current epoch's stage.
    losses
        Losses of the current epoch's steps.
    elapsed
        Seconds of training, over all processes.
    averaged
        Number of updates of the averaged weights.
    best
        Highest score of an epoch so far.
    finished
        No epoch is left.
    history
        Records of the finished epochs.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    warmup_start: int = 0
    stage: int = -1
    losses: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    averaged: int = 0
    best: float | None = None
    finished: bool = False
    history: list[EpochRecord] = field(default_factory=list)


def save_checkpoint(folder: Path, state: RunState, network: KerasModel, average: Sequence[NDArray[Any]] | None) -> None:
    """Write state, variables and averaged weights to one durable file, which replaces the previous one atomically."""
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
    sync(folder)


def read_state(folder: Path) -> RunState | None:
    """Return the state of the last checkpoint, or None where there is none."""
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        table = json.loads(arrays["state"].tobytes())
    table["history"] = [EpochRecord(**record) for record in table["history"]]
    if "stretch_began" in table:  # its name in earlier versions
        table["warmup_start"] = table.pop("stretch_began")
    return RunState(**table)


def restore_variables(folder: Path, network: KerasModel) -> list[NDArray[Any]] | None:
    """Set the variables of a network, compiled as before, and its optimizer; return the averaged weights, if any."""
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
