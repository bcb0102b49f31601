"""The manifest ``model.toml``: allowed contents, and the checksum of its contents."""

import hashlib
import json
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

FORMAT = 2
READABLE_FORMATS = (1, FORMAT)
"""Format 1 has no checksum of the manifest itself."""

CHECKSUM_KEY = "description_sha256"
"""The key of ``model.toml`` that holds the SHA-256 over all other keys and values."""


def check_texts(table: Mapping[str, Any]) -> None:
    """Raise a ValueError where a manifest holds control characters, or values that are neither texts nor numbers.

    On a terminal such characters move the cursor or reverse the text that follows. ``provenance`` may have line breaks.
    """
    for key, value in table.items():
        allowed = "\n\t" if key == "provenance" else ""
        for text in _texts({key: value}):
            if not all(_printable(each) or each in allowed for each in text):
                raise ValueError(f"{text[:64]!r} under {key!r} has characters that cannot be printed")


def manifest_checksum(table: Mapping[str, Any]) -> str:
    """Return the SHA-256, as hex, over a manifest's keys and values, independent of their order and layout.

    It detects damage and accidental edits. It is not a signature: whoever can write the folder can renew it.
    """
    contents = {key: value for key, value in table.items() if key != CHECKSUM_KEY}
    return hashlib.sha256(json.dumps(contents, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_manifest_checksum(table: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a manifest's contents have the checksum that it holds."""
    written, actual = str(table.get(CHECKSUM_KEY, "")), manifest_checksum(table)
    if written != actual:
        recorded = f"it records {written[:12]}..." if written else f"it records none ({CHECKSUM_KEY})"
        raise ValueError(
            f"the SHA-256 of its contents is {actual[:12]}..., {recorded}; restore the bundle from its source, or, if "
            "the change was intended (a threshold, say), accept it: cxr-triage model seal FOLDER"
        )


def manifest_text(table: Mapping[str, Any]) -> str:
    """Return the text of ``model.toml``, in the current format and with its checksum."""
    contents = {key: value for key, value in table.items() if key not in ("format", CHECKSUM_KEY)}
    text = tomli_w.dumps({"format": FORMAT, **contents})
    return tomli_w.dumps({"format": FORMAT, CHECKSUM_KEY: manifest_checksum(tomllib.loads(text)), **contents})


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif not isinstance(value, int | float):
        raise ValueError(f"{value!r} is neither a text nor a number")


def _printable(character: str) -> bool:
    """Return whether a character is no control, surrogate or directional formatting character."""
    return unicodedata.category(character) not in ("Cc", "Cs") and not (
        "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    )
