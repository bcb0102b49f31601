"""Pixel data to stored values: uncompressed, RLE, the JPEG family, JPEG-LS, JPEG 2000 and HTJ2K.

imagecodecs is called directly on the encapsulated frame: it is the only one that decodes 12-bit JPEG Extended, and the
fastest for JPEG Lossless (29 ms where gdcm takes 86). pydicom's own array functions are not used: they leave bits above
BitsStored in place.
"""

import struct
from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import get_frame

from dicom_io.header.parsing import PARSING_ERRORS
from dicom_io.pixels.codestream_headers import FrameHeader, codestream, frame_header, wavelet_grid
from dicom_io.pixels.image_pixel_module import DecoderMissing, PixelDescription, PixelsUnreadable
from dicom_io.pixels.reduced_resolution import REDUCIBLE, Sufficient, decode_halved, halvings

Samples = NDArray[np.integer]

NATIVE = {
    str(uid.ImplicitVRLittleEndian),
    str(uid.ExplicitVRLittleEndian),
    str(uid.ExplicitVRBigEndian),
    str(uid.DeflatedExplicitVRLittleEndian),
}
_END_MARKER = b"\xff\xd9"
_MORE_SCAN = bytes(range(1, 128)) * 2  # no marker is in it
_LONGEST_TRAILER = 4096  # padding, or what a sender left behind the end
# transfer syntax -> imagecodecs' decoder, and whether it gives back exactly what was compressed
_DECODERS: dict[str, tuple[str, bool]] = {
    str(uid.JPEGBaseline8Bit): ("jpeg8_decode", False),
    str(uid.JPEGExtended12Bit): ("jpeg8_decode", False),
    str(uid.JPEGLossless): ("ljpeg_decode", True),
    str(uid.JPEGLosslessSV1): ("ljpeg_decode", True),
    str(uid.JPEGLSLossless): ("jpegls_decode", True),
    str(uid.JPEGLSNearLossless): ("jpegls_decode", False),
    str(uid.JPEG2000Lossless): ("jpeg2k_decode", True),
    str(uid.JPEG2000): ("jpeg2k_decode", False),
    str(uid.HTJ2KLossless): ("jpeg2k_decode", True),
    str(uid.HTJ2KLosslessRPCL): ("jpeg2k_decode", True),
    str(uid.HTJ2K): ("jpeg2k_decode", False),
}


def decode(
    pixel_data: bytes, description: PixelDescription, *, swapped_bytes: bool = False
) -> tuple[Samples, str, tuple[str, ...]]:
    """Decode the one frame of an image.

    Parameters
    ----------
    pixel_data
        The value of (7FE0,0010).
    description
        The checked layout.
    swapped_bytes
        Whether 8-bit samples are stored in big-endian words (VR OW in explicit VR big endian).

    Returns
    -------
    tuple of ndarray [rows, columns, samples] of an integer type, str, and tuple of str
        The stored values: bits above BitsStored masked (uncompressed, RLE, lossless) or clipped (lossy), sign
        extended; the decoder's name for the record; and flags for people: ``compressed with 10 of 12 bits``.

    Raises
    ------
    PixelsUnreadable
        If the pixels do not fit their description, are truncated, or in a transfer syntax that is not read.
    """
    syntax = description.transfer_syntax_uid
    if syntax in NATIVE:
        return _extract(_native(pixel_data, description, swapped_bytes), description), "none", ()
    frame = _frame(pixel_data)
    if syntax == uid.RLELossless:
        return _extract(_rle(frame, description), description), "RLE", ()
    if syntax not in _DECODERS:
        raise PixelsUnreadable(f"transfer syntax {uid.UID(syntax).name[:64]} is not read")
    flags = _fewer_bits(frame, description)
    return *_compressed(frame, description), flags


def decode_reduced(pixel_data: bytes, description: PixelDescription, enough: Sufficient) -> tuple[Samples, int] | None:
    """Decode a JPEG 2000 image at the lowest resolution that is enough.

    Returns
    -------
    tuple of ndarray [rows, columns, 1] and int, or None
        The stored values, rows and columns divided by 2 to the power of the number (at least 1) and rounded up; None
        where the image has to be decoded whole.

    Raises
    ------
    PixelsUnreadable
        As for `decode`.
    """
    if description.transfer_syntax_uid not in REDUCIBLE:
        return None
    frame = _frame(pixel_data)
    count = halvings(frame, description, enough)
    if count == 0:
        return None
    _check(frame, frame_header(frame), description)
    values = decode_halved(frame, description, count)
    # the low-pass filters overshoot a little at edges
    return None if values is None else (np.clip(values, 0, description.highest)[:, :, np.newaxis], count)


def _frame(pixel_data: bytes) -> bytes:
    try:
        return codestream(bytes(get_frame(pixel_data, 0, number_of_frames=1)))
    except (*PARSING_ERRORS, StopIteration) as error:
        raise PixelsUnreadable("PixelData is not encapsulated as its transfer syntax says, or truncated") from error


def _native(data: bytes, description: PixelDescription, swapped_bytes: bool) -> Samples:
    expected = description.frame_bytes
    one_row = expected // description.rows
    if len(data) < expected or len(data) - expected >= max(one_row, 2):
        raise PixelsUnreadable(
            f"Rows x Columns is {description.rows} x {description.columns}, which is {expected} bytes, "
            f"but PixelData holds {len(data)} bytes"
        )
    order = ">" if description.big_endian else "<"
    if description.bits_allocated == 8 and swapped_bytes:
        padded = data[: expected + expected % 2].ljust(expected + expected % 2, b"\0")
        values = np.frombuffer(padded, np.uint8).reshape(-1, 2)[:, ::-1].reshape(-1)[:expected]
    else:
        values = np.frombuffer(
            data, np.dtype(f"{order}u{description.bits_allocated // 8}"), expected * 8 // description.bits_allocated
        )
    if description.samples == 1:
        return values.reshape(description.rows, description.columns, 1)
    if description.photometric == "YBR_FULL_422":
        raise PixelsUnreadable("PhotometricInterpretation is YBR_FULL_422, uncompressed: not read")
    if description.planar:
        return values.reshape(3, description.rows, description.columns).transpose(1, 2, 0)
    return values.reshape(description.rows, description.columns, 3)


def _rle(frame: bytes, description: PixelDescription) -> Samples:
    """Decode RLE (PS3.5 G): one PackBits segment for each byte of each sample, the highest byte first."""
    packbits_decode = _decoder("packbits_decode", description)
    sample_bytes = description.bits_allocated // 8
    expected = description.samples * sample_bytes
    if len(frame) < 64:
        raise PixelsUnreadable(f"the RLE frame is truncated: {len(frame)} bytes, its header alone has 64")
    count, *offsets = struct.unpack_from("<16I", frame)
    if count != expected:
        raise PixelsUnreadable(f"the RLE frame has {count} segments, the header's samples and bits need {expected}")
    ends = [*offsets[1:count], len(frame)]
    pixels = description.rows * description.columns
    result = np.zeros((description.samples, pixels, sample_bytes), np.uint8)
    for index, (start, end) in enumerate(zip(offsets, ends, strict=False)):
        room = np.empty(pixels + 2, np.uint8)  # two bytes become 128: never more than the image has
        try:
            segment = packbits_decode(frame[start:end], out=room) if start < end <= len(frame) else room[:0]
        except RuntimeError as error:
            size = f"Rows x Columns is {description.rows} x {description.columns}, which is {pixels} pixels"
            which = f"RLE segment {index + 1} of {count}"
            raise PixelsUnreadable(
                f"{size}, but {which} holds more"
                if "OUTPUT_TOO_SMALL" in str(error)
                else f"{which} cannot be decoded: truncated"
            ) from error
        if not 0 <= len(segment) - pixels <= 2:
            raise PixelsUnreadable(
                f"Rows x Columns is {description.rows} x {description.columns}, which is {pixels} pixels, "
                f"but an RLE segment holds {len(segment)}"
            )
        result[index // sample_bytes, :, sample_bytes - 1 - index % sample_bytes] = np.frombuffer(
            segment, np.uint8, pixels
        )
    values = result.view(np.dtype(f"<u{sample_bytes}")).reshape(description.samples, description.rows, -1)
    return values.transpose(1, 2, 0)


def _extract(values: Samples, description: PixelDescription) -> Samples:
    """Take BitsStored bits below HighBit, and extend the sign."""
    stored, shift = description.bits_stored, description.high_bit + 1 - description.bits_stored
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if stored == description.bits_allocated:
        return native.view(native.dtype.str.replace("u", "i")) if description.signed else native
    masked = (native >> shift) & native.dtype.type((1 << stored) - 1)
    values = _signed(masked, stored) if description.signed else masked
    _check_bits(native.view(native.dtype.str.replace("u", "i")) >> shift if description.signed else native >> shift,
                values, description)  # fmt: skip
    return values


def _check_bits(whole: Samples, kept: Samples, description: PixelDescription) -> None:
    """Refuse an image whose values do not fit into BitsStored: without their upper bits they wrap around.

    Neighbours then differ more than they did, or as much as noise does. What else may lie above (an overlay as they
    once were, a flag of the sender's) makes neighbours differ less when it is gone.
    """
    if np.array_equal(whole, kept):
        return
    whole, kept = whole.astype(np.int64), kept.astype(np.int64)
    before, after = (
        float(np.abs(np.diff(each, axis=1)).mean()) if each.shape[1] > 1 else 0.0 for each in (whole, kept)
    )
    noise = after > 0.7 * kept.std() and before < 0.35 * whole.std()  # of independent values the mean is 1.1 deviations
    if after > 1.1 * before or noise:  # of real films without their upper bits: 1.25 to 2 times
        raise PixelsUnreadable(
            f"BitsStored is {description.bits_stored} and HighBit {description.high_bit}, but the image needs the bits "
            f"above: its values reach from {whole.min()} to {whole.max()}"
        )


def _signed(values: Samples, bits: int) -> Samples:
    wide = values.astype(np.int64 if bits > 31 else np.int32)
    negative = np.greater_equal(wide, 1 << (bits - 1))
    return np.where(negative, wide - (1 << bits), wide)


def _compressed(frame: bytes, description: PixelDescription) -> tuple[Samples, str]:
    name, lossless = _DECODERS[description.transfer_syntax_uid]
    header = frame_header(frame)
    _check(frame, header, description)
    assert header is not None
    decoder = _decoder(name, description)
    try:
        decoded = np.asarray(decoder(frame))
    except ImportError as error:  # imagecodecs was built without it and says so only now
        raise _missing(name, description, error) from error
    except (RuntimeError, *PARSING_ERRORS) as error:
        raise PixelsUnreadable(f"the compressed frame cannot be decoded ({type(error).__name__}, {name})") from error
    if decoded.size != description.rows * description.columns * description.samples or decoded.dtype.kind not in "ui":
        raise PixelsUnreadable(
            f"{name} gave an array of {decoded.shape} for {description.rows} x {description.columns}"
        )
    values = decoded.reshape(description.rows, description.columns, description.samples)
    if name == "jpeg8_decode":
        _check_scan(frame, decoder, decoded)
    if lossless and description.high_bit >= description.bits_stored and header.precision > description.high_bit:
        values = values >> (description.high_bit + 1 - description.bits_stored)
    if description.signed and values.dtype.kind == "u":
        values = _signed(values, header.precision)
    elif not description.signed and values.dtype.kind == "i":
        values = values.astype(np.int64) & ((1 << header.precision) - 1)
    if lossless and header.precision > description.bits_stored:
        masked = values & ((1 << description.bits_stored) - 1)
        kept = _signed(masked, description.bits_stored) if description.signed else masked
        _check_bits(values, kept, description)
        return kept, name
    if header.precision > description.bits_stored or not lossless:
        values = np.clip(values, description.lowest, min(description.highest, int(np.iinfo(values.dtype).max)))
    return values, name


def _fewer_bits(frame: bytes, description: PixelDescription) -> tuple[str, ...]:
    """Flag a frame that has fewer bits than BitsStored; refuse it where its values were scaled down to them.

    What is compressed without loss may have been left as it was, and just not need the upper bits. A lossy encoder
    takes no such care: 12 bits become 8 by losing the lower ones, and would be shown as black.
    """
    header = frame_header(frame)
    if header is None or header.precision >= description.bits_stored:
        return ()
    grid = wavelet_grid(frame)
    if _DECODERS[description.transfer_syntax_uid][1] if grid is None else grid.reversible:
        return (f"compressed with {header.precision} of {description.bits_stored} bits",)
    raise PixelsUnreadable(
        f"BitsStored is {description.bits_stored}, but the compressed frame has {header.precision} bits a sample"
    )


def _check_scan(frame: bytes, decoder: Callable[..., Samples], decoded: Samples) -> None:
    """Refuse a JPEG of which a piece is missing before its end marker, such as a lost fragment.

    libjpeg fills up what is missing with gray and only warns. Bytes that are laid in before the end marker change
    nothing where it had the whole image already. The last sixteen rows may be missing: encoders have fallen short.
    """
    end = frame.rfind(_END_MARKER)
    try:
        again = np.asarray(decoder(frame[:end] + _MORE_SCAN + frame[end:]))
    except (RuntimeError, *PARSING_ERRORS):
        return  # more than the image was: so it was whole
    if not np.array_equal(again[:-16], decoded[:-16]):
        rows = np.flatnonzero((again != decoded).reshape(len(decoded), -1).any(axis=1))
        raise PixelsUnreadable(f"the compressed frame ends in row {rows[0] + 1} of {len(decoded)}: a part is missing")


def _decoder(name: str, description: PixelDescription) -> Callable[..., Samples]:
    try:
        import imagecodecs

        return cast("Callable[..., Samples]", getattr(imagecodecs, name))
    except (ImportError, AttributeError) as error:
        raise _missing(name, description, error) from error


def _missing(name: str, description: PixelDescription, error: Exception) -> DecoderMissing:
    syntax = uid.UID(description.transfer_syntax_uid).name
    return DecoderMissing(f"this machine has no decoder for {syntax}: imagecodecs.{name} ({type(error).__name__})")


def _check(frame: bytes, header: FrameHeader | None, description: PixelDescription) -> None:
    """Refuse what the codestream itself contradicts, before a decoder allocates what it claims."""
    if header is None:
        raise PixelsUnreadable("the compressed frame has no readable header: truncated, or another compression")
    if (header.rows, header.columns) != (description.rows, description.columns):
        raise PixelsUnreadable(
            f"Rows x Columns is {description.rows} x {description.columns}, "
            f"but the compressed frame is {header.rows} x {header.columns}"
        )
    if header.components != description.samples:
        raise PixelsUnreadable(
            f"SamplesPerPixel is {description.samples}, but the compressed frame has {header.components} components"
        )
    # every one of these codestreams ends with FFD9, which cannot occur within it; OpenJPEG and CharLS do not mind
    if _END_MARKER not in frame[-_LONGEST_TRAILER:]:
        raise PixelsUnreadable("the compressed frame is truncated: its end marker is missing")
    if not 1 <= header.precision <= 32:
        raise PixelsUnreadable(f"the compressed frame has {header.precision} bits a sample: 1 to 32 are read")
