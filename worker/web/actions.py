"""Actions of users on the pages. Requests that change data must come from our own pages: see `security_headers`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from db.intake.gate_decisions import DecidedElsewhere
from db.model_registry.activation import active_models
from worker.admission.review import CannotBeReadAnyway, have_read
from worker.installation import Site
from worker.web.forms import submitted
from worker.web.rendering import Renderer


def action_routes(site: Site, renderer: Renderer) -> APIRouter:
    """Return the routes of the users' actions."""
    routes = APIRouter(include_in_schema=False)

    @routes.post("/studies/{study_instance_uid}/read-anyway")
    async def read_anyway(request: Request, study_instance_uid: str) -> Response:
        form = await submitted(request)
        uid, by, reason = (form.get(key, "") for key in ("sop_instance_uid", "by", "reason"))
        return await run_in_threadpool(_read_anyway, request, study_instance_uid, uid, by, reason)

    def _read_anyway(request: Request, study: str, uid: str, by: str, reason: str) -> Response:
        by = " ".join(by.split())
        address = request.client.host if request.client is not None else "unknown address"
        try:
            # there is no login: the address is stored with the name that was entered
            have_read(site, uid, by=f"{by}, at {address}" if by else "", reason=reason)
        except (CannotBeReadAnyway, DecidedElsewhere) as error:
            with site.database.read() as session:
                active = active_models(session) or None
            return renderer.page(
                request, "message.html", str(error), 409, active=active, title="Not read", text=str(error)
            )
        return RedirectResponse(f"/studies/{study}", 303)

    return routes
