"""The headers of compressed frames, read before a decoder gets the frame."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_JPEG_START = b"\xff\xd8"
_J2K_START = b"\xff\x4f\xff\x51"
_COD = b"\xff\x52"
_START_OF_TILE = b"\xff\x90"
# SOF0..SOF15 without DHT (C4), JPG (C8) and DAC (CC): ITU-T T.81 Table B.1; F7 is JPEG-LS (T.87)
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_JP2_START = b"\0\0\0\x0cjP  "
Coding = Literal["JPEG", "JPEG Lossless", "JPEG-LS", "JPEG 2000"]
_CODINGS: dict[int, Coding] = {0xC3: "JPEG Lossless", 0xF7: "JPEG-LS"}
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True)
class FrameHeader:
    """Rows, columns, components, and precision in bits, by the header of a codestream."""

    rows: int
    columns: int
    components: int
    precision: int


@dataclass(frozen=True)
class WaveletGrid:
    """The properties of a JPEG 2000 codestream that decide whether it can be decoded at a lower resolution.

    Attributes
    ----------
    at_origin
        Whether image and tiles begin at (0, 0) of the reference grid and no component is subsampled.
    levels
        Decomposition levels: how often the image can be halved.
    reversible
        Whether the wavelet transform is the reversible (lossless) one.
    """

    at_origin: bool
    signed: bool
    components: int
    precision: int
    levels: int
    reversible: bool


def wavelet_grid(frame: bytes) -> WaveletGrid | None:
    """Read SIZ and COD (ITU-T T.800 A.5.1, A.6.1) of a raw codestream; None where they are missing."""
    if not frame.startswith(_J2K_START):
        return None
    try:
        length = struct.unpack_from(">H", frame, 4)[0]
        left, top = struct.unpack_from(">2I", frame, 16)
        tile_left, tile_top = struct.unpack_from(">2I", frame, 32)
        components, precision, step_x, step_y = struct.unpack_from(">H3B", frame, 40)
        position = 4 + length
        while frame[position : position + 2] != _COD:
            if frame[position : position + 2] == _START_OF_TILE or frame[position] != 0xFF:
                return None
            position += 2 + struct.unpack_from(">H", frame, position + 2)[0]
        levels, reversible = frame[position + 9], frame[position + 13] == 1
    except (struct.error, IndexError):
        return None
    return WaveletGrid(
        at_origin=(left, top, tile_left, tile_top, step_x, step_y) == (0, 0, 0, 0, 1, 1),
        signed=bool(precision & 0x80),
        components=components,
        precision=(precision & 0x7F) + 1,
        levels=levels,
        reversible=reversible,
    )


def codestream(frame: bytes) -> bytes:
    """Return the JPEG 2000 codestream of a JP2 file, whose boxes do not belong in DICOM (PS3.5 A.4.4).

    The decoder gets exactly the codestream that was checked: a box could contain the header of a small image before a
    huge one.
    """
    if frame.startswith(_JPEG_START):
        return frame
    start = frame.find(_J2K_START, 0, 4096)
    return frame[start:] if start > 0 else frame


def begins_codestream(data: bytes) -> bool:
    """Whether bytes begin as a JPEG, JPEG-LS or JPEG 2000 image does."""
    return data.startswith((_JPEG_START + b"\xff", _J2K_START, _JP2_START))


def coding(frame: bytes) -> Coding | None:
    """The compression of a frame, by its own header; None where it has none."""
    if frame.startswith(_J2K_START):
        return "JPEG 2000"
    marker, _ = _jpeg_frame(frame)
    if marker is None:
        return None
    return _CODINGS.get(marker, "JPEG")


def frame_header(frame: bytes) -> FrameHeader | None:
    """Read a JPEG, JPEG-LS or JPEG 2000 (HTJ2K too) header; None where there is none."""
    try:
        if frame.startswith(_J2K_START):
            return _jpeg2000(frame, 4)
        marker, position = _jpeg_frame(frame)
        if marker is None:
            return None
        precision, rows, columns, components = struct.unpack_from(">BHHB", frame, position + 4)
        return FrameHeader(rows, columns, components, precision)
    except (struct.error, IndexError, ZeroDivisionError):
        return None


def jpeg_segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker of a JPEG or JPEG-LS codestream before its scan data, with its position (ITU-T T.81 B.1.1)."""
    position = 2 if frame.startswith(_JPEG_START) else len(frame)
    while position < len(frame) - 4 and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        yield marker, position
        position += 2
        if marker not in _STANDALONE_MARKERS:
            position += int(struct.unpack_from(">H", frame, position)[0])


def _jpeg_frame(frame: bytes) -> tuple[int | None, int]:
    """Find the marker that begins the frame of a JPEG, and its position; None where there is none."""
    return next((found for found in jpeg_segments(frame) if found[0] in _FRAME_MARKERS), (None, 0))


def _jpeg2000(frame: bytes, position: int) -> FrameHeader:
    """Read the SIZ marker segment (ITU-T T.800 A.5.1), with `position` after its marker."""
    right, bottom, left, top = struct.unpack_from(">4I", frame, position + 4)
    components, precision = struct.unpack_from(">HB", frame, position + 36)
    step_x, step_y = frame[position + 39], frame[position + 40]
    return FrameHeader((bottom - top) // step_y, (right - left) // step_x, components, (precision & 0x7F) + 1)
