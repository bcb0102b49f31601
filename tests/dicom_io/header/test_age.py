"""The age: as stated, else by the birth date; what stands for unknown says nothing, and a contradiction is told."""

from __future__ import annotations

import pytest

from dicom_io.header.instance_header import read_header
from tests.dicom_io.images import dicom_file

# PatientAge, birth date, acquisition date -> age in years; the study is of 2020-01-01
AGES = [
    ("045Y", "", "", 45),
    ("018M", "", "", 1.5),
    ("6M", "", "", 0.5),
    ("026W", "", "", 26 * 7 / 365.25),
    ("010D", "", "", 10 / 365.25),
    ("450D", "", "", 450 / 365.25),
    ("000D", "", "", 0),
    ("45", "", "", None),
    ("045", "", "", None),
    ("-01Y", "", "", None),
    ("4.5Y", "", "", None),
    ("0045Y", "", "", None),
    ("45Y", "", "", 45),
    ("45Y ", "", "", 45),
    ("045y", "", "", 45),
    ("045", "19800101", "20200101", 40),
    ("-01Y", "19800101", "20200101", 40),
    ("", "19800101", "20200101", 40),
    ("", "1980.01.01", "2020.01.01", 40),
    ("ABC", "19800101", "20200101", 40),
    # what is written for an unknown age
    ("999Y", "", "", None),
    ("000Y", "", "", None),
    ("000Y", "19500101", "20200101", 70),
    ("999Y", "19500101", "20200101", 70),
    ("000Y", "20190701", "20200101", 0.5),
    ("000Y", "19500101", "", None),
    ("126Y", "19000101", "20260101", None),
    ("", "19000101", "20200101", None),
    ("031Y", "19000101", "20200101", 31),
    ("031Y", "99991231", "20200101", 31),
    # birth dates without an age
    ("", "19800101", "", None),
    ("", "", "20200101", None),
    ("", "20300101", "20200101", None),
    ("", "18000101", "20200101", None),
    ("", "19801340", "20200101", None),
    ("", "unknown", "20200101", None),
    # both, in agreement
    ("050Y", "19700101", "20200101", 50),
    ("050Y", "19680201", "20200101", 50),
    ("050Y", "19711201", "20200101", 50),
    ("050Y", "19690101", "", 50),
    ("003D", "20191229", "20200101", 3 / 365.25),
    ("000D", "20200102", "20200101", 0),
]
CONTRADICTORY = [
    ("050Y", "20190101", "20240101"),
    ("050Y", "19671201", "20200101"),
    ("050Y", "19720201", "20200101"),
    ("003M", "19700101", "20200101"),
    ("000D", "19700101", "20200101"),
    ("050Y", "20190101", ""),  # a year old on the study date
    ("005Y", "19500101", ""),  # an adult on the study date; an old image in a later study is flagged too
    ("001M", "19500101", ""),
    ("050Y", "20300101", ""),
    ("050Y", "20190101", "20000101"),  # born after the image was taken
]


@pytest.mark.parametrize(("age", "born", "taken", "expected"), AGES)
def test_age_is_read_or_unknown_but_never_assumed(age: str, born: str, taken: str, expected: float | None) -> None:
    header = read_header(dicom_file(PatientAge=age, PatientBirthDate=born, AcquisitionDate=taken, StudyDate="20200101"))
    assert header.age_years == (None if expected is None else pytest.approx(expected, abs=0.01))
    assert bool(header.age_source) is (expected is not None)
    assert not header.age_contradictory


@pytest.mark.parametrize(("age", "born", "taken"), CONTRADICTORY)
def test_age_and_birth_date_over_two_years_apart_are_believed_in_neither(age: str, born: str, taken: str) -> None:
    header = read_header(dicom_file(PatientAge=age, PatientBirthDate=born, AcquisitionDate=taken, StudyDate="20200101"))
    assert (header.age_years, header.age_source, header.age_contradictory) == (None, "", True)
