"""The worklist as plain JSON values, the same on the command line and over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from db.model_registry.activation import active_models
from db.records import FindingRecord, WorklistItem
from db.views.worklist import Wanted, items_of, newest_first, priorities, worklist
from worker.installation import Site
from worker.worklist.priority import is_counted


def finding_facts(finding: FindingRecord) -> dict[str, Any]:
    """Return one finding under the names of the contract."""
    return {
        "label": finding.label,
        "probability": round(finding.probability, 6),
        "threshold": round(finding.threshold, 6),
        "positive": finding.positive,
    }


def open_since(site: Site) -> datetime:
    """Return since when something was heard of the studies on the open list; the others are the earlier ones."""
    return site.clock() - timedelta(hours=site.settings.triage.open_hours)


def worklist_facts(site: Site, limit: int | None = None, priority: str = "") -> dict[str, Any]:
    """Return the open worklist in reading order."""
    wanted = Wanted(since=open_since(site), priority=priority)
    with site.database.read() as session:
        items = worklist(session, limit, wanted=wanted)
        counts = priorities(session, wanted)
    return _facts(site, "open", items, sum(counts.values()))


def earlier_facts(site: Site, limit: int, wanted: Wanted) -> dict[str, Any]:
    """Return studies, those that something was last heard of first: earlier ones, or where `until` is not named, any.

    ``total`` is given of none of them: counting all would take longer the more there are.
    """
    with site.database.read() as session:
        items = items_of(session, newest_first(session, limit, wanted))
    return _facts(site, "found" if wanted.until is None else "earlier", items, None)


def _facts(site: Site, name: str, items: Sequence[WorklistItem], total: int | None) -> dict[str, Any]:
    moment, since = site.clock(), open_since(site)
    with site.database.read() as session:
        models = active_models(session)
    return {
        "model": models.name or None,
        "list": name,
        "total": total,
        "items": [_item(item, moment, since) for item in items],
    }


def _item(item: WorklistItem, moment: datetime, since: datetime) -> dict[str, Any]:
    return {
        "study_instance_uid": item.study_instance_uid,
        "accession_number": item.accession_number,
        "patient_id": item.patient_id,
        "patient_name": item.patient_name,
        "study_date": item.study_date,
        "priority": item.priority,
        "score": round(item.score, 4),
        "waiting_seconds": max(0, int((moment - item.arrived_at).total_seconds())),
        "state": item.state,
        "reason": item.reason,
        "reason_code": item.reason_code,
        "flags": list(item.flags),
        "findings": [finding_facts(finding) for finding in item.findings],
        "looked_for": [finding.label for finding in item.findings if is_counted(finding)],
        "model": item.model,
        "open": item.latest_at is not None and item.latest_at > since,
    }
