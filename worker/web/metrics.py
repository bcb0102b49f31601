"""The `/metrics` endpoint."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from worker.installation import Site
from worker.monitoring.prometheus import SiteCollector


def add_metrics(web: FastAPI, site: Site) -> None:
    """Add ``/metrics`` to the web application."""
    registry = CollectorRegistry()
    registry.register(SiteCollector(site))

    @web.get("/metrics", response_class=Response, include_in_schema=False)
    def metrics(request: Request) -> Response:
        """Counts, ages and durations for Prometheus."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})
