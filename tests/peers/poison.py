"""Decoders that crash and that hang, for images of sizes that no other test uses; installed by a test's own entry."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

CRASHES, HANGS, RAISES = 771, 773, 775  # Rows


def install() -> None:
    """Poison the decoding of this process: by Rows, a real segmentation fault, a deadlock, an error nobody foresaw."""
    from dicom_io.pixels import decoding

    decoding.decode = _poisoned(decoding.decode)


def begin_drawing() -> Callable[[Any], Any]:
    """Begin as the pages' drawing process does, poisoned; at the top of a module, so that it can be pickled."""
    from worker.web.image_process import begin

    install()
    return begin()


def _poisoned(decode: Callable[..., Any]) -> Callable[..., Any]:
    def poisoned(pixel_data: bytes, description: Any, **options: Any) -> Any:  # noqa: ANN401
        if description.rows == CRASHES:
            ctypes.string_at(1)
        if description.rows == HANGS:
            deadlock()
        if description.rows == RAISES:
            raise KeyError("Doe^Jane")
        return decode(pixel_data, description, **options)

    return poisoned


def deadlock() -> None:
    """Never return, hold the interpreter's lock, and hear no signal but SIGKILL: as bad as a decoder can hang."""
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(128)  # all zeros: a mutex that is not locked
    for _ in range(2):
        libc.pthread_mutex_lock(mutex)
