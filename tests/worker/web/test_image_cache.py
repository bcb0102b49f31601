"""Decoding is slow: it happens once for all who ask, and the large image never waits behind a page of thumbnails."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

import pytest

from model.preprocessing.tensor import Preprocessing
from tests.peers import poison
from tests.peers.radiographs import chest
from worker.runtime.isolated_process import CallEnded, IsolatedCalls, NotBegun
from worker.web import image_cache
from worker.web.image_cache import NoPicture, Pictures, tensor_size
from worker.web.image_process import Drawn, PictureFailed, Wanted


class Decoder:
    """Stands in for the processes that draw: counts, and waits until it is let go."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.go = threading.Event()
        self.held: set[str] = set()

        self.fault: Exception | None = None

    def __call__(self, wanted: Wanted) -> Drawn:
        name = wanted.path.name
        self.reads.append(name)
        if name in self.held:
            assert self.go.wait(60)
        if self.fault is not None:
            raise self.fault
        return Drawn(name.encode(), (300, 400))

    def kill(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def decoder() -> Decoder:
    return Decoder()


def test_one_image_is_decoded_once_for_all_who_ask_at_the_same_time_and_after(decoder: Decoder) -> None:
    async def ask() -> None:
        pictures = Pictures(calls=lambda: decoder)
        asked = [pictures.gray("a", "view", lambda: Path("a")) for _ in range(5)]
        assert len(set(await asyncio.gather(*asked))) == 1
        await pictures.gray("a", "view", lambda: Path("a"))
        pictures.close()

    asyncio.run(ask())
    assert decoder.reads == ["a"]


def test_large_image_does_not_wait_for_slow_thumbnails(decoder: Decoder) -> None:
    decoder.held = {"slow"}

    async def ask() -> None:
        pictures = Pictures(calls=lambda: decoder)
        thumbnail = asyncio.create_task(pictures.gray("slow", "thumbnail", lambda: Path("slow")))
        await asyncio.wait_for(pictures.gray("b", "view", lambda: Path("b")), 60)
        assert not thumbnail.done()
        decoder.go.set()
        await thumbnail
        pictures.close()

    asyncio.run(ask())


def test_one_who_leaves_does_not_take_the_picture_from_those_who_wait(decoder: Decoder) -> None:
    decoder.held = {"a"}

    async def ask() -> None:
        pictures = Pictures(calls=lambda: decoder)
        first, second = (asyncio.create_task(pictures.gray("a", "view", lambda: Path("a"))) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        decoder.go.set()
        assert await asyncio.wait_for(second, 60)
        pictures.close()

    asyncio.run(ask())
    assert decoder.reads == ["a"]


def test_cache_forgets_the_longest_unused_when_it_is_full(decoder: Decoder) -> None:
    async def ask() -> None:
        pictures = Pictures(1, lambda: decoder)
        for name in ("a", "b", "b", "a"):
            await pictures.gray(name, "view", lambda name=name: Path(name))  # type: ignore[misc]
        pictures.close()

    asyncio.run(ask())
    assert decoder.reads == ["a", "b", "a"]


def test_an_image_that_ended_its_process_is_not_tried_again_by_every_page(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        pictures = Pictures(calls=lambda: decoder)
        for fault, says in ((NotBegun("no memory"), "no memory"), (CallEnded("it hung"), "drawing it failed: it hung")):
            decoder.fault = fault
            for size in ("thumbnail", "view"):
                with pytest.raises((NotBegun, PictureFailed), match=says):
                    await pictures.gray("a", size, lambda: Path("a"))
        decoder.fault = None
        await pictures.gray("b", "view", lambda: Path("b"))
        with pytest.raises(PictureFailed, match="it hung"):
            await pictures.gray("a", "view", lambda: Path("a"))
        monkeypatch.setattr(image_cache.time, "monotonic", lambda: float("inf"))
        await pictures.gray("a", "view", lambda: Path("a"))
        pictures.close()

    asyncio.run(ask())
    assert decoder.reads == ["a", "a", "a", "b", "a"]  # twice where it did not begin, then once for both sizes


def test_pictures_that_hang_are_let_go_when_the_pages_end(tmp_path: Path) -> None:
    begin = partial(IsolatedCalls, poison.begin_drawing, start_seconds=60, call_seconds=600)
    image = chest(tmp_path, 0, Rows=poison.HANGS).path

    async def ask() -> None:
        asked = threading.Event()
        pictures = Pictures(calls=begin)
        await pictures.gray("good", "view", lambda: chest(tmp_path, 1).path)

        def source() -> Path:
            asked.set()
            return image

        hanging = asyncio.create_task(pictures.gray("a", "view", source))
        await asyncio.to_thread(asked.wait, 60)
        await asyncio.to_thread(pictures.close)
        with pytest.raises(PictureFailed, match="SIGKILL"):
            await hanging

    asyncio.run(ask())


def test_tensor_size_is_read_from_the_name_of_the_preprocessing() -> None:
    assert tensor_size(f"{Preprocessing().identifier}+gray1") == 224
    gray = Preprocessing(size=512, geometry="pad", channels=1, mean=(0.5,), std=(0.25,))
    assert tensor_size(f"{gray.identifier}+gray1") == 512
    with pytest.raises(NoPicture, match="'unknown' does not name the size"):
        tensor_size("unknown")
