"""What a page asks that polls, or a person who looks somebody up, reads indexes; no table that grows is read whole.

SQLite's plans are looked at without statistics, as they are on every installation that never ran ANALYZE.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from db.analysis import lifecycle
from db.delivery import commitment_requests, objects
from db.engine.session import Database, Session
from db.intake.instances import record_instance
from db.retention import erasure
from db.views.ledger import ledger
from db.views.ledger_details import ledger_details
from db.views.metrics import measure
from db.views.study_page import earlier_page, study_page, worklist_page
from db.views.worklist import Wanted, newest_first, worklist
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.analysis.test_planning import empty as empty
from tests.db.analysis.test_planning import plans
from tests.db.conftest import NOON, heatmap
from tests.db.conftest import new_instance as new_instance

OPEN, BEFORE = Wanted(since=NOON), Wanted(until=NOON)
PAGES: dict[str, Callable[[Session], object]] = {
    "worklist": lambda session: worklist_page(session, 50, 50, OPEN),
    "worklist of one priority": lambda session: worklist_page(session, 0, 50, Wanted(since=NOON, priority="HIGH")),
    "worklist on the command line": lambda session: worklist(session, 200, wanted=OPEN),
    "earlier studies": lambda session: earlier_page(session, 50, BEFORE, None),
    "further back": lambda session: earlier_page(session, 50, BEFORE, (NOON, 7)),
    "patient": lambda session: newest_first(session, 200, Wanted(patient_id="P1")),
    "accession number": lambda session: newest_first(session, 200, Wanted(accession_number="A1")),
    "study date": lambda session: newest_first(session, 200, Wanted(study_date="20260301")),
    "priority": lambda session: newest_first(session, 200, Wanted(priority="HIGH")),
    "patient to be removed": lambda session: erasure.studies_of(session, patient_id="P1"),
    "open study": lambda session: study_page(session, "1.2.1", NOON - timedelta(days=2)),
    "earlier study": lambda session: study_page(session, "1.2.1", NOON + timedelta(days=2)),
    "ledger": lambda session: ledger(session, NOON, timedelta(0), 200),
    "ledger's details": ledger_details,
    "system": lambda session: ledger(session, NOON, limit=0),
    "metrics": lambda session: measure(session, NOON, timedelta(hours=1), 500),
}
# the registry has a handful of rows; the tallies are added up where there are more than a thousand; the newest hundred
# rejections are read in the order of an index; and what was read with a limit is grouped
ALLOWED = (
    "SCAN model",
    "SCAN tally",
    "SCAN rejection USING INDEX ix_rejection_last_at",
    "SCAN anon_",
    "SCAN finished",
    "SCAN sent",
)
ALLOWED += ("SCAN CONSTANT ROW", "SCAN (subquery")  # of an empty list of ids


@pytest.fixture
def delivered(empty: Database, new_instance: Callable[..., object]) -> Database:
    """A study with a result, an object that is not delivered, and a request for storage commitment."""
    with empty.write() as session:
        recorded = record_instance(session, new_instance())  # type: ignore[arg-type]  # a NewInstance
        assert recorded.analysis_id is not None
        claimed = lifecycle.claim(session, recorded.analysis_id, owner="me", now=NOON, lease=LEASE, max_attempts=3)
        assert claimed is not None
        lifecycle.complete(session, claimed, result(), NOON)
        objects.record(session, heatmap(claimed), NOON)
        commitment_requests.record(
            session,
            transaction_uid="1.9",
            calling_ae="MOD",
            address="h",
            instances=[("1", "1.2.3.1")],
            now=NOON,
            due=NOON,
        )
    return empty


@pytest.mark.parametrize("name", PAGES)
def test_page_reads_no_table_that_grows_from_end_to_end(delivered: Database, name: str) -> None:
    found = plans(delivered, PAGES[name])
    assert [step for step in found if step.startswith("SCAN") and not step.startswith(ALLOWED)] == []
    assert [step for step in found if step.endswith("(origin=?)")] == [], "as good as all of a table"


@pytest.mark.parametrize("before", [None, (NOON, 7)])
def test_earlier_studies_are_listed_in_the_order_of_an_index(
    empty: Database, before: tuple[datetime, int] | None
) -> None:
    found = plans(empty, lambda session: newest_first(session, 50, BEFORE, before))
    assert [step for step in found if "TEMP B-TREE" in step] == ["USE TEMP B-TREE FOR RIGHT PART OF ORDER BY"], (
        "by id, within one time"
    )


def test_open_list_is_ordered_and_counted_by_an_index_alone(empty: Database) -> None:
    found = [step for step in plans(empty, PAGES["worklist"]) if "latest_at" in step]
    assert len(found) == 4
    assert all("SEARCH study USING COVERING INDEX ix_study_" in step for step in found)
