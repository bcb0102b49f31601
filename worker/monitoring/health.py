"""Health as plain JSON values: the command line and the web show the same values under the same names."""

from __future__ import annotations

from typing import Any

from db.engine.session import DatabaseUnavailable
from db.model_registry.activation import active_models
from db.views.ledger import ledger
from worker.installation import Site
from worker.intake.back_pressure import backlog_pressure, space_pressure
from worker.model_registry.active_models import model_table, vanished
from worker.monitoring.ledger import ledger_counts
from worker.queue.broker import BrokerUnavailable, queue_lengths
from worker.storage.store import StoreUnavailable

NO_MODEL = "no model is active: studies are received and wait"
LEAST_FREE_BYTES = 16_000_000  # about the size of a large radiograph


def health_facts(site: Site) -> dict[str, Any]:
    """Return the health of database, broker, store and model; ``ready``: studies can be received and analysed.

    Nothing is counted: the cost of a frequent probe does not grow with the archive.
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
            facts.update(ready=False, receiving=f"rejected for now: {pressure}")
        facts["models"] = model_table(active)
        if not active:
            facts["model_note"] = NO_MODEL
        else:
            facts["model"] = {key: value for key, value in facts["models"][0].items() if key != "reads"}
        if gone := vanished(active):
            words = ", ".join(f"{model.name} ({model.folder})" for model in gone)
            facts.update(ready=False, model_note=f"bundle folder missing, so images in its scope wait: {words}")
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
            facts.update(ready=False, receiving=f"rejected for now: {pressure}")
        if free < LEAST_FREE_BYTES:
            facts.update(ready=False, store=f"full: {free} bytes free, so images are answered with 'out of resources'")
    except (StoreUnavailable, DatabaseUnavailable, OSError) as error:
        facts.update(ready=False, store=str(error))
    return facts


def status_facts(site: Site) -> dict[str, Any]:
    """Return the health and, if the database answers, the ledger's counts."""
    facts = health_facts(site)
    if facts["database"] == "ok":
        try:
            with site.database.read() as session:
                facts.update(ledger_counts(ledger(session, site.clock(), limit=0)))
        except DatabaseUnavailable as error:
            facts.update(ready=False, database=str(error))
    return facts
