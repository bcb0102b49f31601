"""The pages: study, ledger, system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal, get_args

from fastapi import APIRouter, Request, Response

from db.model_registry.activation import active_models, known_model
from db.model_registry.scope import ActiveModels
from db.views.ledger import ledger
from db.views.ledger_details import RefusedTransfer, ledger_details, studies_of
from db.views.study_page import StudyPage, study_page
from model.rendering.overlay import OverlayStyle
from worker.admission.review import can_be_had_read
from worker.installation import Site
from worker.monitoring.health import status_facts
from worker.web import view_models as views
from worker.web.model_cards import ModelCard, ModelShelf
from worker.web.rendering import Renderer
from worker.web.security_headers import is_loopback
from worker.worklist.listing import open_since

_NO_SUCH_STUDY = "There is no study with this UID here. It was erased, or it never arrived."


def page_routes(site: Site, renderer: Renderer, shelf: ModelShelf) -> APIRouter:
    """Return the routes of the pages."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/studies/{study_instance_uid}")
    def study(
        request: Request,
        study_instance_uid: str,
        image: int | None = None,
        label: int | None = None,
        style: OverlayStyle = site.settings.heatmaps.style,
    ) -> Response:
        with site.database.read() as session:
            active = active_models(session) or None
            found = study_page(session, study_instance_uid, open_since(site))
            digest = None if found is None else _digest(found, image)
            model = None if digest is None else known_model(session, digest)
        if found is None:
            return renderer.page(
                request, "message.html", None, 404, active=active, title="No such study", text=_NO_SUCH_STUDY
            )
        card = None if digest is None else shelf.card(digest, None if model is None else model.folder)
        return renderer.page(
            request,
            "study.html",
            (found, image, label, style, active, card),
            active=active,
            style=style,
            styles=get_args(OverlayStyle),
            **_study(found, image, label, card),
        )

    @routes.get("/ledger")
    def ledger_(request: Request) -> Response:
        with site.database.read() as session:
            active = active_models(session) or None
            book = ledger(session, site.clock(), timedelta(0), 200)
            details = ledger_details(session)
            studies = studies_of(session, [each.sop_instance_uid for each in book.unfinished])
        refusals = sorted(book.reasons.items(), key=lambda each: (-each[1], each[0]))
        ended = book.done + book.not_applicable + book.failed + book.pending
        return renderer.page(
            request,
            "ledger.html",
            (book, details, active),
            active=active,
            book=book,
            details=details,
            studies=studies,
            refusals=refusals,
            rejected=_by_reason(details.rejections),
            adds_up=ended == details.instances,
            ended=ended,
            outside_refusals=book.not_applicable - sum(book.reasons.values()),
        )

    @routes.get("/system")
    def system(request: Request) -> Response:
        facts = status_facts(site)
        settings = site.settings
        active: ActiveModels | Literal[False] | None = False  # not known
        if facts["database"] == "ok":
            with site.database.read() as session:
                active = active_models(session) or None
        listing = shelf.listing()
        place = "" if facts["database"] != "ok" else site.database.place
        return renderer.page(
            request,
            "system.html",
            (facts, listing, active, place),
            active=active,
            status_of=facts,
            settings=settings,
            listing=listing,
            place=place,
            exposed=not is_loopback(settings.web.host),
        )

    return routes


def _by_reason(rejections: Iterable[RefusedTransfer]) -> list[tuple[str, int]]:
    counted: Counter[str] = Counter()
    for each in rejections:
        counted[each.reason] += each.number
    return counted.most_common()


def _digest(found: StudyPage, image: int | None) -> str | None:
    index = _image_index(found, image)
    analysis = None if index is None else found.row.images[index].analysis
    return None if analysis is None else analysis.model_digest


def _image_index(found: StudyPage, image: int | None) -> int | None:
    if image is not None and 0 <= image < len(found.row.images):
        return image
    return views.shown_image(found.row.images)


def _study(found: StudyPage, image: int | None, label: int | None, card: ModelCard | None) -> dict[str, Any]:
    index = _image_index(found, image)
    shown = None if index is None else found.row.images[index]
    findings = () if shown is None else views.shown_findings(shown, found.maps)
    chosen = label if label is not None and 0 <= label < len(findings) else None
    if chosen is None:
        chosen = views.shown_label([each.finding for each in findings])
    flags = () if shown is None else views.image_flags(shown)
    elsewhere = [
        f"image {number + 1}: {flag}"
        for number, each in enumerate(found.row.images)
        for flag in views.image_flags(each)
        if number != index and flag not in flags
    ]
    return {
        "found": found,
        "item": found.row.item,
        "identity": found.row.identity,
        "images": [
            (number, each, views.picture_url(each, "thumbnail")) for number, each in enumerate(found.row.images)
        ],
        "image_numbers": {each.sop_instance_uid: number + 1 for number, each in enumerate(found.row.images)},
        "index": index,
        "image": shown,
        "picture": views.picture_url(shown, "view"),
        "full": views.picture_url(shown, "full"),
        "findings": findings,
        "label": chosen,
        "flags": flags,
        "can_be_had_read": shown is not None and shown.decision is not None and can_be_had_read(shown.decision),
        "elsewhere": elsewhere,
        "misfiled": found.row.misfiled,
        "age_years": next((each.age_years for each in found.row.images if each.age_years is not None), None),
        "unread": views.unread(found.row),
        "looked_for": views.looked_for(found.row.item),
        "card": card,
    }
