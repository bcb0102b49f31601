"""The worklist as plain JSON values, the same on the command line and over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from db.model_registry.activation import active_models
from db.records import FindingRecord, WorklistItem
from db.views.worklist import worklist
from worker.installation import Site


def finding_facts(finding: FindingRecord) -> dict[str, Any]:
    """Return one finding under the names of the contract."""
    return {
        "label": finding.label,
        "probability": round(finding.probability, 6),
        "threshold": round(finding.threshold, 6),
        "positive": finding.positive,
    }


def worklist_facts(site: Site, limit: int | None = None) -> dict[str, Any]:
    """Return the worklist in reading order."""
    moment = site.clock()
    with site.database.read() as session:
        items = worklist(session, limit)
        models = active_models(session)
    return {"model": models.name or None, "items": [_item(item, moment) for item in items]}


def _item(item: WorklistItem, moment: datetime) -> dict[str, Any]:
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
        "model": item.model,
    }
