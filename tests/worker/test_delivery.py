"""A destination's courier: what it cannot carry says why and is tried again, whatever went wrong; others go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from db import analyses, models
from db.intake import record_instance
from db.records import NewInstance, ObjectRecord
from db.tables import Delivery
from tests.db.conftest import MODEL, NOON
from tests.db.conftest import new_instance as new_instance
from tests.db.test_analyses import LEASE, result
from worker import delivery
from worker.delivery import Courier
from worker.settings import Destination
from worker.site import Site
from worker.timing import now


@pytest.fixture
def owed(site: Site, new_instance: Callable[..., NewInstance]) -> Site:
    """A site that owes one object to one destination."""
    stored = site.store.put(b"heatmap")
    made = ObjectRecord(
        "heatmap", "Pneumonia", "", 1, "2.25.1", stored.uri, stored.sha256, stored.size, destinations=("pacs",)
    )
    with site.database.write() as session:
        models.activate(session, MODEL, NOON)
        recorded = record_instance(session, new_instance())
        assert recorded.analysis_id is not None
        claimed = analyses.claim(session, recorded.analysis_id, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        assert claimed is not None
        analyses.complete(session, claimed, "me", replace(result(), objects=(made,)), NOON)
    return site


def courier(site: Site) -> Courier:
    destination = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
    return Courier(site.settings, destination, site.database, site.store)


def the_delivery(site: Site) -> Delivery:
    with site.database.read() as session:
        return session.scalars(select(Delivery)).one()


def test_unforeseen_error_is_told_without_its_text_and_the_object_is_tried_again(
    owed: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_arguments: object) -> None:
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(delivery, "send", broken)
    assert courier(owed).carry_batch() == 0
    row = the_delivery(owed)
    assert (row.state, row.reason, row.lease_owner) == ("pending", "unexpected ValueError", None)
    assert row.next_attempt_at <= now() + timedelta(seconds=10)
    output = capsys.readouterr()
    assert "ValueError" in output.out
    assert "Doe" not in output.out + output.err


def test_damaged_object_is_not_sent_and_says_so(owed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[Path] = []
    monkeypatch.setattr(delivery, "send", lambda _peer, items: offered.extend(item.path for item in items) or iter(()))
    (file,) = owed.store.root.glob("*/*/*.dcm")
    file.write_bytes(b"heatmaP")
    courier(owed).carry_batch()
    assert offered == []
    row = the_delivery(owed)
    assert row.state == "pending"
    assert "damaged" in row.reason
