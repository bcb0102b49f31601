"""The colour scale of a bundle's heatmaps: for each label, the local contributions from which they are drawn.

How large contributions are depends on the network and the label, so no scale fits all. A bundle has its own, fitted on
validation images; a bundle without one is drawn by `DEFAULT`, and every legend says so.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LabelScale:
    """The scale of one label, in units of the calibrated logit (`model.rendering.colour_scale.strength`).

    Attributes
    ----------
    floor
        Nothing is drawn below it.
    full
        From here on the colour is the strongest.

    Raises
    ------
    ValueError
        They are not 0 < floor < full.
    """

    floor: float
    full: float

    def __post_init__(self) -> None:
        if not (0 < self.floor < self.full and math.isfinite(self.full)):
            raise ValueError(f"the heatmap scale is {self.floor} to {self.full}; 0 < floor < full is needed")

    @property
    def lines(self) -> tuple[float, float, float]:
        """The values that iso-lines are drawn at."""
        return self.floor, (self.floor + self.full) / 2, self.full


NOT_FITTED = "the program's default, not fitted to this model"

DEFAULT = LabelScale(2.0, 10.0)
"""Chosen on a dozen images of the demonstration network; for other networks it is a guess."""


@dataclass(frozen=True)
class HeatmapScale:
    """The scales of all labels.

    Attributes
    ----------
    fitted_on
        Such as "902 validation images"; empty: not fitted, `DEFAULT` applies.
    labels
        By label's name.
    images
        By label: numbers of negative and positive images that it was fitted on.
    """

    fitted_on: str = ""
    labels: Mapping[str, LabelScale] = field(default_factory=dict)
    images: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def of(self, label: str) -> LabelScale:
        """Return the scale of a label; `DEFAULT` where none was fitted."""
        return self.labels.get(label, DEFAULT)

    def origin(self, label: str) -> str:
        """Return where a label's scale comes from, for people."""
        if label in self.labels:
            return f"fitted on {self.fitted_on}"
        return NOT_FITTED

    def as_table(self) -> dict[str, Any]:
        """Return the entry in ``model.toml``."""
        entries = [
            {
                "name": name,
                "floor": scale.floor,
                "full": scale.full,
                "negatives": self.images.get(name, (0, 0))[0],
                "positives": self.images.get(name, (0, 0))[1],
            }
            for name, scale in self.labels.items()
        ]
        return {"fitted_on": self.fitted_on, "labels": entries}

    @classmethod
    def from_table(cls, table: Mapping[str, Any], names: Iterable[str] | None = None) -> "HeatmapScale":
        """Read what `as_table` returned; an empty table is a scale that was not fitted.

        Raises
        ------
        ValueError
            A scale is out of range, or of a label that is not in `names`.
        KeyError
            An entry is missing.
        """
        entries = {str(entry["name"]): entry for entry in table.get("labels", ())}
        unknown = [] if names is None else sorted(set(entries) - set(names))
        if unknown:
            raise ValueError(f"a heatmap scale of {', '.join(unknown)}, which the model does not have")
        return cls(
            str(table.get("fitted_on", "")),
            {name: LabelScale(float(entry["floor"]), float(entry["full"])) for name, entry in entries.items()},
            {name: (int(entry["negatives"]), int(entry["positives"])) for name, entry in entries.items()},
        )
