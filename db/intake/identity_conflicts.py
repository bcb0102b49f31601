"""What one image says against what its study, or an earlier image under the same UID, has said: named, never resolved.

Names and identifiers are compared as people read them, so that a trailing caret or a capital is no contradiction.
"""

from __future__ import annotations

import unicodedata

from db.records import StudyIdentity
from db.tables.studies import Study

DIFFERENT_CONTENT = "received again with different content"
OTHER_PATIENT = "patient differs from the study's first image"
OTHER_STUDY_DATA = "study data differ from the study's first image"
AGAIN_OTHER_PATIENT = "received again for another patient"
AGAIN_OTHER_STUDY = "received again under another study"
AGAIN_OTHER_SERIES = "received again under another series"

_PATIENT = {
    "patient_id": "ID",
    "patient_name": "name",
    "patient_birth_date": "birth date",
    "patient_sex": "sex",
}
_STUDY = {"accession_number": "accession number", "study_date": "date"}
# what a later image may add where the first was silent
_LATER = (*_PATIENT, *_STUDY, "study_time", "study_description")


def contradictions(study: Study, identity: StudyIdentity) -> list[str]:
    """Return a flag for the patient and one for the study where both sides say something and it differs.

    The flag names the attributes, never their values.
    """
    flags = []
    for flag, attributes in ((OTHER_PATIENT, _PATIENT), (OTHER_STUDY_DATA, _STUDY)):
        differing = _differing(study, identity, attributes)
        if differing:
            flags.append(f"{flag}: {', '.join(differing)}")
    return flags


def contradictions_of_repeat(
    study: Study, identity: StudyIdentity, *, series_instance_uid: str, known_series_instance_uid: str
) -> list[str]:
    """Return the flags of an image that came before with other bytes: for whom and where it came this time."""
    flags = [DIFFERENT_CONTENT]
    differing = _differing(study, identity, _PATIENT)
    if differing:
        flags.append(f"{AGAIN_OTHER_PATIENT}: {', '.join(differing)}")
    if study.study_instance_uid != identity.study_instance_uid:
        flags.append(AGAIN_OTHER_STUDY)
    elif series_instance_uid != known_series_instance_uid:
        flags.append(AGAIN_OTHER_SERIES)
    return flags


def fill_in(study: Study, identity: StudyIdentity) -> None:
    """Take from a later image of the study what none before it has said; what was said is never replaced."""
    for name in _LATER:
        said = getattr(identity, name)
        if said and not getattr(study, name):
            setattr(study, name, said)


def _differing(study: Study, identity: StudyIdentity, attributes: dict[str, str]) -> list[str]:
    pairs = ((words, getattr(study, name), getattr(identity, name)) for name, words in attributes.items())
    return [words for words, ours, theirs in pairs if ours and theirs and _plain(ours) != _plain(theirs)]


def _plain(text: str) -> str:
    """A value without what is no difference: case, composition of accents, padding, empty name components."""
    groups = unicodedata.normalize("NFC", text).casefold().split("=")
    return "=".join(" ".join(group.split()).rstrip("^ ") for group in groups).rstrip("=")
