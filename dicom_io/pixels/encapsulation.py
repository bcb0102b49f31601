"""Encapsulated pixel data (PS3.5 A.4): the fragments of the one frame of an image."""

import struct

from pydicom.encaps import generate_fragments

from dicom_io.header.parsing import PARSING_ERRORS
from dicom_io.pixels.codestream_headers import begins_codestream, codestream
from dicom_io.pixels.image_pixel_module import PixelsUnreadable

_ITEM = struct.pack("<2H", 0xFFFE, 0xE000)


def begins_item(pixel_data: bytes) -> bool:
    """Whether pixel data begins as encapsulated data does, with an item."""
    return pixel_data.startswith(_ITEM)


def one_frame(pixel_data: bytes) -> bytes:
    """Return the frame of a single image: all its fragments, joined.

    The Basic and the Extended Offset Table only say where frames begin. One frame begins at the first fragment, so
    both are ignored: senders write wrong offsets, or one for each fragment. A table that is missing is missed by none.

    Raises
    ------
    PixelsUnreadable
        If the data is not encapsulated, or contains several frames.
    """
    try:
        items = list(generate_fragments(pixel_data))
    except PARSING_ERRORS as error:
        raise PixelsUnreadable("PixelData is not encapsulated as its transfer syntax says, or truncated") from error
    has_table = len(items) > 1 and not begins_codestream(items[0])
    fragments = items[1:] if has_table else items
    frames = sum(begins_codestream(fragment) for fragment in fragments)
    if frames > 1:
        raise PixelsUnreadable(f"PixelData contains {frames} frames, but NumberOfFrames says one")
    if not any(fragments):
        raise PixelsUnreadable("PixelData is not encapsulated as its transfer syntax says, or truncated: no fragments")
    return codestream(b"".join(fragments))
