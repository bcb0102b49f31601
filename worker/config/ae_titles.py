"""The type of a key that holds an AE title."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def checked_ae_title(value: str) -> str:
    """Return the title without outer spaces; ValueError with what is allowed."""
    if not 1 <= len(value.strip()) <= 16 or "\\" in value or not value.isascii() or not value.isprintable():
        raise ValueError("an AE title has 1 to 16 printable ASCII characters without a backslash (PS3.5 6.2)")
    return value.strip()


AETitle = Annotated[str, AfterValidator(checked_ae_title)]
