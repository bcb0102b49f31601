"""What people read: DICOM's values written as they would write them."""

from __future__ import annotations

import pytest

from worker.web import formatting


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Doe^Jane", "Doe, Jane"),
        ("Müller-Lüdenscheidt^Jörg^^Dr.", "Müller-Lüdenscheidt, Dr. Jörg"),
        ("Adams^John Robert Quincy^^Rev.^B.A. M.Div.", "Adams, Rev. John Robert Quincy, B.A. M.Div."),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田 太郎, やまだ たろう)"),
        ("=王^小明", "王 小明"),
        ("Люкceмбypг", "Люкceмбypг"),
        ("^^^^", ""),
        ("", ""),
    ],
)
def test_person_name(value: str, shown: str) -> None:
    assert formatting.person_name(value) == shown


@pytest.mark.parametrize(
    ("write", "value", "shown"),
    [
        (formatting.dicom_date, "20261123", "2026-11-23"),
        (formatting.dicom_date, "2026", "2026"),
        (formatting.dicom_date, "", ""),
        (formatting.dicom_time, "140312.123", "14:03"),
        (formatting.dicom_time, "14", "14"),
        (formatting.sex, "F", "female"),
        (formatting.sex, "", ""),
        (formatting.age, 43.99, "43 y"),
        (formatting.age, 0.5, "6 mo"),
        (formatting.age, None, "age unknown"),
        (formatting.byte_size, 999, "999 B"),
        (formatting.byte_size, 3_600_000, "3.6 MB"),
        (formatting.byte_size, 73e9, "73.0 GB"),
        (formatting.state, "not_applicable", "no AI result"),
    ],
)
def test_values(write: object, value: object, shown: str) -> None:
    assert callable(write)
    assert write(value) == shown


@pytest.mark.parametrize(
    ("probability", "threshold", "positive", "shown"),
    [
        (0.62, 0.5, True, "0.62 ≥ 0.50"),
        (0.31, 0.587, False, "0.31 < 0.59"),
        (0.5918, 0.587204, True, "0.592 ≥ 0.587"),
        (0.5, 0.5, True, "0.500000 ≥ 0.500000"),
    ],
)
def test_a_probability_never_seems_equal_to_a_threshold_that_it_is_not(
    probability: float, threshold: float, positive: bool, shown: str
) -> None:
    assert formatting.comparison(probability, threshold, positive) == shown
