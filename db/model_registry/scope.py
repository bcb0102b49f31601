"""Model routing: an image is read by the active model of its whole years of age and its view, else by the default."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from db.records import ActiveModel

OLDEST = 130  # whole years; what is older is not believed, and its age is unknown
VIEWS = ("PA", "AP")
_UNKNOWN_AGE, _OTHER_VIEW = -1, "OTHER"  # of a cell: age or view is not known, or the view is another frontal word

AgeRange = tuple[int, int]  # whole years, both included


@dataclass(frozen=True)
class ModelScope:
    """What a model reads: any age and view unless named; an age or view that is unknown is in no named one."""

    ages: tuple[AgeRange, ...] = ()
    views: tuple[str, ...] = ()

    def holds(self, age_years: float | None, view: str | None) -> bool:
        """Whether an image of this age and view is on it."""
        year, seen = _cell(age_years, view)
        return (not self.ages or any(low <= year <= high for low, high in self.ages)) and (
            not self.views or seen in self.views
        )

    def cells(self) -> set[tuple[int, str]]:
        """Every (year of age, view) of it: two scopes overlap where they share one."""
        years = [year for low, high in self.ages for year in range(low, high + 1)]
        return {
            (year, view)
            for year in (years or range(_UNKNOWN_AGE, OLDEST + 1))
            for view in (self.views or (*VIEWS, _OTHER_VIEW))
        }

    def says(self) -> str:
        """The scope in words."""
        ages = " and ".join(f"{low}-{high}" if low != high else f"{low}" for low, high in self.ages)
        return f"{f'{ages} years' if ages else 'any age'}, {' and '.join(self.views) or 'any view'}"

    def to_json(self) -> dict[str, Any]:
        return {"ages": [list(each) for each in self.ages], "views": list(self.views)}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> ModelScope:
        return cls(tuple((int(low), int(high)) for low, high in value["ages"]), tuple(value["views"]))


@dataclass(frozen=True)
class ActiveEntry:
    """One line of the table: a model, the scope it reads, and whether it reads what nobody else does."""

    model: ActiveModel
    scope: ModelScope | None
    is_default: bool


@dataclass(frozen=True)
class ActiveModels:
    """Model routing: which active model reads which images; false where no model is active."""

    entries: tuple[ActiveEntry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    @property
    def models(self) -> tuple[ActiveModel, ...]:
        return tuple(entry.model for entry in self.entries)

    @property
    def default(self) -> ActiveModel | None:
        return next((entry.model for entry in self.entries if entry.is_default), None)

    @property
    def name(self) -> str:
        """The names of all, the default's first."""
        return ", ".join(model.name for model in self.models)

    def model_for(self, age_years: float | None, view: str | None) -> ActiveModel | None:
        """Return the model that reads an image of this age and view; None where no active one does."""
        for entry in self.entries:
            if entry.scope is not None and entry.scope.holds(age_years, view):
                return entry.model
        return self.default

    def reads(self, digest: str) -> str:
        """What a model reads, in words; empty where it is not active."""
        entry = next((entry for entry in self.entries if entry.model.digest == digest), None)
        if entry is None:
            return ""
        words = [] if entry.scope is None else [entry.scope.says()]
        if entry.is_default:
            words.append("everything else" if len(self.entries) > 1 or words else "everything")
        return "; ".join(words)

    def why_no_model(self, age_years: float | None, view: str | None) -> str:
        """Why an image is not read, where `model_for` finds none."""
        year, _view = _cell(age_years, view)
        active = "; ".join(f"{model.name} reads {self.reads(model.digest)}" for model in self.models)
        age = "unknown age" if year == _UNKNOWN_AGE else f"age {year}"
        return f"no active model reads {age}, {f'view {view}' if view else 'unknown view'} ({active})"


def joined(ranges: Iterable[AgeRange]) -> tuple[AgeRange, ...]:
    """Put ranges in order, those that touch or meet made one."""
    found: list[AgeRange] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


def _cell(age_years: float | None, view: str | None) -> tuple[int, str]:
    known = age_years is not None and math.isfinite(age_years) and 0 <= age_years < OLDEST + 1
    year = math.floor(age_years) if known and age_years is not None else _UNKNOWN_AGE
    return year, view.upper() if view and view.upper() in VIEWS else _OTHER_VIEW
