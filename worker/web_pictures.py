"""Pictures for the pages: received radiographs in grayscale, and overlays drawn from the stored maps. No inference.

Decoding is slow beside everything else a page needs, so it has threads of its own: a queue of thumbnails holds up
neither a page nor the large image somebody waits for.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dicom_io.grayscale import read_grayscale
from model.gradcam import LogitMaps
from model.overlay import draw_layer, draw_scale, draw_thumbnail

Size = Literal["thumbnail", "view", "full"]
LONGEST_SIDE: dict[Size, int] = {"thumbnail": 192, "view": 1536, "full": 4096}
_JPEG_QUALITY: dict[Size, int] = {"thumbnail": 85, "view": 95, "full": 95}
_CACHE_BYTES = 96 * 1024 * 1024
_TENSOR_SIZE = re.compile(r"-(\d+)x[13]-")


class NoPicture(Exception):
    """There is nothing to show; the message says why, without patient data."""


@dataclass(frozen=True)
class _Drawn:
    jpegs: dict[Size, bytes]
    shape: tuple[int, int]

    @property
    def weight(self) -> int:
        return sum(len(jpeg) for jpeg in self.jpegs.values())


class Pictures:
    """Draws pictures in threads of its own; one image is decoded once, however many ask for it at the same time.

    Parameters
    ----------
    cache_bytes
        How much encoded pixel data is kept, the longest unused going first.
    """

    def __init__(self, cache_bytes: int = _CACHE_BYTES) -> None:
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[tuple[str, bool], _Drawn] = OrderedDict()
        self._lock = Lock()
        self._drawing: dict[tuple[str, bool], asyncio.Future[_Drawn]] = {}
        # thumbnails come by the page; the one large image has a thread of its own
        self._threads = {large: ThreadPoolExecutor(1, f"picture-{large}") for large in (False, True)}

    async def gray(self, sha256: str, size: Size, source: Callable[[], Path]) -> bytes:
        """Return the radiograph as a grayscale JPEG, never enlarged.

        Raises
        ------
        dicom_io.grayscale.PixelsUnreadable, dicom_io.facts.UnreadableDicom, OSError, worker.store.StoreUnavailable
            As reading it does.
        """
        return (await self._drawn(sha256, size, source)).jpegs[size]

    async def overlay(
        self,
        sha256: str,
        size: Size,
        source: Callable[[], Path],
        maps: Callable[[], tuple[LogitMaps, NDArray[np.float64], int]],
        position: int,
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
            return _png(draw_layer(contribution, affine, tensor_size, shape, LONGEST_SIDE[size]))

        return await asyncio.get_running_loop().run_in_executor(self._threads[size != "thumbnail"], draw)

    def close(self) -> None:
        """Let running pictures finish and start no more."""
        for threads in self._threads.values():
            threads.shutdown(cancel_futures=True)

    async def _drawn(self, sha256: str, size: Size, source: Callable[[], Path]) -> _Drawn:
        key = (sha256, size != "thumbnail")
        cached = self._take(key, size)
        if cached is not None:
            return cached
        if key not in self._drawing:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._threads[key[1]], self._draw, key, size, source)
            self._drawing[key] = future
            future.add_done_callback(lambda _done: self._drawing.pop(key, None))
        # shielded: the one who asked first may close the page, the others still wait for it
        drawn = await asyncio.shield(self._drawing[key])
        return drawn if size in drawn.jpegs else await self._drawn(sha256, size, source)

    def _take(self, key: tuple[str, bool], size: Size) -> _Drawn | None:
        with self._lock:
            drawn = self._cached.get(key)
            if drawn is None or size not in drawn.jpegs:
                return None
            self._cached.move_to_end(key)
            return drawn

    def _draw(self, key: tuple[str, bool], size: Size, source: Callable[[], Path]) -> _Drawn:
        image = read_grayscale(source()).image
        rows, columns = image.shape
        with self._lock:
            before = self._cached.get(key)
        jpegs = {**(before.jpegs if before else {}), size: _jpeg(image, size)}
        drawn = _Drawn(jpegs, (rows, columns))
        with self._lock:
            self._cached[key] = drawn
            self._cached.move_to_end(key)
            while len(self._cached) > 1 and sum(each.weight for each in self._cached.values()) > self._cache_bytes:
                self._cached.popitem(last=False)
        return drawn


def tensor_size(preprocessing_id: str) -> int:
    """Return the tensor's side, which `model.preprocessing.Preprocessing.identifier` names. `NoPicture`."""
    found = _TENSOR_SIZE.search(preprocessing_id)
    if found is None:
        raise NoPicture(f"preprocessing {preprocessing_id!r} does not name the size of its tensor")
    return int(found.group(1))


def scale_picture() -> bytes:
    """Return the overlays' colour scale as a PNG."""
    return _png(draw_scale())


def _jpeg(image: NDArray[np.float32], size: Size) -> bytes:
    import cv2

    gray = draw_thumbnail(image, LONGEST_SIDE[size])
    encoded, data = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY[size]])
    assert encoded, "OpenCV encodes every uint8 image"
    return data.tobytes()


def _png(rgba: NDArray[np.uint8]) -> bytes:
    import cv2

    encoded, data = cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert encoded, "OpenCV encodes every uint8 image"
    return data.tobytes()
