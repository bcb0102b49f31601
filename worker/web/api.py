"""JSON routes: health, and the values of the command line's ``--json`` under the same names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from db.views.worklist import Wanted
from worker.installation import Site
from worker.monitoring.health import health_facts
from worker.monitoring.ledger import ledger_facts
from worker.worklist.listing import earlier_facts, open_since, worklist_facts


def api_routes(site: Site) -> APIRouter:
    """Return the routes that answer in JSON."""
    routes = APIRouter()

    @routes.get("/healthz", tags=["health"])
    def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @routes.get("/readyz", tags=["health"])
    def readyz(response: Response) -> dict[str, Any]:
        """Health of database, broker and store; 503 if one does not answer. Reports the active model."""
        facts = health_facts(site)
        if not facts["ready"]:
            response.status_code = 503
        return facts

    @routes.get("/api/worklist", tags=["facts"])
    def worklist(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
        priority: Literal["", "HIGH", "MEDIUM", "LOW"] = "",
        list: Literal["open", "earlier"] = "open",
    ) -> dict[str, Any]:
        """The open worklist in reading order; or the earlier studies, those that something was last heard of first."""
        if list == "open":
            return worklist_facts(site, limit, priority)
        return earlier_facts(site, limit, Wanted(until=open_since(site), priority=priority))

    @routes.get("/api/ledger", tags=["facts"])
    def ledger() -> dict[str, Any]:
        """Received images with results, deliveries, and those without a result with reasons."""
        return ledger_facts(site)

    return routes
