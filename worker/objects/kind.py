"""The protocol of a kind of object: it says which objects there are to make, and makes each when asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from db.records import ObjectKey
from worker.objects.request import ObjectRequest


@dataclass(frozen=True)
class ObjectDraft:
    """An object that can be made.

    Attributes
    ----------
    inputs_digest
        SHA-256, in hexadecimal, of what the object is made of besides its key; another digest is another revision.
    former_inputs
        What stands for the digest in a row from before digests were recorded (migration 0014), if this object is it.
    suffix
        Of the file, such as ``.dcm``.
    make
        Given the text that the SOP Instance UID is derived from (`uid_text`) and the Instance Number, returns that UID
        and the file's bytes. The same text and number give the same bytes.
    """

    key: ObjectKey
    inputs_digest: str
    former_inputs: str
    suffix: str
    make: Callable[[str, int], tuple[str, bytes]]


class ObjectKind(Protocol):
    """A kind of object, such as the heatmap."""

    @property
    def name(self) -> str:
        """As ``send`` of a destination and the database name it."""

    def drafts(self, request: ObjectRequest) -> Sequence[ObjectDraft]:
        """Return the objects of this kind; none is made yet."""


def uid_text(key: ObjectKey, revision: int, inputs_digest: str, created: datetime) -> str:
    """Return what an object's SOP Instance UID is derived from.

    Digest and time are part of it because revisions count from 1 again after a study was removed here and came back,
    while the PACS still has its first objects: a UID must never name other bytes (PS3.5 9).
    """
    parts = (key.kind, key.subject_uid, key.model_digest, key.preprocessing_id, key.label, key.variant)
    return "|".join((*parts, str(revision), inputs_digest, created.isoformat()))
