"""Public networks with known labels, thresholds and preprocessing (``known_networks.toml``)."""

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
    """Labels, thresholds and preprocessing of a public network.

    Attributes
    ----------
    name
        Name in the table.
    labels
        One per output; empty for outputs that were not trained.
    thresholds
        By label: the operating point that its authors published, as a probability.
    geometry, interpolation, channels
        See `model.preprocessing.tensor.Preprocessing`.
    value_range
        See `model.preprocessing.pixel_range.normalisation`.
    file
        Name of the published weights file; may be empty.
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
    """Return the known networks by name."""
    tables = tomllib.loads(Path(__file__).with_name("known_networks.toml").read_text(encoding="utf-8"))
    families = tables.pop("families")
    return {name: _recipe(name, table, families[table["family"]]) for name, table in tables.items()}


def find_network(name: str) -> KnownNetwork:
    """Return the known network of this name; a ValueError lists the names."""
    if name not in known_networks():
        raise ValueError(f"no model is known as {name!r}; allowed are {', '.join(known_networks())}")
    return known_networks()[name]


def recognize(file_name: str, operating_points: Sequence[float] | None = None) -> KnownNetwork | None:
    """Return the known network of a weights file, by the file's published name or the thresholds in it; else None."""
    for network in known_networks().values():
        if network.file and network.file == file_name:
            return network
        if operating_points is not None and len(operating_points) == len(network.labels) and network.thresholds:
            expected = [network.thresholds.get(label, math.nan) for label in network.labels]
            if all(_same(one, other) for one, other in zip(expected, operating_points, strict=True)):
                return network
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
