"""Formats DICOM and database values for display: names, dates, ages, sizes, states."""

from __future__ import annotations

import re
from datetime import datetime

STATES = {
    "done": "AI done",
    "pending": "waiting",
    "running": "AI running",
    "not_applicable": "no AI result",
    "failed": "failed",
    "sending": "being sent",
    "sent": "sent",
    "committed": "committed",
    "superseded": "superseded",
}
_SEXES = {"M": "male", "F": "female", "O": "other"}


def person_name(value: str) -> str:
    """Write a person name (PS3.5 6.2): ``Family, Prefix Given Middle, Suffix``, other scripts in brackets.

    >>> person_name("Yamada^Tarou=山田^太郎=やまだ^たろう")
    'Yamada, Tarou (山田 太郎, やまだ たろう)'
    """
    alphabetic, *others = [group.strip(" ^") for group in value.split("=")]
    family, given, middle, prefix, suffix = (*(part.strip() for part in alphabetic.split("^")), *[""] * 5)[:5]
    first = " ".join(part for part in (prefix, given, middle) if part)
    name = ", ".join(part for part in (family, first, suffix) if part)
    scripts = ", ".join(" ".join(part for part in other.split("^") if part.strip()) for other in others if other)
    return f"{name} ({scripts})" if name and scripts else name or scripts


def dicom_date(value: str) -> str:
    """Write a DA value as ``2026-11-23``; anything else stays unchanged."""
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if re.fullmatch(r"\d{8}", value) else value


def dicom_time(value: str) -> str:
    """Write a TM value as ``14:03``; anything else stays unchanged."""
    return f"{value[:2]}:{value[2:4]}" if re.match(r"\d{4}", value) else value


def sex(value: str) -> str:
    """Write Patient's Sex as a word."""
    return _SEXES.get(value.strip().upper(), value)


def age(years: float | None) -> str:
    """Write an age in years, below two years in months."""
    if years is None:
        return "age unknown"
    return f"{int(years)} y" if years >= 2 else f"{int(years * 12)} mo"


def moment(value: datetime) -> str:
    """Write a time in UTC; the page's script shows it in the browser's zone."""
    return value.strftime("%Y-%m-%d %H:%M:%S UTC")


def byte_size(value: float) -> str:
    """Write a number of bytes with its unit, powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("the last unit takes every size")


def hours(value: float) -> str:
    """Write a number of hours."""
    return "hour" if value == 1 else f"{value:g} hours"


def state(value: str) -> str:
    """Write a state as a word."""
    return STATES.get(value, value.replace("_", " "))


def comparison(value: float, threshold: float, positive: bool) -> str:
    """Write a probability beside its threshold, with enough digits to tell them apart.

    >>> comparison(0.501, 0.4985, True)
    '0.501 ≥ 0.498'
    """
    if value >= threshold and not positive:
        return f"{value:.2f} not counted"  # the label is not validated for the patient's age group
    digits = next((n for n in (2, 3, 4, 5) if f"{value:.{n}f}" != f"{threshold:.{n}f}"), 6)
    return f"{value:.{digits}f} {'≥' if positive else '<'} {threshold:.{digits}f}"
