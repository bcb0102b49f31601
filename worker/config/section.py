"""The base class of every section of the configuration: unknown keys are rejected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Secret, SecretStr, model_validator
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """One table of the configuration: a frozen value that rejects unknown keys, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _means_something(cls, given: Any) -> Any:  # noqa: ANN401 - whatever was written there
        for key, value in given.items() if isinstance(given, Mapping) else ():
            field = cls.model_fields.get(key)
            if isinstance(value, bool) and field is not None and field.annotation in (int, float):
                raise ValueError(f"{key} is {str(value).lower()}: a number is needed")
            if isinstance(value, str) and "\0" in value:
                shown = "***" if field is not None and is_secret(field) else repr(value)
                raise ValueError(f"{key} is {shown}: a null character is not allowed")
        return given


def is_secret(field: FieldInfo) -> bool:
    """Whether a key's value must not be shown in any message."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, (Secret, SecretStr))
