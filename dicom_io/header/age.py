"""The patient's age when the image was taken: as stated, else by the birth date; unknown where the two contradict."""

import re
from dataclasses import dataclass
from datetime import date, datetime

from pydicom.dataset import Dataset

from dicom_io.header import parsing

# No verified human life was longer than 122 years, and fewer than a hundred passed 115: a birth date such as 19000101,
# and the age that a modality computes from it, is what systems write for an unknown one.
_OLDEST_YEARS = 115.0
_CONTRADICTORY_YEARS = 2.0
_DAYS_A_YEAR = 365.25
_AGE_UNITS = {"D": 1 / _DAYS_A_YEAR, "W": 7 / _DAYS_A_YEAR, "M": 1 / 12, "Y": 1.0}
_SAYS_NOTHING = {(0, "Y"), (999, "Y")}  # what modalities write for an unknown age


@dataclass(frozen=True)
class Age:
    """An age in years, the attributes it is from (None and ``""`` where unknown), and whether they contradict."""

    years: float | None
    source: str
    contradictory: bool = False


def age_of(dataset: Dataset) -> Age:
    """Find the age: PatientAge, else from birth date to acquisition date.

    Where both are there and more than two years apart, neither is believed. For that alone the study date stands in for
    a missing acquisition date: a child's age beside an adult's birth date must not be believed because a date is
    missing, but the study of an old film is later than the film, so that the study date gives no age.
    """
    stated = _stated(parsing.text(dataset, "PatientAge"))
    born = _date(parsing.text(dataset, "PatientBirthDate"))
    acquired = _date(parsing.text(dataset, "AcquisitionDate")) or _date(
        parsing.text(dataset, "AcquisitionDateTime")[:8]
    )
    years = _years(born, acquired)
    if stated is not None:
        by_birth_date = years if acquired else _years(born, _date(parsing.text(dataset, "StudyDate")))
        if by_birth_date is not None and abs(stated - by_birth_date) > _CONTRADICTORY_YEARS:
            return Age(None, "", contradictory=True)
        return Age(stated, "PatientAge")
    if years is None or years < 0:
        return Age(None, "")
    return Age(years, "PatientBirthDate and AcquisitionDate")


def _stated(text: str) -> float | None:
    found = re.fullmatch(r"\s*(\d{1,3})\s*([DWMY])\s*", text.upper())
    if not found or (int(found[1]), found[2]) in _SAYS_NOTHING:
        return None
    years = int(found[1]) * _AGE_UNITS[found[2]]
    return years if years <= _OLDEST_YEARS else None


def _years(born: date | None, taken: date | None) -> float | None:
    """Return the years between, negative where born later; None where one is missing or only stands for unknown."""
    if born is None or taken is None:
        return None
    years = (taken - born).days / _DAYS_A_YEAR
    return years if abs(years) <= _OLDEST_YEARS else None


def _date(text: str) -> date | None:
    """Parse a DA, also in the form of ACR-NEMA (1993.02.24, PS3.5 6.2 note)."""
    digits = text.strip().replace(".", "")
    if not re.fullmatch(r"[0-9]{8}", digits):
        return None
    try:
        return datetime.strptime(digits, "%Y%m%d").date()  # noqa: DTZ007  (a calendar day has no zone)
    except ValueError:
        return None
