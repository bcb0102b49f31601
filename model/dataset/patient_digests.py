"""Pseudonyms of the patients in a split file: keyed digests, with the key in a file of its own.

A patient number is short: with a plain or salted digest all numbers can be tried within a second, with a slow hash
within minutes; a digest so short that many numbers share it would match wrong patients. So the digest is an HMAC-SHA256
under a random key of 256 bits. The key stays where the bundle was trained; exports leave it out. Without it an
evaluation compares files alone, and reports that. The demonstration bundle ships with its key: its patient numbers are
published pseudonyms.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from model.dataset.samples import DatasetInvalid, Sample

KEY_FILE = "patients.key"
"""File beside the split file. Whoever has both can try patient numbers: keep it as confidential as the patients."""

COLUMN = "patient_"
"""Prefix of the split file's column; eight digits that depend on the key follow, so that a wrong key is detected."""

_DIGITS = 16


class PatientKey:
    """Computes the patient digests of one split file."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of(cls, folder: Path) -> "PatientKey":
        """Return the key in a folder; without one, create it, readable by its owner alone."""
        existing = cls.read(folder)
        if existing is not None:
            return existing
        secret = secrets.token_bytes(32)
        with os.fdopen(os.open(folder / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret.hex() + "\n")
        return cls(secret)

    @classmethod
    def read(cls, folder: Path) -> "PatientKey | None":
        """Return the key in a folder, None where there is none.

        Raises
        ------
        DatasetInvalid
            The key file cannot be read, or does not hold 64 hexadecimal digits.
        """
        path = folder / KEY_FILE
        try:
            secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DatasetInvalid(f"{path} cannot be read: {error}; expected are 64 hexadecimal digits") from error
        if len(secret) != 32:
            raise DatasetInvalid(f"{path} holds {len(secret)} bytes; expected are 32, as 64 hexadecimal digits")
        return cls(secret)

    @property
    def column(self) -> str:
        """Name of the split file's column whose digests this key computes."""
        return COLUMN + self._digest("column")[:8]

    def digest(self, sample: Sample) -> str:
        """Return the digest, 16 hexadecimal digits, of a sample's patient; empty where no patient number is known.

        It does not depend on the domain, since a collection may have another name elsewhere, nor on leading zeros:
        ChestX-ray14 writes both 00009507 and 9507.
        """
        return self._digest(f"patient {sample.person}")[:_DIGITS] if sample.person else ""

    def _digest(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
