"""Public networks whose labels, thresholds and preprocessing are known, so that nobody has to type them."""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from model.preprocessing.tensor import Geometry, Interpolation


@dataclass(frozen=True)
class KnownNetwork:
    """How a public network is read.

    Attributes
    ----------
    labels
        One an output; empty where the output was never trained.
    thresholds
        Of the labels: the probability (a sigmoid's) that its makers' operating point is at.
    value_range
        See `model.preprocessing.pixel_range.normalisation`.
    file
        Name under which its makers publish the weights; may be empty.
    """

    name: str
    labels: tuple[str, ...]
    thresholds: dict[str, float]
    geometry: Geometry
    interpolation: Interpolation
    value_range: str
    channels: int
    file: str


@cache
def known_networks() -> dict[str, KnownNetwork]:
    """Return the known ones by name."""
    tables = tomllib.loads(Path(__file__).with_name("known_networks.toml").read_text(encoding="utf-8"))
    families = tables.pop("families")
    return {name: _recipe(name, table, families[table["family"]]) for name, table in tables.items()}


def find_network(name: str) -> KnownNetwork:
    """Return the one with this name; a ValueError lists those there are."""
    if name not in known_networks():
        raise ValueError(f"no model is known as {name!r}; allowed are {', '.join(known_networks())}")
    return known_networks()[name]


def recognize(file_name: str, operating_points: Sequence[float] | None = None) -> KnownNetwork | None:
    """Return the recipe of a weights file by the name that its makers gave it, or by the thresholds inside."""
    for recipe in known_networks().values():
        if recipe.file and recipe.file == file_name:
            return recipe
        if operating_points is not None and len(operating_points) == len(recipe.labels) and recipe.thresholds:
            expected = [recipe.thresholds.get(label, math.nan) for label in recipe.labels]
            if all(_same(one, other) for one, other in zip(expected, operating_points, strict=True)):
                return recipe
    return None


def _same(one: float, other: float) -> bool:
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-5)


def _recipe(name: str, table: dict[str, list[object]], family: dict[str, object]) -> KnownNetwork:
    labels = tuple(str(label) for label in table["labels"])
    values = [float(str(value)) for value in table["thresholds"]] or [math.nan] * len(labels)
    return KnownNetwork(
        name=name,
        labels=labels,
        thresholds={k: v for k, v in zip(labels, values, strict=True) if k and not math.isnan(v)},
        geometry=cast(Geometry, family["geometry"]),
        interpolation=cast(Interpolation, family["interpolation"]),
        value_range=str(family["range"]),
        channels=int(str(family["channels"])),
        file=str(table["file"]),
    )
