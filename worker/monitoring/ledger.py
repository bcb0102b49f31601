"""The ledger as plain JSON values: received images, results, deliveries, and unfinished images with reasons."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from db.model_registry.activation import active_models
from db.records import Ledger
from db.views.ledger import ledger
from worker.installation import Site


def ledger_facts(site: Site, older_than: timedelta = timedelta(0)) -> dict[str, Any]:
    """Return the ledger: received = done + not applicable + failed + pending."""
    with site.database.read() as session:
        book = ledger(session, site.clock(), older_than)
        models = active_models(session)
    return {
        "model": models.name or None,
        **ledger_counts(book),
        "refusals": book.reasons,
        "unfinished": [
            {
                "sop_instance_uid": entry.sop_instance_uid,
                "state": entry.state,
                "reason": entry.reason,
                "reason_code": entry.reason_code,
                "since": entry.since.isoformat(),
            }
            for entry in book.unfinished
        ],
        "unfinished_total": book.unfinished_total,
    }


def ledger_counts(book: Ledger) -> dict[str, Any]:
    return {
        "received": book.received,
        "done": book.done,
        "not_applicable": book.not_applicable,
        "failed": book.failed,
        "pending": book.pending,
        "rejected": book.rejected,
        "refused_by_rule": book.rules,
        "deliveries": book.deliveries,
        "commitments": book.commitments,
    }
