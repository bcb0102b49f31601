"""Routes of the images, addressed by the SHA-256 of the received file, never by patient data."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path as FilePath
from typing import Annotated

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, FastAPI, Path, Request, Response
from fastapi.responses import PlainTextResponse
from numpy.typing import NDArray

from db.views.study_page import StoredMaps, source_uri, stored_maps
from dicom_io.header.instance_header import UnreadableDicom
from dicom_io.pixels.grayscale import GRAYSCALE_VERSION, PixelsUnreadable
from model.explain.gradcam import GradCamMaps
from model.rendering.overlay import RENDERING_VERSION, OverlayStyle
from worker.installation import Site
from worker.runtime.isolated_process import NotBegun
from worker.storage.store import StoredFileLost, StoreUnavailable
from worker.web.image_cache import NoPicture, Pictures, Size, scale_picture, tensor_size
from worker.web.image_process import PictureFailed
from worker.web.view_models import label_scale

Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the received file")]
RowId = Annotated[int, Path(ge=1, lt=1 << 63)]
_KEPT = "private, max-age=600"  # cached by the browser for a while, by no proxy


def image_routes(site: Site, pictures: Pictures) -> APIRouter:
    """Return the routes of radiographs, overlays and the overlays' scale."""
    routes = APIRouter()

    @routes.get("/images/{digest}/{size}.jpg", tags=["pictures"])
    async def radiograph(request: Request, digest: Digest, size: Size) -> Response:
        """The radiograph in 8-bit grayscale as displayed; longest side 192, 1536 or at most 4096 pixels."""
        source = await _source(site, digest)
        version = _version(digest, size, GRAYSCALE_VERSION)
        if request.headers.get("if-none-match") == version:
            return Response(status_code=304, headers=_kept(version))
        data = await pictures.gray(digest, size, source)
        return Response(data, media_type="image/jpeg", headers=_kept(version))

    @routes.get("/images/{digest}/overlays/{analysis_id}/{position}-{size}.png", tags=["pictures"])
    async def overlay(
        request: Request,
        digest: Digest,
        analysis_id: RowId,
        position: int,
        size: Size,
        style: OverlayStyle = "filled",
    ) -> Response:
        """The overlay of one label: positive evidence, transparent elsewhere; fits the radiograph of the same size."""
        maps = await to_thread.run_sync(_maps, site, analysis_id, digest)
        source = await _source(site, digest)
        scale = label_scale(maps.record, maps.labels[position] if position < len(maps.labels) else "")
        made_by = (maps.model_digest, maps.preprocessing_id, GRAYSCALE_VERSION, RENDERING_VERSION, scale, style)
        version = _version(digest, size, position, *made_by)
        if request.headers.get("if-none-match") == version:
            return Response(status_code=304, headers=_kept(version))
        data = await pictures.overlay(digest, size, source, lambda: _unpacked(maps), position, scale, style)
        return Response(data, media_type="image/png", headers=_kept(version))

    @routes.get("/images/scale.png", tags=["pictures"])
    def scale() -> Response:
        """The colour scale of every overlay."""
        return Response(scale_picture(), media_type="image/png", headers={"Cache-Control": "public, max-age=3600"})

    return routes


def handle_missing_pictures(web: FastAPI) -> None:
    """Answer with the reason if an image cannot be drawn."""

    async def gone(_request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 404)

    async def unreadable(_request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"the image cannot be shown: {error}", 422)

    async def not_now(_request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"images cannot be drawn now: {error}", 503)

    web.add_exception_handler(NoPicture, gone)
    web.add_exception_handler(StoredFileLost, gone)
    web.add_exception_handler(StoreUnavailable, not_now)
    web.add_exception_handler(PixelsUnreadable, unreadable)
    web.add_exception_handler(UnreadableDicom, unreadable)
    web.add_exception_handler(PictureFailed, unreadable)
    web.add_exception_handler(NotBegun, not_now)


def picture_threads(pictures: Pictures) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return the application's lifespan, at whose end the drawing threads and processes are stopped."""

    @asynccontextmanager
    async def lifespan(_web: FastAPI) -> AsyncIterator[None]:
        yield
        pictures.close()

    return lifespan


async def _source(site: Site, digest: str) -> Callable[[], FilePath]:
    """Look it up in the database every time: an erased image must not be shown from the cache."""

    def look_up() -> str:
        with site.database.read() as session:
            uri = source_uri(session, digest)
        if uri is None:
            raise NoPicture("no received image has this digest (it may have been removed)")
        return uri

    uri = await to_thread.run_sync(look_up)
    return lambda: site.store.whole(uri, digest)


def _maps(site: Site, analysis_id: int, digest: str) -> StoredMaps:
    with site.database.read() as session:
        maps = stored_maps(session, analysis_id, digest)
    if maps is None:
        raise NoPicture(f"analysis {analysis_id} of this image has no maps")
    return maps


def _unpacked(maps: StoredMaps) -> tuple[GradCamMaps, NDArray[np.float64], int]:
    affine = np.array(maps.affine, np.float64).reshape(2, 3)
    return GradCamMaps.from_bytes(maps.data), affine, tensor_size(maps.preprocessing_id)


def _version(*parts: object) -> str:
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def _kept(version: str) -> dict[str, str]:
    return {"Cache-Control": _KEPT, "ETag": version}
