"""From logits to probabilities and thresholds: one calibration for everyone, or one a group of ages.

A network trained on children and adults together is sure of itself in another measure on each. So a bundle may hold a
calibration a training domain: Platt's scaling (Platt 1999), ``sigmoid(logit / temperature + bias)``, and a threshold a
label. The patient's age chooses; where it is unknown, or in no group's range, the domain whose training images the
image lies nearest to chooses.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ChosenBy = Literal["age", "nearest domain", "everyone"]
"""Why a calibration was taken: the patient's age, the nearest training domain, or there is one only."""

AgeRanges = tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What makes probabilities of logits, and calls of probabilities.

    Attributes
    ----------
    group
        The training domain that it is for; empty: everyone.
    ages
        Ranges in completed years, both ends included, of the patients it is for.
    temperatures
        float32 [labels], above 0: what each logit is divided by.
    biases
        float32 [labels]: what is added then.
    thresholds
        A label: the probability at or above which it counts as positive.
    """

    group: str
    ages: AgeRanges
    temperatures: NDArray[np.float32]
    biases: NDArray[np.float32]
    thresholds: dict[str, float]

    def __post_init__(self) -> None:
        where = f" of {self.group}" if self.group else ""
        if not all(0 < value < 1 for value in self.thresholds.values()) or not (self.temperatures > 0).all():
            raise ValueError(
                f"thresholds{where} {self.thresholds} must be within 0 and 1, temperatures {self.temperatures} above 0"
            )
        if not (np.isfinite(self.temperatures).all() and np.isfinite(self.biases).all()):
            raise ValueError(f"temperatures{where} {self.temperatures} and biases {self.biases} must be finite")

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 [..., labels] of logits of that shape."""
        return calibrated(logits, self.temperatures, self.biases)

    def exact_probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return them as float64, which orders the surest images too: in float32, 1 follows 0.99999994."""
        return sigmoid(logits.astype(np.float64) / self.temperatures + self.biases)

    def covers(self, age_years: float | None) -> bool:
        """Whether a patient of this age is one that it is for."""
        if age_years is None or not math.isfinite(age_years):
            return False
        return any(low <= math.floor(age_years) <= high for low, high in self.ages)

    def as_table(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return what ``model.toml`` says of the calibration of a group."""
        return {
            "group": self.group,
            "ages": [list(limits) for limits in self.ages],
            "labels": [
                {
                    "name": name,
                    "threshold": round(self.thresholds[name], 6),
                    "temperature": round(float(temperature), 6),
                    "bias": round(float(bias), 6),
                }
                for name, temperature, bias in zip(labels, self.temperatures, self.biases, strict=True)
            ],
        }

    @classmethod
    def from_table(cls, table: Mapping[str, Any], labels: Sequence[str], group: str = "") -> "Calibration":
        """Read ``model.toml``: a table with ``labels``, of which temperature and bias may be missing."""
        by_name = {str(entry["name"]): entry for entry in table["labels"]}
        missing = [name for name in labels if name not in by_name]
        if missing:
            raise ValueError(f"the calibration of {group or 'everyone'} lacks {', '.join(missing)}")
        entries = [by_name[name] for name in labels]
        return cls(
            group,
            tuple((float(low), float(high)) for low, high in table.get("ages", [])),
            np.array([float(entry.get("temperature", 1.0)) for entry in entries], np.float32),
            np.array([float(entry.get("bias", 0.0)) for entry in entries], np.float32),
            {name: float(entry["threshold"]) for name, entry in zip(labels, entries, strict=True)},
        )


def calibrated(
    logits: NDArray[np.float32], temperatures: NDArray[np.float32], biases: NDArray[np.float32] | float = 0.0
) -> NDArray[np.float32]:
    """Return sigmoid(logits / temperatures + biases), float32 of the logits' shape."""
    return sigmoid(logits.astype(np.float64) / temperatures + biases).astype(np.float32)


def sigmoid(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-values)), float64, with all its digits however small it is."""
    powers = np.exp(-np.abs(values.astype(np.float64)))
    result: NDArray[np.float64] = np.where(values >= 0, 1.0, powers) / (1 + powers)
    return result


def choose_calibration(
    everyone: Calibration, groups: Sequence[Calibration], age_years: float | None, nearest_domain: str
) -> tuple[Calibration, ChosenBy]:
    """Return the calibration for one image.

    Parameters
    ----------
    everyone
        Where there are no groups, or none is for the image.
    groups
        One a training domain.
    age_years
        The patient's; None where unknown.
    nearest_domain
        The training domain that the image lies nearest to.

    Returns
    -------
    The first group whose ages hold the patient's; else that of the nearest domain; else the one for everyone.
    """
    for group in groups:
        if group.covers(age_years):
            return group, "age"
    for group in groups:
        if group.group == nearest_domain:
            return group, "nearest domain"
    return everyone, "everyone"
