"""Validation of a plan's values; each error names the option, its value and what is allowed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def check_at_least(plan: object, least: Mapping[str, int]) -> None:
    """Raise a ValueError unless each of these values of a plan has at least its minimum."""
    for name, value in least.items():
        if getattr(plan, name) < value:
            raise ValueError(f"{name} is {getattr(plan, name)}; at least {value} is needed")


def check_above_zero(plan: object, names: Sequence[str]) -> None:
    """Raise a ValueError unless these numbers of a plan are finite and above 0; None is allowed."""
    for name in names:
        value = getattr(plan, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value:g}; a number above 0 is needed")


def check_allowed(plan: object, allowed: Mapping[str, Sequence[Any]]) -> None:
    """Raise a ValueError unless each of these values of a plan is one of those allowed."""
    for name, values in allowed.items():
        if getattr(plan, name) not in values:
            raise ValueError(f"{name} is {getattr(plan, name)!r}; allowed are {', '.join(values)}")
