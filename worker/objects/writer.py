"""Making what is not made yet: bytes into the store first, then rows and outbox in the caller's transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from db.delivery import objects
from db.engine.session import Database, Session
from db.records import ObjectRecord
from worker.config.settings import Settings
from worker.objects.kind import ObjectDraft, uid_text
from worker.objects.registry import KINDS
from worker.objects.request import ObjectRequest
from worker.storage.store import Store, StoredFileLost


@dataclass(frozen=True)
class WrittenObject:
    """An object whose bytes are durable, and whose row is still to be written."""

    record: ObjectRecord
    number: int
    data: bytes
    suffix: str


class NumberTaken(Exception):
    """Another process has made objects of this study and model since these were written."""


class ObjectWriter:
    """Makes the objects of a request, each revision once."""

    def __init__(self, settings: Settings, database: Database, store: Store) -> None:
        self._destinations = settings.destinations
        self._database = database
        self._store = store

    def write(self, request: ObjectRequest, study_id: int, analyses: Sequence[int]) -> list[WrittenObject]:
        """Make and store every object of the request that is new or of changed inputs.

        Parameters
        ----------
        analyses
            The ids of the analyses that the objects are made of.

        Raises
        ------
        db.engine.session.DatabaseUnavailable, worker.storage.store.StoreUnavailable
        dicom_io.header.instance_header.UnreadableDicom, OSError
            If a source cannot be read.
        """
        drafts = [draft for kind in KINDS for draft in kind.drafts(request)]
        with self._database.read() as session:
            newest = [objects.newest_revision(session, draft.key) for draft in drafts]
            made = Counter({key: objects.count_made(session, study_id, *key) for key in map(_series, drafts)})
        written = []
        for draft, (revision, inputs) in zip(drafts, newest, strict=True):
            if revision and inputs in (draft.inputs_digest, draft.former_inputs):
                continue  # made before: its bytes are kept
            made[_series(draft)] += 1
            number = made[_series(draft)]
            uid, data = draft.make(uid_text(draft.key, revision + 1, draft.inputs_digest, request.created), number)
            stored = self._store.put(data, draft.suffix)
            record = ObjectRecord(
                key=draft.key,
                revision=revision + 1,
                inputs_digest=draft.inputs_digest,
                study_id=study_id,
                analyses=tuple(analyses),
                sop_instance_uid=uid,
                uri=stored.uri,
                sha256=stored.sha256,
                size=stored.size,
                created_at=request.created,
                destinations=tuple(each.name for each in self._destinations if draft.key.kind in each.send),
            )
            written.append(WrittenObject(record, number, data, draft.suffix))
        return written

    def record(self, session: Session, written: Sequence[WrittenObject], now: datetime) -> None:
        """Write rows and outbox; an older revision that still waits is superseded.

        Raises
        ------
        NumberTaken
            Another image of the study took an Instance Number meanwhile: undo the transaction, `write` again.
        worker.storage.store.StoreUnavailable
        """
        for each in written:
            key = each.record.key
            made = objects.count_made(session, each.record.study_id, key.kind, key.model_digest, alone=True)
            if made + 1 != each.number:
                raise NumberTaken(f"Instance Number {each.number} is taken: {made} objects were made meanwhile")
            objects.record(session, each.record, now)
            try:  # its file may have been cleared away since; now that its row is written, nobody does
                self._store.path(each.record.uri)
            except StoredFileLost:
                self._store.put(each.data, each.suffix)

    def discard(self, written: Sequence[WrittenObject]) -> None:
        """Delete the files of objects whose rows will never be written. `StoreUnavailable`."""
        for each in written:
            self._store.discard(each.record.uri)


def _series(draft: ObjectDraft) -> tuple[str, str]:
    """Return what Instance Numbers count within, beside the study: kind and model."""
    return draft.key.kind, draft.key.model_digest
