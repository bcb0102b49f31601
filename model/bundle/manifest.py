"""What ``model.toml`` may say, and the digest that shows whether it still says what was written."""

import hashlib
import json
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

FORMAT = 2
READABLE_FORMATS = (1, FORMAT)
"""Format 1 differs in that its description is under no digest."""

CHECKSUM_KEY = "description_sha256"
"""The key of ``model.toml`` that holds the SHA-256 over all that the other keys say."""


def check_texts(table: Mapping[str, Any]) -> None:
    """Raise a ValueError where a description holds control characters, or values that are neither texts nor numbers.

    Printed, such characters would move a terminal's cursor or reverse what follows. Its provenance may have lines.
    """
    for key, value in table.items():
        allowed = "\n\t" if key == "provenance" else ""
        for text in _texts({key: value}):
            if not all(_harmless(each) or each in allowed for each in text):
                raise ValueError(f"{text[:64]!r} under {key!r} has characters that cannot be printed")


def manifest_checksum(table: Mapping[str, Any]) -> str:
    """Return the SHA-256, as hex, over what a description says, whatever the order and the layout it is written in.

    It shows damage and careless edits. It is no signature: whoever can write the folder can renew it.
    """
    said = {key: value for key, value in table.items() if key != CHECKSUM_KEY}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_manifest_checksum(table: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a description says what it said when it was written."""
    written, actual = str(table.get(CHECKSUM_KEY, "")), manifest_checksum(table)
    if written != actual:
        says = f"it gives {written[:12]}..." if written else f"it gives none ({CHECKSUM_KEY})"
        raise ValueError(
            f"the SHA-256 of what it says is {actual[:12]}..., {says}; restore the bundle from its source, or, if the "
            "change was meant (a threshold, say), accept it: cxr-triage model seal FOLDER"
        )


def manifest_text(table: Mapping[str, Any]) -> str:
    """Return the text of ``model.toml`` for a description, in today's format and with its digest."""
    said = {key: value for key, value in table.items() if key not in ("format", CHECKSUM_KEY)}
    text = tomli_w.dumps({"format": FORMAT, **said})
    return tomli_w.dumps({"format": FORMAT, CHECKSUM_KEY: manifest_checksum(tomllib.loads(text)), **said})


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


def _harmless(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cs") and not (
        "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    )
