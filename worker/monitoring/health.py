"""What the faces say, as plain JSON values: the command line and the web show the same facts under the same names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from db.grounds import ActiveModels
from db.ledger import ledger
from db.models import active_models
from db.records import ActiveModel, FindingRecord, Ledger, WorklistItem
from db.session import DatabaseUnavailable
from db.worklist import worklist
from worker.broker import BrokerUnavailable, queue_lengths
from worker.limits import backlog_pressure, space_pressure
from worker.site import Site
from worker.store import StoreUnavailable
from worker.timing import now

NO_MODEL = "no model is active: studies are received and wait"
LEAST_FREE_BYTES = 16_000_000  # a large radiograph has about as many


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
    with site.database.read() as session:
        items = worklist(session, limit)
        models = active_models(session)
    return {"model": models.name or None, "items": [_item(item) for item in items]}


def _item(item: WorklistItem) -> dict[str, Any]:
    return {
        "study_instance_uid": item.study_instance_uid,
        "accession_number": item.accession_number,
        "patient_id": item.patient_id,
        "patient_name": item.patient_name,
        "study_date": item.study_date,
        "priority": item.priority,
        "score": round(item.score, 4),
        "waiting_seconds": max(0, int((now() - item.arrived_at).total_seconds())),
        "state": item.state,
        "reason": item.reason,
        "flags": list(item.flags),
        "findings": [finding_facts(finding) for finding in item.findings],
        "model": item.model,
    }


def ledger_facts(site: Site, older_than: timedelta = timedelta(0)) -> dict[str, Any]:
    """Return the ledger: what arrived adds up to what ended and what is unfinished."""
    with site.database.read() as session:
        book = ledger(session, now(), older_than)
        models = active_models(session)
    return {
        "model": models.name or None,
        **_counts(book),
        "refusals": book.reasons,
        "unfinished": [
            {
                "sop_instance_uid": entry.sop_instance_uid,
                "state": entry.state,
                "reason": entry.reason,
                "since": entry.since.isoformat(),
            }
            for entry in book.unfinished
        ],
        "unfinished_total": book.unfinished_total,
    }


def _counts(book: Ledger) -> dict[str, Any]:
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


def model_table(active: ActiveModels) -> list[dict[str, str]]:
    """Return which active model reads whom, the default first."""
    return [
        {
            "name": model.name,
            "digest": model.digest,
            "preprocessing": model.preprocessing_id,
            "reads": active.reads(model.digest),
        }
        for model in active.models
    ]


def vanished(active: ActiveModels) -> list[ActiveModel]:
    """Return the active models whose bundle is no longer where it was: what they should read waits."""
    return [model for model in active.models if not (Path(model.folder) / "model.toml").is_file()]


def health_facts(site: Site) -> dict[str, Any]:
    """Return the health of database, broker, store and model; ``ready`` is whether studies can be received and read.

    Nothing is counted: a probe that asks every few seconds costs the same however long the archive is.
    """
    facts: dict[str, Any] = {
        "ready": True,
        "database": "ok",
        "broker": "ok",
        "store": "ok",
        "receiving": "ok",
        "model": None,
    }
    try:
        with site.database.read() as session:
            active = active_models(session)
            pressure = backlog_pressure(site.settings, session)
        if pressure:
            facts.update(ready=False, receiving=f"refused for now: {pressure}")
        facts["models"] = model_table(active)
        if not active:
            facts["model_note"] = NO_MODEL
        else:
            facts["model"] = {key: value for key, value in facts["models"][0].items() if key != "reads"}
        if gone := vanished(active):
            words = ", ".join(f"{model.name} ({model.folder})" for model in gone)
            facts.update(ready=False, model_note=f"bundle gone, so what it should read waits: {words}")
    except DatabaseUnavailable as error:
        facts.update(ready=False, database=str(error))
    try:
        facts["queues"] = queue_lengths(site.settings)
    except BrokerUnavailable as error:
        facts.update(ready=False, broker=str(error))
    try:
        facts["store_free_bytes"] = free = site.store.free_bytes()
        pressure = space_pressure(site.settings, free)
        if pressure:
            facts.update(ready=False, receiving=f"refused for now: {pressure}")
        if free < LEAST_FREE_BYTES:
            facts.update(ready=False, store=f"full: {free} bytes free, so images are answered with 'out of resources'")
    except (StoreUnavailable, OSError) as error:
        facts.update(ready=False, store=str(error))
    return facts


def status_facts(site: Site) -> dict[str, Any]:
    """Return the health, and the ledger's counts where the database answers."""
    facts = health_facts(site)
    if facts["database"] == "ok":
        try:
            with site.database.read() as session:
                facts.update(_counts(ledger(session, now(), limit=0)))
        except DatabaseUnavailable as error:
            facts.update(ready=False, database=str(error))
    return facts
