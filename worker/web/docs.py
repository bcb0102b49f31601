"""``/docs``: Swagger UI for the OpenAPI description, its files served from here: no foreign host is asked."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from db.engine.session import DatabaseUnavailable
from db.model_registry.activation import active_models
from db.model_registry.scope import ActiveModels
from worker.installation import Site
from worker.web.rendering import Renderer
from worker.web.security_headers import CONTENT_SECURITY_POLICY


def add_docs(web: FastAPI, site: Site, renderer: Renderer) -> None:
    """Add the page and the files of Swagger UI, which the package `fastapi_offline` carries."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    def docs(request: Request) -> Response:
        active: ActiveModels | Literal[False] | None
        try:
            with site.database.read() as session:
                active = active_models(session) or None
        except DatabaseUnavailable:  # the description does not depend on it
            active = False
        page = renderer.page(request, "docs.html", active, active=active)
        page.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY.replace("img-src", "img-src data:")
        return page  # Swagger UI's style sheet holds its icons as data: URLs

    web.include_router(routes)
    web.mount("/swagger", StaticFiles(packages=[("fastapi_offline", "static")]), name="swagger")
