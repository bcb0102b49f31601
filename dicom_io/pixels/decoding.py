"""Pixel data to stored values: uncompressed, RLE, the JPEG family, JPEG-LS, JPEG 2000 and HTJ2K.

imagecodecs is called directly on the encapsulated frame: no other decoder reads 12-bit JPEG Extended, and it is the
fastest for JPEG Lossless (29 ms, gdcm 86 ms). pydicom's array functions are not used: they leave bits above BitsStored.
"""

import struct
from collections.abc import Callable
from typing import cast

import numpy as np
from pydicom import uid

from dicom_io.header.parsing import PARSING_ERRORS
from dicom_io.pixels.codestream_headers import Coding, FrameHeader, coding, frame_header, wavelet_grid
from dicom_io.pixels.encapsulation import one_frame
from dicom_io.pixels.image_pixel_module import DecoderMissing, PixelDescription, PixelsUnreadable
from dicom_io.pixels.reduced_resolution import REDUCIBLE, SufficientResolution, decode_halved, halvings
from dicom_io.pixels.stored_bits import Samples, check_bits, check_sign, extract, signed

NATIVE = {
    str(uid.ImplicitVRLittleEndian),
    str(uid.ExplicitVRLittleEndian),
    str(uid.ExplicitVRBigEndian),
    str(uid.DeflatedExplicitVRLittleEndian),
}
_END_MARKER = b"\xff\xd9"
_WRONG_SYNTAX = "transfer syntax wrong: the pixels are"
_MORE_SCAN = bytes(range(1, 128)) * 2  # contains no marker
_LONGEST_TRAILER = 4096  # bytes after the end marker: padding, or a sender's own
# transfer syntax -> imagecodecs' decoder, and whether it is lossless
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
# the compression of a frame, by its header, where the transfer syntax says another
_DECODERS_BY_HEADER: dict[Coding, tuple[str, bool]] = {
    "JPEG": ("jpeg8_decode", False),
    "JPEG Lossless": ("ljpeg_decode", True),
    "JPEG-LS": ("jpegls_decode", False),  # lossless or not: clipped, not masked
    "JPEG 2000": ("jpeg2k_decode", False),
}


def decode(
    pixel_data: bytes,
    description: PixelDescription,
    *,
    swapped_bytes: bool = False,
    encapsulated: bool | None = None,
) -> tuple[Samples, str, tuple[str, ...]]:
    """Decode the frame of an image.

    Parameters
    ----------
    pixel_data
        The value of (7FE0,0010).
    description
        The layout, as checked by `describe`.
    swapped_bytes
        Whether 8-bit samples are stored in big-endian words (VR OW in explicit VR big endian).
    encapsulated
        Whether the value consists of fragments; not given: as the transfer syntax says.

    Returns
    -------
    tuple of ndarray [rows, columns, samples] of an integer type, str, and tuple of str
        The stored values, sign extended, bits above BitsStored masked (uncompressed, RLE, lossless) or values clipped
        (lossy); the decoder's name for the record; flags for people, such as ``compressed with 10 of 12 bits``.

    Raises
    ------
    PixelsUnreadable
        If the pixels contradict their description, are truncated, or in an unsupported transfer syntax.
    """
    syntax = description.transfer_syntax_uid
    if encapsulated is None:
        encapsulated = syntax not in NATIVE
    if not encapsulated:
        flags = () if syntax in NATIVE else _uncompressed(pixel_data, description)
        values, noticed = extract(_native(pixel_data, description, swapped_bytes), description)
        return values, "none", (*flags, *noticed)
    frame = one_frame(pixel_data)
    found = coding(frame)
    if found is None and (syntax == uid.RLELossless or (syntax in _DECODERS and _is_rle(frame, description))):
        flags = () if syntax == uid.RLELossless else (f"{_WRONG_SYNTAX} RLE",)
        values, noticed = extract(_rle(frame, description), description)
        return values, "RLE", (*flags, *noticed)
    stated = _DECODERS.get(syntax)
    decoder, flags = stated, ()
    if found is not None and (stated is None or stated[0] != _DECODERS_BY_HEADER[found][0]):
        decoder, flags = _DECODERS_BY_HEADER[found], (f"{_WRONG_SYNTAX} {found}",)
    if decoder is None and syntax in NATIVE:
        raise PixelsUnreadable(f"PixelData is in fragments, but the transfer syntax is {uid.UID(syntax).name}")
    if decoder is None:
        raise PixelsUnreadable(f"transfer syntax {uid.UID(syntax).name[:64]} is not read")
    fewer = _fewer_bits(frame, description, lossless=decoder[1])
    return *_compressed(frame, description, *decoder), (*flags, *fewer)


def _uncompressed(pixel_data: bytes, description: PixelDescription) -> tuple[str, ...]:
    """Flag pixels that a sender decompressed without saying so; raise where they are not of exactly their length."""
    length = description.frame_bytes
    if description.samples != 1 or len(pixel_data) != length + length % 2:
        raise PixelsUnreadable("PixelData is not encapsulated as its transfer syntax says, or truncated")
    return (f"{_WRONG_SYNTAX} uncompressed",)


def _is_rle(frame: bytes, description: PixelDescription) -> bool:
    """Whether a frame begins with an RLE header of the segments that the image needs (PS3.5 G.5)."""
    if len(frame) < 64:
        return False
    return struct.unpack_from("<2I", frame) == (description.samples * description.bits_allocated // 8, 64)


def decode_reduced(
    pixel_data: bytes, description: PixelDescription, enough: SufficientResolution
) -> tuple[Samples, int] | None:
    """Decode a JPEG 2000 image at the lowest resolution that is enough.

    Returns
    -------
    tuple of ndarray [rows, columns, 1] and int, or None
        The stored values at ``1 / 2**n`` of the rows and columns, rounded up, and n (at least 1); None where the image
        has to be decoded at full resolution.

    Raises
    ------
    PixelsUnreadable
        As for `decode`.
    """
    if description.transfer_syntax_uid not in REDUCIBLE:
        return None
    frame = one_frame(pixel_data)
    count = halvings(frame, description, enough)
    if count == 0:
        return None
    _check(frame, frame_header(frame), description)
    values = decode_halved(frame, description, count)
    # the low-pass filters overshoot slightly at edges
    return None if values is None else (np.clip(values, 0, description.highest)[:, :, np.newaxis], count)


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
    """Decode RLE (PS3.5 G): one PackBits segment per byte of each sample, the most significant byte first."""
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
        output = np.empty(pixels + 2, np.uint8)  # limits the output: two bytes can become 128
        try:
            segment = packbits_decode(frame[start:end], out=output) if start < end <= len(frame) else output[:0]
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


def _compressed(frame: bytes, description: PixelDescription, name: str, lossless: bool) -> tuple[Samples, str]:
    header = frame_header(frame)
    _check(frame, header, description)
    assert header is not None
    decoder = _decoder(name, description)
    try:
        decoded = np.asarray(decoder(frame))
    except ImportError as error:  # raised on use where imagecodecs was built without it
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
        values = signed(values, header.precision)
    elif not description.signed and values.dtype.kind == "i":
        values = values.astype(np.int64) & ((1 << header.precision) - 1)
    if lossless and header.precision > description.bits_stored:
        masked = values & ((1 << description.bits_stored) - 1)
        kept = signed(masked, description.bits_stored) if description.signed else masked
        check_bits(values, kept, description)
        check_sign(kept, description)
        return kept, name
    if header.precision > description.bits_stored or not lossless:
        values = np.clip(values, description.lowest, min(description.highest, int(np.iinfo(values.dtype).max)))
    if lossless:
        check_sign(values, description)
    return values, name


def _fewer_bits(frame: bytes, description: PixelDescription, *, lossless: bool) -> tuple[str, ...]:
    """Flag a lossless frame with fewer bits than BitsStored; raise for a lossy one.

    Lossless values may simply not need the upper bits. A lossy encoder that reduces 12 bits to 8 drops the lower ones:
    shown by BitsStored, the image would be black.
    """
    header = frame_header(frame)
    if header is None or header.precision >= description.bits_stored:
        return ()
    grid = wavelet_grid(frame)
    if lossless if grid is None else grid.reversible:
        return (f"compressed with {header.precision} of {description.bits_stored} bits",)
    raise PixelsUnreadable(
        f"BitsStored is {description.bits_stored}, but the compressed frame has {header.precision} bits a sample"
    )


def _check_scan(frame: bytes, decoder: Callable[..., Samples], decoded: Samples) -> None:
    """Raise for a JPEG with a part missing before its end marker, such as a lost fragment.

    libjpeg fills the missing part with gray and only warns. Bytes inserted before the end marker change nothing where
    the image is complete. The last sixteen rows may be missing: some encoders omit them.
    """
    end = frame.rfind(_END_MARKER)
    try:
        again = np.asarray(decoder(frame[:end] + _MORE_SCAN + frame[end:]))
    except (RuntimeError, *PARSING_ERRORS):
        return  # more data than the image has: it was complete
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
    """Raise where the codestream header contradicts the description, before a decoder allocates memory by it."""
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
    # all these codestreams end with FFD9, which cannot occur within; OpenJPEG and CharLS do not check it
    if _END_MARKER not in frame[-_LONGEST_TRAILER:]:
        raise PixelsUnreadable("the compressed frame is truncated: its end marker is missing")
    if not 1 <= header.precision <= 32:
        raise PixelsUnreadable(f"the compressed frame has {header.precision} bits a sample: 1 to 32 are read")
