"""UIDs are derived, never random; statuses have names and one meaning each."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_io.network.status_codes import Status, store_result
from dicom_io.uids import IMPLEMENTATION_CLASS_UID, derive_uid, is_uid

SITE, OTHER_SITE = uuid.UUID(int=1), uuid.UUID(int=2)


def test_the_same_key_gives_the_same_uid_and_another_site_another() -> None:
    assert derive_uid(SITE, "heatmap:1") == f"2.25.{uuid.uuid5(SITE, 'heatmap:1').int}"
    assert len({derive_uid(site, key) for site in (SITE, OTHER_SITE) for key in ("a", "b")}) == 4
    with pytest.raises(ValueError, match="derived from is empty"):
        derive_uid(SITE, "")


@given(key=st.text(min_size=1))
def test_every_derived_uid_is_valid(key: str) -> None:
    assert is_uid(derive_uid(SITE, key))


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("1.2.840.10008.1.1", True),
        (IMPLEMENTATION_CLASS_UID, True),
        ("1.02.3", True),
        ("1." * 31 + "12", True),
        ("1." * 32 + "1", False),
        ("", False),
        ("1", False),
        ("../../x", False),
        ("1.2.", False),
        (".1.2", False),
        ("1..2", False),
        ("1.2/3", False),
        ("1.2\n", False),
        ("1.2 ", False),
        ("\u0661.\u0662", False),
    ],
)
def test_a_uid_is_digits_and_dots(text: str, valid: bool) -> None:
    assert is_uid(text) is valid


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (Status.SUCCESS, "stored"),
        (Status.COERCED, "stored"),
        (Status.ELEMENTS_DISCARDED, "stored"),
        (Status.DATA_SET_MISMATCH_WARNING, "stored"),
        (0xB123, "stored"),
        (Status.DUPLICATE_SOP_INSTANCE, "stored"),
        (0x0107, "stored"),
        (Status.OUT_OF_RESOURCES, "retry"),
        (0xA7FF, "retry"),
        (Status.PROCESSING_FAILURE, "retry"),
        (Status.DATA_SET_MISMATCH, "permanent"),
        (Status.CANNOT_UNDERSTAND, "permanent"),
        (0xC123, "permanent"),
        (Status.NOT_AUTHORISED, "permanent"),
        (Status.SOP_CLASS_NOT_SUPPORTED, "permanent"),
        (0xFE00, "permanent"),
    ],
)
def test_a_response_means_stored_retry_or_never(status: int, result: str) -> None:
    outcome, reason = store_result(status)
    assert outcome == result
    assert f"0x{status:04X}" in reason


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = "import sys, dicom_io; print([m for m in sys.modules if m.split('.')[0] in {'pydicom','numpy','cv2'}])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_headers_imports_neither_the_network_nor_a_decoder() -> None:
    script = (
        "import sys, dicom_io.header.instance_header, dicom_io.header.input_files, dicom_io.gate.decision;"
        "import dicom_io.pixels.grayscale, dicom_io.objects.heatmap_secondary_capture;"
        "print([m for m in sys.modules if m.split('.')[0] in {'pynetdicom', 'imagecodecs', 'cv2', 'worker', 'db'}])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
