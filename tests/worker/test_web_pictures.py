"""Decoding is slow: it happens once for all who ask, and the large image never waits behind a page of thumbnails."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.preprocessing import Preprocessing
from worker import web_pictures
from worker.web_pictures import NoPicture, Pictures, tensor_size


@dataclass(frozen=True)
class Decoded:
    image: NDArray[np.float32]


class Decoder:
    """Stands in for reading a file: counts, and waits until it is let go."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.go = threading.Event()
        self.held: set[str] = set()

    def __call__(self, path: Path) -> Decoded:
        self.reads.append(path.name)
        if path.name in self.held:
            assert self.go.wait(10)
        return Decoded(np.linspace(0, 1, 300 * 400, dtype=np.float32).reshape(300, 400))


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    decoder = Decoder()
    monkeypatch.setattr(web_pictures, "read_grayscale", decoder)
    return decoder


def test_one_image_is_decoded_once_for_all_who_ask_at_the_same_time_and_after(decoder: Decoder) -> None:
    async def ask() -> None:
        pictures = Pictures()
        asked = [pictures.gray("a", "view", lambda: Path("a")) for _ in range(5)]
        assert len(set(await asyncio.gather(*asked))) == 1
        await pictures.gray("a", "view", lambda: Path("a"))
        pictures.close()

    asyncio.run(ask())
    assert decoder.reads == ["a"]


def test_large_image_does_not_wait_for_slow_thumbnails(decoder: Decoder) -> None:
    decoder.held = {"slow"}

    async def ask() -> None:
        pictures = Pictures()
        thumbnail = asyncio.create_task(pictures.gray("slow", "thumbnail", lambda: Path("slow")))
        await asyncio.wait_for(pictures.gray("b", "view", lambda: Path("b")), 10)
        assert not thumbnail.done()
        decoder.go.set()
        await thumbnail
        pictures.close()

    asyncio.run(ask())


def test_one_who_leaves_does_not_take_the_picture_from_those_who_wait(decoder: Decoder) -> None:
    decoder.held = {"a"}

    async def ask() -> None:
        pictures = Pictures()
        first, second = (asyncio.create_task(pictures.gray("a", "view", lambda: Path("a"))) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        decoder.go.set()
        assert await asyncio.wait_for(second, 10)
        pictures.close()

    asyncio.run(ask())
    assert decoder.reads == ["a"]


def test_cache_forgets_the_longest_unused_when_it_is_full(decoder: Decoder) -> None:
    async def ask() -> None:
        pictures = Pictures(cache_bytes=1)
        for name in ("a", "b", "b", "a"):
            await pictures.gray(name, "view", lambda name=name: Path(name))  # type: ignore[misc]
        pictures.close()

    asyncio.run(ask())
    assert decoder.reads == ["a", "b", "a"]


def test_tensor_size_is_read_from_the_name_of_the_preprocessing() -> None:
    assert tensor_size(f"{Preprocessing().identifier}+gray1") == 224
    gray = Preprocessing(size=512, geometry="pad", channels=1, mean=(0.5,), std=(0.25,))
    assert tensor_size(f"{gray.identifier}+gray1") == 512
    with pytest.raises(NoPicture, match="'unknown' does not name the size"):
        tensor_size("unknown")
