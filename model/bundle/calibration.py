"""Calibration of logits to probabilities, and thresholds: one for all patients, or one for each age group.

A network trained on children and adults together is over- or underconfident to a different degree in each. So a bundle
may hold a calibration for each training domain: Platt scaling (Platt 1999), ``sigmoid(logit / temperature + bias)``,
and a threshold for each label. The patient's age selects the calibration; where it is unknown or in no group's range,
the training domain nearest to the image's features does.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

CalibratedBy = Literal["age", "nearest domain", "everyone"]
"""Why a calibration was selected: the patient's age, the nearest training domain, or no group applied."""

AgeRanges = tuple[tuple[float, float], ...]
"""Ranges (low, high) in completed years, both ends included."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Temperatures, biases and thresholds of all labels.

    Attributes
    ----------
    group
        The training domain it was fitted on; empty: all patients.
    ages
        Age ranges of the patients it applies to.
    temperatures
        float32 [labels], above 0: divisors of the logits.
    biases
        float32 [labels]: added to the divided logits.
    thresholds
        By label: the probability, in (0, 1), at or above which the label is positive.

    Raises
    ------
    ValueError
        A threshold, temperature or bias is out of range.
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
        """Return the probabilities, float32 [..., labels], of logits of that shape."""
        return calibrated_probabilities(logits, self.temperatures, self.biases)

    def exact_probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return them as float64, so that probabilities near 1 stay distinct: in float32, 1 follows 0.99999994."""
        return sigmoid(logits.astype(np.float64) / self.temperatures + self.biases)

    def covers(self, age_years: float | None) -> bool:
        """Whether it applies to patients of this age; not where the age is unknown."""
        if age_years is None or not math.isfinite(age_years):
            return False
        return any(low <= math.floor(age_years) <= high for low, high in self.ages)

    def as_table(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the entry in ``model.toml`` of a group's calibration."""
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
        """Read an entry of ``model.toml`` with ``labels``; a missing temperature is 1, a missing bias 0."""
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


def calibrated_probabilities(
    logits: NDArray[np.float32], temperatures: NDArray[np.float32], biases: NDArray[np.float32] | float = 0.0
) -> NDArray[np.float32]:
    """Return sigmoid(logits / temperatures + biases), float32 of the logits' shape."""
    return sigmoid(logits.astype(np.float64) / temperatures + biases).astype(np.float32)


def sigmoid(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-values)), float64, without overflow or cancellation."""
    powers = np.exp(-np.abs(values.astype(np.float64)))
    result: NDArray[np.float64] = np.where(values >= 0, 1.0, powers) / (1 + powers)
    return result


def choose_calibration(
    everyone: Calibration, groups: Sequence[Calibration], age_years: float | None, nearest_domain: str
) -> tuple[Calibration, CalibratedBy]:
    """Return the calibration for one image.

    Parameters
    ----------
    everyone
        The calibration of all patients.
    groups
        Calibrations of training domains.
    age_years
        The patient's age; None where unknown.
    nearest_domain
        The training domain nearest to the image's features.

    Returns
    -------
    The first group whose age ranges include the patient's age; else that of the nearest domain; else `everyone`. And
    which of the three it was.
    """
    for group in groups:
        if group.covers(age_years):
            return group, "age"
    for group in groups:
        if group.group == nearest_domain:
            return group, "nearest domain"
    return everyone, "everyone"
