"""The patient of each image of a split without a name: keyed digests, and the key kept apart from them.

A patient's number is short: whoever has its plain digest, and a salt beside it, tries every number within a second. A
slow hash makes minutes of it, and a digest short enough to fit many numbers would match the wrong patients. So the
digest is an HMAC under a random key of 256 bits in a file of its own, which stays where the bundle was trained; an
export leaves it out, since elsewhere a number means a person only to whoever issued it.
What a split without
its key cannot tell, an evaluation says. The demonstration bundle ships with its key: its patients' numbers are
published pseudonyms.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from model.dataset.samples import DatasetInvalid, Sample

KEY_FILE = "patients.key"
"""Beside the split file. Whoever has both can try numbers, so it belongs to who may know the patients anyway."""

COLUMN = "patient_"
"""Begins the name of the split file's column; eight digits that only the right key gives end it."""

_DIGITS = 16


class PatientKey:
    """Makes the digests of one split file."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of(cls, folder: Path) -> "PatientKey":
        """Return the key that lies in a folder, or make one there, readable by its owner alone."""
        found = cls.read(folder)
        if found is not None:
            return found
        secret = secrets.token_bytes(32)
        with os.fdopen(os.open(folder / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret.hex() + "\n")
        return cls(secret)

    @classmethod
    def read(cls, folder: Path) -> "PatientKey | None":
        """Return the key that lies in a folder, None where there is none.

        Raises
        ------
        DatasetInvalid
            The file holds no key.
        """
        path = folder / KEY_FILE
        try:
            secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DatasetInvalid(f"{path} cannot be read: {error}; 64 hexadecimal digits belong there") from error
        if len(secret) != 32:
            raise DatasetInvalid(f"{path} holds {len(secret)} bytes; 32 as 64 hexadecimal digits belong there")
        return cls(secret)

    @property
    def column(self) -> str:
        """The name of the column that this key is for."""
        return COLUMN + self._digest("column")[:8]

    def digest(self, sample: Sample) -> str:
        """Return 16 hexadecimal digits of a sample's patient; empty where the file's name alone stands for one.

        The domain is no part of it, for the same collection goes by other names elsewhere; nor are a number's leading
        zeros: ChestX-ray14 writes 00009507 and 9507.
        """
        domain, separator, number = sample.patient.partition(":")
        number = number if separator else domain
        if not number or number == sample.path.stem:
            return ""
        return self._digest(f"patient {int(number) if number.isdecimal() else number}")[:_DIGITS]

    def _digest(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
