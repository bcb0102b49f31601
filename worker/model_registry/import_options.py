"""What the options of `model import` say of a network, joined with what is known of public ones."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from model.importing.keras_import import DEFAULT_SIZE, Imported, ImportPlan, import_network
from model.importing.known_networks import KnownNetwork, find_network, recognize
from model.network.keras_files import ImportRefused, load_keras_file
from model.preprocessing.tensor import Geometry, Interpolation
from worker.config.settings import ConfigurationError
from worker.model_registry.installer import TORCH_SUFFIXES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Said = Mapping[str, Any]
"""Options of the command line by their names; None where one was not given."""


def make_bundle(
    file: Path, said: Said, version: str, unsafe: bool, reference: Iterable[NDArray[np.float32]] | None, folder: Path
) -> Imported:
    """Make a bundle of a file from elsewhere in a folder.

    Raises
    ------
    model.network.keras_files.ImportRefused
        The file is no network that can be read.
    ConfigurationError
        An option's value is none of those allowed, or a needed one is missing.
    """
    if file.name.lower().endswith(TORCH_SUFFIXES):
        from model.importing.torch_densenet import densenet_from_torch
        from model.importing.torch_files import load_torch_file

        weights = load_torch_file(file)
        recipe = _recipe(said) or recognize(file.name, weights.operating_points)
        plan = import_plan(file, said, recipe, version, unsafe, weights.operating_points)
        network = densenet_from_torch(file, weights.tensors, plan.size or DEFAULT_SIZE)
        return import_network(network, plan, file, folder, "weights of a PyTorch DenseNet", reference)
    plan = import_plan(file, said, _recipe(said), version, unsafe)
    return import_network(load_keras_file(file, unsafe), plan, file, folder, "a Keras network", reference)


def import_plan(
    file: Path,
    said: Said,
    recipe: KnownNetwork | None,
    version: str,
    unsafe: bool,
    points: Sequence[float] | None = None,
) -> ImportPlan:
    """Return the plan of an import: what is said goes before what is known of a public network."""
    given = {option: value for option, value in said.items() if value is not None}
    labels = _list(said["--labels"]) if said["--labels"] is not None else (recipe.labels if recipe else ())
    name = said["--name"] or (recipe.name if recipe else None)
    missing = [option for option, value in (("--name", name), ("--labels", labels)) if not value]
    if missing:
        raise ConfigurationError(
            f"{' and '.join(missing)} of {file.name} must be said: the file does not; for example "
            f"cxr-triage model import {file.name} --name my-model --labels Pneumonia,Effusion"
        )
    known = dict(recipe.thresholds) if recipe else {}
    if points is not None and len(points) == len(labels):
        known |= {label: point for label, point in zip(labels, points, strict=True) if 0 < point < 1}
    thresholds = _thresholds(said["--thresholds"], labels) if said["--thresholds"] is not None else known
    words = [word for option, value in given.items() for word in (option, str(value))]
    words += ["--model-version", version] if version != "1" else []
    try:
        return ImportPlan(
            name=str(name),
            labels=tuple(labels),
            version=version,
            geometry=_one_of(said, "--geometry", Geometry, recipe.geometry if recipe else "squash"),
            interpolation=_one_of(said, "--interpolation", Interpolation, recipe.interpolation if recipe else "area"),
            value_range=said["--range"] or (recipe.value_range if recipe else None),
            size=said["--size"],
            channels=said["--channels"] or (recipe.channels if recipe else None),
            layer=said["--layer"],
            thresholds={label: value for label, value in thresholds.items() if label in labels},
            answer=said["--answer"],
            no_finding=_list(said["--no-finding"]) if said["--no-finding"] is not None else None,
            ages=_ages(said["--ages"]),
            views=_list(said["--views"].upper()) if said["--views"] else (),
            unsafe=unsafe,
            command=shlex.join(["cxr-triage", "model", "import", file.name, *words, *["--unsafe"] * unsafe]),
        )
    except ValueError as error:
        raise ImportRefused(file, str(error)) from error


def _recipe(said: Said) -> KnownNetwork | None:
    try:
        return find_network(said["--like"]) if said["--like"] else None
    except ValueError as error:
        raise ConfigurationError(f"--like: {error}") from error


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def _one_of(said: Said, option: str, kind: Any, otherwise: str) -> Any:  # noqa: ANN401 - a Literal
    value = said[option] or otherwise
    if value not in get_args(kind):
        raise ConfigurationError(f"{option} is {value!r}; allowed are {', '.join(get_args(kind))}")
    return cast(Any, value)


def _thresholds(text: str, labels: Sequence[str]) -> dict[str, float]:
    parts = _list(text)
    named = [part.rpartition("=") for part in parts]
    try:
        if all(equals for _, equals, _ in named):
            values = {label.strip(): float(value) for label, _, value in named}
        else:
            numbers = [float(part) for part in parts]
            labelled = [label for label in labels if label]
            numbers = numbers * len(labelled) if len(numbers) == 1 else numbers
            values = dict(zip(labelled, numbers, strict=True))
    except ValueError:
        values = {"": -1.0}
    unknown = sorted(set(values) - set(labels))
    if unknown or not all(0 < value < 1 for value in values.values()):
        raise ConfigurationError(
            f"--thresholds is {text!r}; allowed are one number between 0 and 1, one for each of {', '.join(labels)}, "
            "or LABEL=NUMBER with commas between"
        )
    return values


def _ages(text: str | None) -> tuple[tuple[float, float], ...]:
    ranges = []
    for part in _list(text or ""):
        low, dash, high = part.partition("-")
        if not (dash and low.strip().isdecimal() and high.strip().isdecimal() and int(low) <= int(high)):
            raise ConfigurationError(f"--ages is {text!r}; ranges of years such as 1-5,18-90 are allowed")
        ranges.append((float(low), float(high)))
    return tuple(ranges)
