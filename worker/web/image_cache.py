"""Images for the pages: received radiographs in grayscale, and overlays drawn from the stored maps. No inference.

Decoding is slow, and it runs foreign code on foreign bytes, so it has separate processes: one for thumbnails and one
for large images. A queue of thumbnails delays neither a page nor a large image, and an image that crashes or hangs its
decoder affects only itself.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from model.bundle.heatmap_scale import DEFAULT, LabelScale
from model.explain.gradcam import GradCamMaps
from model.rendering.overlay import OverlayStyle, draw_layer, draw_scale
from worker.runtime.isolated_process import CallEnded, IsolatedCalls, NotBegun
from worker.runtime.timeouts import CHILD_START_LIMIT, PICTURE_AGAIN, PICTURE_IDLE, PICTURE_TIME_LIMIT
from worker.web import image_process
from worker.web.image_process import Drawn, PictureFailed, Wanted

_log = structlog.get_logger(__name__)

Size = Literal["thumbnail", "view", "full"]
LONGEST_SIDE: dict[Size, int] = {"thumbnail": 192, "view": 1536, "full": 4096}
_JPEG_QUALITY: dict[Size, int] = {"thumbnail": 85, "view": 95, "full": 95}
_CACHE_BYTES = 96 * 1024 * 1024
_MOST_POISONOUS = 1000  # remembered images that crashed or hung their decoder
_TENSOR_SIZE = re.compile(r"-(\d+)x[13]-")


class NoPicture(Exception):
    """There is no image to show; the message says why, without patient data."""


class Calls(Protocol):
    """Answers a `Wanted` with `Drawn`, as `worker.runtime.isolated_process.IsolatedCalls` does."""

    def __call__(self, request: Any) -> Any: ...  # noqa: ANN401
    def kill(self) -> None: ...
    def close(self) -> None: ...


def isolated_calls() -> IsolatedCalls:
    """Return the process that draws; it starts with the first image and ends when it is idle."""
    return IsolatedCalls(
        image_process.begin,
        start_seconds=CHILD_START_LIMIT["openvino"],
        call_seconds=PICTURE_TIME_LIMIT,
        idle_seconds=PICTURE_IDLE,
    )


@dataclass(frozen=True)
class _Kept:
    jpegs: dict[Size, bytes]
    shape: tuple[int, int]

    @property
    def weight(self) -> int:
        return sum(len(jpeg) for jpeg in self.jpegs.values())


class Pictures:
    """Draws images outside the web server's thread; concurrent requests for one image decode it once.

    Parameters
    ----------
    cache_bytes
        The size of the cache of encoded images; the least recently used are dropped first.
    calls
        Creates a drawing process; called once for thumbnails and once for large images.
    """

    def __init__(self, cache_bytes: int = _CACHE_BYTES, calls: Callable[[], Calls] = isolated_calls) -> None:
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[tuple[str, bool], _Kept] = OrderedDict()
        self._lock = Lock()
        self._drawing: dict[tuple[str, bool], asyncio.Future[_Kept]] = {}
        self._poisonous: OrderedDict[str, tuple[float, str]] = OrderedDict()
        # a page requests many thumbnails at once; a large image has its own thread and process
        self._threads = {large: ThreadPoolExecutor(1, f"picture-{large}") for large in (False, True)}
        self._calls = {large: calls() for large in (False, True)}
        self._closed = False

    async def gray(self, sha256: str, size: Size, source: Callable[[], Path]) -> bytes:
        """Return the radiograph as a grayscale JPEG, never enlarged.

        Raises
        ------
        dicom_io.pixels.grayscale.PixelsUnreadable, dicom_io.header.instance_header.UnreadableDicom
        worker.storage.store.StoredFileLost, worker.storage.store.StoreUnavailable
            As reading it does.
        worker.web.image_process.PictureFailed
            If its decoder crashed, hung or raised an unexpected error.
        worker.runtime.isolated_process.NotBegun
            If the drawing process cannot start.
        """
        return (await self._drawn(sha256, size, source)).jpegs[size]

    async def overlay(
        self,
        sha256: str,
        size: Size,
        source: Callable[[], Path],
        maps: Callable[[], tuple[GradCamMaps, NDArray[np.float64], int]],
        position: int,
        scale: LabelScale = DEFAULT,
        style: OverlayStyle = "filled",
    ) -> bytes:
        """Return one label's overlay as a transparent PNG that fits `gray` of the same size exactly.

        Raises
        ------
        NoPicture
            If there is no such label.
        """
        shape = (await self._drawn(sha256, size, source)).shape

        def draw() -> bytes:
            logit_maps, affine, tensor_size = maps()
            if not 0 <= position < len(logit_maps.scales):
                raise NoPicture(f"label {position} does not exist: this model has {len(logit_maps.scales)}")
            contribution = logit_maps.contribution(position)
            return _png(draw_layer(contribution, affine, tensor_size, shape, LONGEST_SIDE[size], scale, style))

        return await asyncio.get_running_loop().run_in_executor(self._threads[size != "thumbnail"], draw)

    def close(self) -> None:
        """End what is being drawn and start no more."""
        self._closed = True
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)
        for calls in self._calls.values():
            calls.kill()  # ends the requests that wait for an image that hangs
        for threads in self._threads.values():
            threads.shutdown()
        for calls in self._calls.values():
            calls.close()

    async def _drawn(self, sha256: str, size: Size, source: Callable[[], Path]) -> _Kept:
        key = (sha256, size != "thumbnail")
        cached = self._take(key, size)
        if cached is not None:
            return cached
        if key not in self._drawing:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._threads[key[1]], self._draw, key, size, source)
            self._drawing[key] = future
            future.add_done_callback(lambda _done: self._drawing.pop(key, None))
        # shielded: if the first requester disconnects, the others still need the image
        drawn = await asyncio.shield(self._drawing[key])
        return drawn if size in drawn.jpegs else await self._drawn(sha256, size, source)

    def _take(self, key: tuple[str, bool], size: Size) -> _Kept | None:
        with self._lock:
            drawn = self._cached.get(key)
            if drawn is None or size not in drawn.jpegs:
                return None
            self._cached.move_to_end(key)
            return drawn

    def _draw(self, key: tuple[str, bool], size: Size, source: Callable[[], Path]) -> _Kept:
        drawn = self._call(key, Wanted(source(), LONGEST_SIDE[size], _JPEG_QUALITY[size]))
        with self._lock:
            before = self._cached.get(key)
            kept = _Kept({**(before.jpegs if before else {}), size: drawn.jpeg}, drawn.shape)
            self._cached[key] = kept
            self._cached.move_to_end(key)
            while len(self._cached) > 1 and sum(each.weight for each in self._cached.values()) > self._cache_bytes:
                self._cached.popitem(last=False)
        return kept

    def _call(self, key: tuple[str, bool], wanted: Wanted) -> Drawn:
        """Draw it, unless it crashed its decoder recently: pages repeat their requests."""
        sha256, large = key
        with self._lock:
            until, reason = self._poisonous.get(sha256, (0.0, ""))
        if time.monotonic() < until:
            raise PictureFailed(reason)
        try:
            drawn: Drawn = self._calls[large](wanted)
        except NotBegun:
            raise
        except CallEnded as error:
            reason = f"drawing it failed: {error}"
            if self._closed:
                raise PictureFailed(reason) from None
            _log.error("picture not drawn", image=sha256, reason=str(error))
            with self._lock:
                self._poisonous[sha256] = (time.monotonic() + PICTURE_AGAIN, reason)
                if len(self._poisonous) > _MOST_POISONOUS:
                    self._poisonous.popitem(last=False)
            raise PictureFailed(reason) from None
        return drawn


def tensor_size(preprocessing_id: str) -> int:
    """Return the tensor's side, which `model.preprocessing.tensor.Preprocessing.identifier` names. `NoPicture`."""
    found = _TENSOR_SIZE.search(preprocessing_id)
    if found is None:
        raise NoPicture(f"preprocessing {preprocessing_id!r} does not name the size of its tensor")
    return int(found.group(1))


def scale_picture() -> bytes:
    """Return the overlays' colour scale as a PNG."""
    return _png(draw_scale())


def _png(rgba: NDArray[np.uint8]) -> bytes:
    import cv2

    encoded, data = cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert encoded, "OpenCV encodes every uint8 image"
    return data.tobytes()
