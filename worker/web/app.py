"""The web process: pages, JSON interface, DICOMweb, metrics."""

from __future__ import annotations

import signal
import socket
from contextlib import suppress

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from db.engine.session import DatabaseUnavailable
from worker import __version__
from worker.installation import Site
from worker.runtime.ports import require_port
from worker.runtime.registered_process import RegisteredProcess
from worker.web.actions import action_routes
from worker.web.api import api_routes
from worker.web.dicomweb.stow import stow_routes
from worker.web.docs import add_docs
from worker.web.image_cache import Pictures
from worker.web.images import handle_missing_pictures, image_routes, picture_threads
from worker.web.metrics import add_metrics
from worker.web.model_cards import ModelShelf
from worker.web.pages import page_routes
from worker.web.rendering import FOLDER, Renderer
from worker.web.security_headers import SafeHeaders, is_loopback
from worker.web.worklist_pages import worklist_routes

_log = structlog.get_logger(__name__)


def make_web(site: Site) -> FastAPI:
    """Return the web application of one installation."""
    pictures, renderer = Pictures(), Renderer()
    web = FastAPI(
        title="cxr-triage",
        version=__version__,
        summary="Research software: not for diagnosis.",
        docs_url=None,  # FastAPI's own page loads Swagger UI from a foreign host
        redoc_url=None,
        lifespan=picture_threads(pictures),
    )
    web.add_middleware(SafeHeaders, loopback=is_loopback(site.settings.web.host))
    web.include_router(api_routes(site))
    web.include_router(worklist_routes(site, renderer))
    web.include_router(page_routes(site, renderer, ModelShelf(site.settings)))
    web.include_router(action_routes(site, renderer))
    web.include_router(image_routes(site, pictures))
    web.include_router(stow_routes(site))
    add_docs(web, site, renderer)
    web.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    handle_missing_pictures(web)

    @web.exception_handler(DatabaseUnavailable)
    def database_unavailable(request: Request, error: DatabaseUnavailable) -> Response:
        if request.url.path.startswith(("/api/", "/dicom-web/")):
            return JSONResponse({"error": str(error)}, 503)
        text = f"{error}. Images are acknowledged only after they are stored, so nothing received is lost."
        return renderer.page(
            request, "message.html", str(error), 503, active=False, title="The database does not answer", text=text
        )

    add_metrics(web, site)
    return web


class _Server(uvicorn.Server):
    """Says that it is ready when it listens, not before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port, *_ = self.servers[0].sockets[0].getsockname()
        _log.info("ready", host=host, port=port)


def serve(site: Site) -> None:
    """Serve until SIGTERM or SIGINT. Blocks."""
    host, port = site.settings.web.host, site.settings.web.port
    require_port(host, port, "web", "[web] port")
    process = RegisteredProcess(lambda: site.database, "web", clock=site.clock)

    def end(number: int, _frame: object) -> None:
        process.stop()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, end)  # uvicorn stops on it, and then raises it again for whoever ran uvicorn
    # no access log: a query string may carry a patient's identifier
    config = uvicorn.Config(
        make_web(site), host=host, port=port, access_log=False, log_level="warning", server_header=False
    )
    with process, suppress(KeyboardInterrupt):
        _Server(config).run()
