"""The web process: health for machines, and the worklist and ledger as JSON."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Response

from db.session import DatabaseUnavailable
from worker import __version__
from worker.facts import ledger_facts, status_facts, worklist_facts
from worker.metrics import add_metrics
from worker.ports import require_port
from worker.site import Site

_log = structlog.get_logger(__name__)


def make_web(site: Site) -> FastAPI:
    """Return the web application of one installation."""
    web = FastAPI(title="cxr-triage", version=__version__, summary="Research software: not for diagnosis.")

    @web.get("/healthz")
    def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @web.get("/readyz")
    def readyz(response: Response) -> dict[str, object]:
        """Database, broker and store answer; 503 if one does not. Says whether a model is active."""
        facts = status_facts(site)
        if not facts["ready"]:
            response.status_code = 503
        return facts

    @web.get("/worklist")
    def worklist(response: Response, limit: int = 200) -> dict[str, object]:
        """The studies in reading order."""
        try:
            return worklist_facts(site, limit)
        except DatabaseUnavailable as error:
            response.status_code = 503
            return {"error": str(error)}

    @web.get("/ledger")
    def ledger(response: Response) -> dict[str, object]:
        """What arrived, what has a result, what was sent, what has none and why."""
        try:
            return ledger_facts(site)
        except DatabaseUnavailable as error:
            response.status_code = 503
            return {"error": str(error)}

    add_metrics(web, site)
    return web


def serve(site: Site) -> None:
    """Serve until SIGTERM or SIGINT. Blocks."""
    import uvicorn

    host, port = site.settings.web.host, site.settings.web.port
    require_port(host, port, "web", "[web] port")
    _log.info("ready", host=host, port=port)
    # no access log: a query string may carry a patient's identifier
    uvicorn.run(make_web(site), host=host, port=port, access_log=False, log_level="warning")
