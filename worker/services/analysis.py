"""The process `work`: a Celery worker whose children analyse images."""

from __future__ import annotations

from worker.analysis.celery_worker import run_worker
from worker.installation import Site
from worker.runtime.registered_process import RegisteredProcess


def run_analysis(site: Site) -> None:
    """Analyse images until a signal asks this process to stop; database and store are created before the children."""
    site.database.ping()
    site.database.dispose()  # each child opens its own connections
    site.store  # noqa: B018 - created before the children look for it
    with RegisteredProcess(lambda: site.database, "work", forks=True, clock=site.clock):
        run_worker(site.settings, site.clock)
