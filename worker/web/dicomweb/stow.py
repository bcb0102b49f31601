"""STOW-RS (PS3.18 10.5): DICOM objects stored over HTTP, through the same examination and intake as over DIMSE."""

from __future__ import annotations

import asyncio
import hmac
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email.utils import collapse_rfc2231_value
from typing import Annotated, Any

import structlog
from anyio import to_thread
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from db.engine.session import DatabaseUnavailable
from dicom_io.network import addresses
from dicom_io.network.status_codes import Status
from dicom_io.receive.messages import ListenerSettings, Received, Rejection
from dicom_io.receive.part10_files import claimed_uids, examine_file
from dicom_io.receive.store_request import StoreRejected
from dicom_io.receive.stow_response import DICOM_JSON, StowOutcome, store_response
from dicom_io.uids import is_uid
from worker.config.settings import Stow
from worker.installation import Site
from worker.intake.intake import Intake
from worker.runtime.timeouts import RETRY_AFTER, STOW_PATIENCE, STOW_SLOWEST
from worker.storage.store import StoreUnavailable
from worker.web.dicomweb.multipart import BadMultipart, Part, Parts, Room, media_type

_log = structlog.get_logger(__name__)

CALLER = "STOW-RS"
_DICOM = "application/dicom"
_LARGEST_PART = ListenerSettings.maximum_object
_MOST_HELD = 2 * _LARGEST_PART  # bytes, of all requests together
_MOST_REQUESTS = 16  # concurrent
_MOST_PARTS = 10_000  # per request
_BODY = {
    "requestBody": {
        "required": True,
        "content": {'multipart/related; type="application/dicom"': {"schema": {"type": "string", "format": "binary"}}},
    },
    "responses": {
        "200": {"description": "every instance is stored"},
        "202": {"description": "some are stored; FailedSOPSequence says which are not, and why"},
        "400": {"description": "the body is empty or not a multipart message"},
        "401": {"description": "the bearer token is missing or wrong"},
        "403": {"description": "this address is not allowed to store"},
        "406": {"description": "the answer is application/dicom+json"},
        "408": {"description": "the body came too slowly"},
        "409": {"description": "none is stored; FailedSOPSequence says why"},
        "413": {"description": "none is stored: larger than the limit"},
        "415": {"description": "the body is not multipart/related of application/dicom"},
        "503": {"description": "nothing is accepted now; Retry-After says when to retry"},
    },
}
StudyUID = Annotated[str, Path(description="Study Instance UID that all instances must have")]


class Refused(Exception):
    """The whole request is rejected; the message says why, without patient data."""

    def __init__(self, status_code: int, reason: str, status: Status, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status_code = status_code
        self.status = status
        self.headers = headers or {}


@dataclass
class _Progress:
    outcomes: list[StowOutcome] = field(default_factory=list)
    too_large: bool = False


def stow_routes(site: Site) -> APIRouter:
    """Return the two routes of Store Instances."""
    routes, service = APIRouter(), StowService(site)

    @routes.post("/dicom-web/studies", tags=["DICOMweb"], response_class=Response, openapi_extra=_BODY)
    async def store(request: Request) -> Response:
        """STOW-RS: stores DICOM instances of any study; the application/dicom+json response lists each outcome."""
        return await service.answer(request, "")

    @routes.post(
        "/dicom-web/studies/{study_instance_uid}", tags=["DICOMweb"], response_class=Response, openapi_extra=_BODY
    )
    async def store_in_study(request: Request, study_instance_uid: StudyUID) -> Response:
        """STOW-RS: stores DICOM instances of one study; those of another study are rejected."""
        return await service.answer(request, study_instance_uid)

    return routes


class StowService:
    """Splits requests into instances and passes each to the intake, which the first request opens."""

    def __init__(self, site: Site, intake: Intake | None = None) -> None:
        self._site = site
        self._intake = intake
        self._opening = threading.Lock()
        self._room = Room(_MOST_HELD)
        self._requests = 0

    async def answer(self, request: Request, study_instance_uid: str) -> Response:
        """Answer one Store Instances request."""
        address = "" if request.client is None else request.client.host
        try:
            check_caller(self._site.settings.stow, address, request.headers.get("authorization", ""))
            if study_instance_uid and not is_uid(study_instance_uid):
                raise Refused(400, "the Study Instance UID in the path is not a valid UID", Status.CANNOT_UNDERSTAND)
            boundary = check_headers(request)
            if self._requests >= _MOST_REQUESTS:
                raise Refused(503, f"{_MOST_REQUESTS} requests are in progress", Status.OUT_OF_RESOURCES, _LATER)
            self._requests += 1
            try:
                await to_thread.run_sync(self._check_limits)
                progress = _Progress()
                fault = await self._take(request, boundary, study_instance_uid, address, progress)
            finally:
                self._requests -= 1
        except Refused as refused:
            await to_thread.run_sync(self._record, address, refused.status, str(refused))
            return JSONResponse({"error": str(refused)}, refused.status_code, refused.headers)
        except (DatabaseUnavailable, StoreUnavailable) as error:
            return JSONResponse({"error": str(error)}, 503, _LATER)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads the answer; stored instances stay stored
        return response(progress.outcomes, too_large=progress.too_large, fault=fault)

    def _check_limits(self) -> None:
        pressure = self._opened().limits.pressure()
        if pressure:
            raise Refused(503, f"rejected for now: {pressure}", Status.OUT_OF_RESOURCES, _LATER)

    async def _take(self, request: Request, boundary: str, study: str, address: str, progress: _Progress) -> str:
        """Store part by part. Returns the fault of the body after the last complete part; empty if there is none."""
        try:
            parts = Parts(boundary, _LARGEST_PART, self._room)
        except BadMultipart as error:
            raise Refused(400, str(error), Status.CANNOT_UNDERSTAND) from error
        try:
            async for piece in patient(request.stream()):
                parts.feed(piece)
                while (part := parts.next()) is not None:
                    if len(progress.outcomes) >= _MOST_PARTS:
                        raise BadMultipart(f"more than {_MOST_PARTS} parts")
                    outcome = await to_thread.run_sync(self._store, part, study, address)
                    progress.too_large |= part.size > _LARGEST_PART
                    progress.outcomes.append(outcome)
                    parts.done(part)
            fault = parts.fault
        except BadMultipart as error:
            fault = str(error)
        finally:
            parts.close()
        if fault:
            if not progress.outcomes:
                raise Refused(400, fault, Status.CANNOT_UNDERSTAND)
            await to_thread.run_sync(self._record, address, Status.CANNOT_UNDERSTAND, fault)
        return fault

    def _store(self, part: Part, study: str, address: str) -> StowOutcome:
        """Examine one part and pass it to the intake."""
        if part.data is None:
            too_large = part.size > _LARGEST_PART
            reason = f"more than {_LARGEST_PART} bytes" if too_large else "too much is being received at once"
            self._record(address, Status.OUT_OF_RESOURCES, reason)
            return StowOutcome(Status.OUT_OF_RESOURCES)
        declared = media_type(part.media_type or _DICOM).get_content_type()
        try:
            if declared != _DICOM:
                raise StoreRejected(Status.CANNOT_UNDERSTAND, f"a part is not {_DICOM}")
            data, facts = examine_file(part.data)
            if study and facts.study_instance_uid != study:
                raise StoreRejected(Status.DATA_SET_MISMATCH, "the instance belongs to another study than the request")
        except StoreRejected as refused:
            self._record(address, refused.status, refused.reason)
            return StowOutcome(refused.status, *claimed_uids(part.data))
        except Exception as error:  # noqa: BLE001 - the process's edge: one instance must not cost the others theirs
            return self._failed(address, error)
        named = facts.sop_class_uid, facts.sop_instance_uid
        try:
            status = self._opened().receive(Received(data, facts, CALLER, "", address, ""))
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(address, error, *named)
        return StowOutcome(status, *named)

    def _failed(self, address: str, error: Exception, *named: str) -> StowOutcome:
        # the class only: a parser's or database's message may quote patient data
        self._record(address, Status.PROCESSING_FAILURE, f"internal error: {type(error).__name__}")
        return StowOutcome(Status.PROCESSING_FAILURE, *named)

    def _record(self, address: str, status: Status, reason: str) -> None:
        self._opened().rejected(Rejection(CALLER, address, status, reason, self._site.clock()))

    def _opened(self) -> Intake:
        with self._opening:
            if self._intake is None:
                from worker.queue.celery_app import make_app
                from worker.queue.dispatch import Dispatcher

                site = self._site
                self._intake = Intake(site, Dispatcher(make_app(site.settings)).enqueue)
            return self._intake


_LATER = {"Retry-After": str(RETRY_AFTER)}


def check_caller(stow: Stow, address: str, authorization: str) -> None:
    """Check the sender's address, token, or both if both are configured. `Refused`."""
    if stow.token:
        scheme, _, given = authorization.partition(" ")
        token = stow.token.get_secret_value().encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token):
            raise Refused(
                401, "a bearer token is needed ([stow] token)", Status.NOT_AUTHORISED, {"WWW-Authenticate": "Bearer"}
            )
        if not stow.allowed_addresses:
            return
    if not _is_allowed(address, stow.allowed_addresses):
        raise Refused(
            403, "this address is not allowed to store ([stow] allowed_addresses, token)", Status.NOT_AUTHORISED
        )


def _is_allowed(address: str, allowed: tuple[str, ...]) -> bool:
    if not address:
        return True  # a Unix socket has no address
    try:
        caller = addresses.address(address)
    except ValueError:
        return False
    return caller.is_loopback or any(addresses.is_within(address, each) for each in allowed)


def check_headers(request: Request) -> str:
    """Check the request's headers and return the boundary of its body. `Refused`."""
    kind = media_type(request.headers.get("content-type", ""))
    boundary = kind.get_boundary()
    if kind.get_content_type() != "multipart/related" or _text(kind.get_param("type", _DICOM)) != _DICOM:
        raise Refused(415, f'the body must be multipart/related; type="{_DICOM}"', Status.CANNOT_UNDERSTAND)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "the body must not be compressed as a whole", Status.CANNOT_UNDERSTAND)
    if not boundary:
        raise Refused(400, "the content type has no boundary", Status.CANNOT_UNDERSTAND)
    accepted = [each.split(";")[0].strip().lower() for each in request.headers.get("accept", "*/*").split(",")]
    if not {"*/*", "application/*", "application/json", DICOM_JSON, ""} & set(accepted):
        raise Refused(406, f"the answer is {DICOM_JSON}", Status.CANNOT_UNDERSTAND)
    return boundary


def _text(parameter: object) -> str:
    return collapse_rfc2231_value(parameter).lower()  # type: ignore[arg-type]  # whatever get_param returns


async def patient(
    pieces: AsyncIterator[bytes], clock: Callable[[], float] = time.monotonic, patience: float = STOW_PATIENCE
) -> AsyncIterator[bytes]:
    """Pass on the pieces of a body; `Refused` if the sender is silent or slower than `STOW_SLOWEST`."""
    iterator, waited, count = aiter(pieces), 0.0, 0
    while True:
        began = clock()
        try:
            piece = await asyncio.wait_for(anext(iterator), patience)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Refused(408, f"nothing came for {patience:g} s", Status.CANNOT_UNDERSTAND) from error
        waited += clock() - began
        count += len(piece)
        if waited > patience + count / STOW_SLOWEST:
            raise Refused(408, f"slower than {STOW_SLOWEST} bytes a second", Status.CANNOT_UNDERSTAND)
        yield piece


def response(outcomes: list[StowOutcome], *, too_large: bool = False, fault: str = "") -> Response:
    """Answer with the outcome of each part (PS3.18 Table 10.5.3-1)."""
    if fault:
        outcomes = [*outcomes, StowOutcome(Status.CANNOT_UNDERSTAND)]
    stored = sum(outcome.status == Status.SUCCESS for outcome in outcomes)
    headers: dict[str, Any] = {}
    if not outcomes:
        return JSONResponse({"error": "the body holds no instance"}, 400)
    if stored == len(outcomes):
        code = 200
    elif stored:
        code = 202
    elif too_large:
        code = 413
    elif all(outcome.status == Status.OUT_OF_RESOURCES for outcome in outcomes):
        code, headers = 503, dict(_LATER)
    else:
        code = 409
    _log.info("stored over HTTP", stored=stored, failed=len(outcomes) - stored)
    return Response(store_response(outcomes), code, headers, DICOM_JSON)
