"""Objects are made once for the same inputs and anew for others; what was made before digests were kept is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import pytest
from sqlalchemy import select, update

from db.analysis import lifecycle
from db.delivery import objects as rows
from db.intake.instances import record_instance
from db.model_registry import activation
from db.records import ClaimedAnalysis, NewInstance, ObjectKey
from db.tables.delivery import Delivery, MadeObject
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import MODEL, NOON, heatmap
from tests.db.conftest import new_instance as new_instance
from worker.config.destinations import DicomDestination
from worker.installation import Site
from worker.objects import writer as module
from worker.objects.kind import ObjectDraft, uid_text
from worker.objects.request import ObjectRequest
from worker.objects.writer import NumberTaken, ObjectWriter

REQUEST = ObjectRequest(UUID(int=1), "1.2.1", NOON, ())
DESTINATIONS = (
    DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1),
    DicomDestination(name="reports", ae_title="REPORTS", host="127.0.0.1", port=1, send=("report",)),
)


class Kind:
    """A kind of one object, whose bytes are the text that its UID comes from."""

    name = "heatmap"

    def __init__(self, key: ObjectKey) -> None:
        self.key = key
        self.inputs = "1" * 64
        self.made: list[str] = []
        self.numbers: list[int] = []

    def drafts(self, _request: ObjectRequest) -> Sequence[ObjectDraft]:
        return [ObjectDraft(self.key, self.inputs, "rendering version 2", ".dcm", self.make)]

    def make(self, text: str, number: int) -> tuple[str, bytes]:
        self.made.append(text)
        self.numbers.append(number)
        return f"2.25.{len(self.made)}", text.encode()


@pytest.fixture
def claimed(site: Site, new_instance: Callable[..., NewInstance]) -> ClaimedAnalysis:
    assert site.store.is_there(), "before the database names a file in it"
    with site.database.write() as session:
        activation.activate(session, MODEL, NOON)
        analysis = record_instance(session, new_instance()).analysis_id
        assert analysis is not None
        claimed = lifecycle.claim(session, analysis, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        assert claimed is not None
        lifecycle.complete(session, claimed, result(), NOON)
    return claimed


@pytest.fixture
def kind(claimed: ClaimedAnalysis, monkeypatch: pytest.MonkeyPatch) -> Kind:
    kind = Kind(heatmap(claimed).key)
    monkeypatch.setattr(module, "KINDS", (kind,))
    return kind


def write(site: Site, claimed: ClaimedAnalysis) -> int:
    writer = ObjectWriter(site.settings.model_copy(update={"destinations": DESTINATIONS}), site.database, site.store)
    written = writer.write(REQUEST, claimed.study_id, [claimed.id])
    with site.database.write() as session:
        writer.record(session, written, NOON)
    return len(written)


def revisions(site: Site) -> list[tuple[int, str, str]]:
    with site.database.read() as session:
        found = session.scalars(select(MadeObject).order_by(MadeObject.revision)).all()
        return [(made.revision, made.sop_instance_uid, made.inputs_digest) for made in found]


def test_same_inputs_make_nothing_anew_and_other_inputs_the_next_revision(
    site: Site, claimed: ClaimedAnalysis, kind: Kind
) -> None:
    assert [write(site, claimed), write(site, claimed)] == [1, 0]
    kind.inputs = "2" * 64
    assert [write(site, claimed), write(site, claimed)] == [1, 0]
    assert revisions(site) == [(1, "2.25.1", "1" * 64), (2, "2.25.2", "2" * 64)]
    assert kind.numbers == [1, 2]
    with site.database.read() as session:
        found = session.scalars(select(Delivery).order_by(Delivery.id)).all()
        for uri, text in zip(session.scalars(select(MadeObject.uri).order_by(MadeObject.id)), kind.made, strict=True):
            assert site.store.path(uri).read_bytes() == text.encode()
    assert [(row.destination, row.state) for row in found] == [("pacs", "superseded"), ("pacs", "pending")]


def test_object_made_before_digests_were_recorded_is_kept_until_the_rendering_changes(
    site: Site, claimed: ClaimedAnalysis, kind: Kind
) -> None:
    with site.database.write() as session:
        former = heatmap(claimed, revision=2, inputs_digest="rendering version 2", sop_instance_uid="2.25.999")
        rows.record(session, former, NOON)
    assert write(site, claimed) == 0
    assert kind.made == []
    with site.database.write() as session:
        session.execute(update(MadeObject).values(inputs_digest="rendering version 1"))
    assert write(site, claimed) == 1
    assert revisions(site) == [(2, "2.25.999", "rendering version 1"), (3, "2.25.1", "1" * 64)]


def test_file_cleared_away_before_the_row_is_written_is_stored_anew(
    site: Site, claimed: ClaimedAnalysis, kind: Kind
) -> None:
    writer = ObjectWriter(site.settings, site.database, site.store)
    (made,) = writer.write(REQUEST, claimed.study_id, [claimed.id])
    site.store.discard(made.record.uri)
    with site.database.write() as session:
        writer.record(session, [made], NOON)
    assert site.store.path(made.record.uri).is_file()


def test_two_images_of_a_study_that_end_together_never_share_an_instance_number(
    site: Site, claimed: ClaimedAnalysis, kind: Kind
) -> None:
    writer = ObjectWriter(site.settings, site.database, site.store)
    late = writer.write(REQUEST, claimed.study_id, [claimed.id])
    kind.key = replace(kind.key, label="Effusion")
    first = writer.write(REQUEST, claimed.study_id, [claimed.id])
    assert kind.numbers == [1, 1]
    with site.database.write() as session:
        writer.record(session, first, NOON)
    with pytest.raises(NumberTaken, match="Instance Number 1 is taken: 1 objects"), site.database.write() as session:
        writer.record(session, late, NOON)
    assert labels(site) == ["Effusion"]
    kind.key = replace(kind.key, label="Pneumonia")
    with site.database.write() as session:
        writer.record(session, writer.write(REQUEST, claimed.study_id, [claimed.id]), NOON)
    assert kind.numbers == [1, 1, 2]


def labels(site: Site) -> list[str]:
    with site.database.read() as session:
        return list(session.scalars(select(MadeObject.label).order_by(MadeObject.id)))


@pytest.mark.parametrize(
    ("revision", "inputs", "created"),
    [(2, "1", NOON), (1, "2", NOON), (1, "1", NOON.replace(second=1))],
    ids=["revision", "inputs", "a study that was removed here and came back"],
)
def test_no_uid_is_given_to_other_bytes(
    claimed: ClaimedAnalysis, revision: int, inputs: str, created: datetime
) -> None:
    key = heatmap(claimed).key
    assert uid_text(key, 1, "1", NOON) == uid_text(key, 1, "1", NOON)
    assert uid_text(key, revision, inputs, created) != uid_text(key, 1, "1", NOON)
