"""What every section of the configuration shares: unknown keys are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """One table of the configuration: a frozen value, in which no unknown key passes, and no number that is none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _means_something(cls, given: Any) -> Any:  # noqa: ANN401 - whatever was written there
        for key, value in given.items() if isinstance(given, Mapping) else ():
            field = cls.model_fields.get(key)
            if isinstance(value, bool) and field is not None and field.annotation in (int, float):
                raise ValueError(f"{key} is {str(value).lower()}: a number is needed")
            if isinstance(value, str) and "\0" in value:
                raise ValueError(f"{key} is {value!r}: a null character cannot be meant")
        return given
