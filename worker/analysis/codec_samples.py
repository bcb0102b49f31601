"""One image of 8 x 8 pixels in each compressed transfer syntax: what shows that this machine decodes it.

The pixel in row r, column c is ``7 + 16 c + 256 r`` in 12 bits, or ``7 + 8 c + 16 r`` in 8. The frames were encoded
with imagecodecs 2026.3; lossy ones differ from the formula by no more than `tolerance`.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass

ROWS = COLUMNS = 8


@dataclass(frozen=True)
class CodecSample:
    """A compressed frame and what it decodes to."""

    transfer_syntax_uid: str
    name: str
    frame: bytes
    bits: int
    tolerance: int

    @property
    def pixel_data(self) -> bytes:
        """The frame as PixelData holds it: an empty offset table, one fragment, the delimiter (PS3.5 A.4)."""
        frame = self.frame + b"\0" * (len(self.frame) % 2)
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
        return struct.pack("<HHI", 0xFFFE, 0xE000, 0) + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)

    def expected(self, row: int, column: int) -> int:
        """The value of one pixel before it was compressed."""
        return 7 + 8 * column + 16 * row if self.bits == 8 else 7 + 16 * column + 256 * row


_RLE = (
    "AgAAAEAAAABQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAPkA+QH5AvkD+QT5BfkG+Qc/Bxcn"
    "N0dXZ3cHFyc3R1dndwcXJzdHV2d3BxcnN0dXZ3cHFyc3R1dndwcXJzdHV2d3BxcnN0dXZ3cHFyc3R1dndwA="
)
_JPEG_BASELINE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggLDAsK"
    "DAkKCgr/wAALCAAIAAgBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEG"
    "E1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJ"
    "ipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/APmv9m3/AIJt"
    "/wDHv/xIPT/llX//2Q=="
)
_JPEG_EXTENDED = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggLDAsK"
    "DAkKCgr/wQALDAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAADf/EABsQAAAHAQAAAAAAAAAAAAAAAAAJDSk0R1Lj/9oACAEBAAA/ADvsttNx"
    "oDC+a25D/9k="
)
_JPEG_LOSSLESS = (
    "/9j/xAAXAAEBAQEAAAAAAAAAAAAAAAAICQUL/8MACwwACAAIAQARAP/aAAgBAAAGAADgDaGhoaGhoaFAEAgEAgEAgEBQBAIBAIBAIBAUAQCAQCAQ"
    "CAQFAEAgEAgEAgEBQBAIBAIBAIBAUAQCAQCAQCAQFAEAgEAgEAgEAP/Z"
)
_JPEG_LS = (
    "/9j/6AAgU1BJRkYAAgAAAQAAAAgAAAAIChAGAQAAASwAAAEs/+gACAAAAAH/2P/3AAsQAAgACAEBEQD/+AANAf//ABIAQwEUAED/2gAIAQEAAAAA"
    "QNg/B+DsNwfg7DeAIQQehyGoxFoQYAikSkI6MjIPX+ioqIiIiIhz/I0aNGjRoa/qJEiRIkSMfxEiRIkSJFv2hQoooooo/9k="
)
_JPEG_LS_NEAR = (
    "/9j/6AAgU1BJRkYAAgAAAQAAAAgAAAAIChAGAQAAASwAAAEs/+gACAAAAAH/2P/3AAsQAAgACAEBEQD/+AANAf//ABgATQEiAED/2gAIAQEAAgAA"
    "QGDwWFhYcFhbRBoaGiRokGs0kkUkUUNzRRShKUNzQlCUoRuSUJQhUTmiKioickVEREj/2Q=="
)
_J2K = (
    "/0//UQApAAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABCwEB/1IADAAAAAEAAAQEAAH/XAAEQGD/ZAAlAAFDcmVhdGVkIGJ5IE9w"
    "ZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAABQAAH/k8/k/BFQUx8CQyP75mPoCAQAChQfEAIGZ/oDAhZUzLcMlCdb62l1bS6tjb5vm+b5vm+b"
    "5xZElCgAYSEvCNwAAMJCP//Z"
)
_J2KL = (
    "/0//UQApAAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABCwEB/1IADQECAAEAAAQEAACI/1wABUJgAP9kACUAAUNyZWF0ZWQgYnkg"
    "T3BlbkpQRUcgdmVyc2lvbiAyLjUuNP+QAAoAAAAAADgAAf+Tz6U4EVBTHwJDI/vmY+gIBAAKFB8QAgZn+gMCFlTMtwyUJ1vraXVtLq2N/9k="
)
_HT = (
    "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQ"
    "kJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAFcAAf+TwAAmF/sFB3QAAADAABLAABMAkAEHdAAe+QMHdADAABNAABOAhvEA"
    "gnQAfvTjAKNUAMAAJ4AAVQDu7qCnwnUA/v39/cAxgey2AP/Z"
)
_HTL = (
    "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAAKv9SAAwAAgABAAUEBEAA/1wAIyK3GLbqtuq2vK8A"
    "rwCu4qdMp0ynZJADkAOQRpfSl9KXYf9kABcAAU9wZW5KUEggVmVyIDAuMjYuMy7/kAAKAAAAAABrAAH/k8AAAThTN+EIB3QAAADAAASwAAEw2gGH"
    "dADQ/QOHdADAABPAABUgAIDjAEK0ACCQDgLSAUa0AMAAFZAABah2BqM9g/pyS8qbdgB+3/e7eHfh3cXbxfsBjApu8mo4AP/Z"
)

SAMPLES = tuple(
    CodecSample(uid, name, base64.b64decode(text), bits, tolerance)
    for uid, name, text, bits, tolerance in (
        ("1.2.840.10008.1.2.5", "RLE Lossless", _RLE, 12, 0),
        ("1.2.840.10008.1.2.4.50", "JPEG Baseline 8 bit", _JPEG_BASELINE, 8, 4),
        ("1.2.840.10008.1.2.4.51", "JPEG Extended 12 bit", _JPEG_EXTENDED, 12, 32),
        ("1.2.840.10008.1.2.4.57", "JPEG Lossless", _JPEG_LOSSLESS, 12, 0),
        ("1.2.840.10008.1.2.4.70", "JPEG Lossless SV1", _JPEG_LOSSLESS, 12, 0),
        ("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", _JPEG_LS, 12, 0),
        ("1.2.840.10008.1.2.4.81", "JPEG-LS Near-lossless", _JPEG_LS_NEAR, 12, 2),
        ("1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless", _J2K, 12, 0),
        ("1.2.840.10008.1.2.4.91", "JPEG 2000", _J2KL, 12, 64),
        ("1.2.840.10008.1.2.4.201", "HTJ2K Lossless", _HT, 12, 0),
        ("1.2.840.10008.1.2.4.202", "HTJ2K Lossless RPCL", _HT, 12, 0),
        ("1.2.840.10008.1.2.4.203", "HTJ2K", _HTL, 12, 64),
    )
)
