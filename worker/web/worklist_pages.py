"""The pages of the worklist: the open list in reading order, and the earlier studies, by their last news or found."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from db.views.study_page import EarlierPage, earlier_page, worklist_page
from db.views.worklist import Wanted
from worker.installation import Site
from worker.web import view_models as views
from worker.web.forms import submitted
from worker.web.rendering import Renderer
from worker.worklist.listing import open_since

STUDIES_A_PAGE = 50
MOST_FOUND = 200
Priority = Literal["", "HIGH", "MEDIUM", "LOW"]


def worklist_routes(site: Site, renderer: Renderer) -> APIRouter:
    """Return the routes of the open list and of the earlier studies."""
    routes = APIRouter(include_in_schema=False)
    hours = site.settings.triage.open_hours

    @routes.get("/")
    def worklist_(
        request: Request, page: Annotated[int, Query(ge=1, le=1_000_000)] = 1, priority: Priority = ""
    ) -> Response:
        wanted = Wanted(since=open_since(site), priority=priority)
        first = (page - 1) * STUDIES_A_PAGE
        with site.database.read() as session:
            listed = worklist_page(session, first, STUDIES_A_PAGE, wanted)
        pages = max(1, -(-listed.total // STUDIES_A_PAGE))
        kept = f"priority={priority}&" if priority else ""
        if page > pages:
            return RedirectResponse(f"/?{kept}page={pages}" if pages > 1 or kept else "/", 303)
        return renderer.page(
            request,
            "worklist.html",
            (listed, page, priority),
            active=listed.models or None,
            listed=listed,
            rows=[views.shown_row(row) for row in listed.rows],
            page=page,
            pages=pages,
            first=first + 1,
            priority_shown=priority,
            kept=kept,
            open_hours=hours,
        )

    @routes.get("/worklist")
    def worklist_by_name() -> Response:
        return RedirectResponse("/", 307)

    @routes.get("/earlier")
    def earlier(
        request: Request, at: datetime | None = None, number: Annotated[int, Query(ge=0, lt=1 << 63)] = 0
    ) -> Response:
        is_time = at is not None and at.tzinfo is not None and 1 < at.year < 9999  # else it may have no UTC
        before = (at, number) if at is not None and is_time else None
        with site.database.read() as session:
            listed = earlier_page(session, STUDIES_A_PAGE, Wanted(until=open_since(site)), before)
        return shown(request, listed, None, is_first=before is None)

    @routes.post("/earlier")
    async def find(request: Request) -> Response:
        # a form that is posted: no URL holds a patient's identifier
        form = await submitted(request)
        sought = {name: text.replace("\0", "").strip()[:1024] for name, text in form.items()}
        wanted = Wanted(
            patient_id=sought.get("patient_id", ""),
            accession_number=sought.get("accession_number", ""),
            study_date=sought.get("study_date", "").replace("-", ""),  # DICOM writes 20260301
            priority=sought.get("priority", ""),
        )
        return await run_in_threadpool(found, request, wanted)

    def found(request: Request, wanted: Wanted) -> Response:
        if wanted == Wanted():
            return RedirectResponse("/earlier", 303)
        with site.database.read() as session:
            listed = earlier_page(session, MOST_FOUND, wanted, None)
        return shown(request, listed, wanted, is_first=True)

    def shown(request: Request, listed: EarlierPage, sought: Wanted | None, *, is_first: bool) -> Response:
        return renderer.page(
            request,
            "earlier.html",
            (listed, sought),
            active=listed.models or None,
            listed=listed,
            rows=[views.shown_row(row) for row in listed.rows],
            sought=sought,
            is_first=is_first,
            most=MOST_FOUND,
            open_hours=hours,
        )

    return routes
