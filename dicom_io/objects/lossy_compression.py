"""Copies the lossy compression history of a source to an object made of it (PS3.3 C.7.6.1.1.5)."""

from pathlib import Path

from pydicom import uid
from pydicom.dataset import Dataset, FileDataset

from dicom_io.header import parsing
from dicom_io.pixels.codestream_headers import coding, jpeg_segments, wavelet_grid
from dicom_io.pixels.encapsulation import begins_item, one_frame
from dicom_io.pixels.image_pixel_module import PixelsUnreadable

# LossyImageCompressionMethod (0028,2114), PS3.3 C.7.6.1.1.5.1
_JPEG, _JPEG_LS, _JPEG_2000, _HTJ2K = "ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15"
_METHODS = {
    str(uid.JPEGBaseline8Bit): _JPEG,
    str(uid.JPEGExtended12Bit): _JPEG,
    str(uid.JPEGLSNearLossless): _JPEG_LS,
    str(uid.JPEG2000): _JPEG_2000,
    str(uid.HTJ2K): _HTJ2K,
}
_LOSSLESS_FRAMES = frozenset({0xC3, 0xC7, 0xCB, 0xCF})  # SOF3, 7, 11, 15 (ITU-T T.81 Table B.1)
_LOSSY_FRAMES = frozenset(range(0xC0, 0xD0)) - _LOSSLESS_FRAMES - {0xC4, 0xC8, 0xCC}
_SOS = 0xDA


def add_lossy_history(dataset: Dataset, header: FileDataset, source: Path | bytes) -> None:
    """Set in `dataset` whether its source was ever compressed lossily, with which ratios and methods.

    What the source states comes first; else the codestream decides: JPEG 2000, HTJ2K and JPEG-LS near-lossless may
    hold a lossless one, and a lossless transfer syntax may be written over a lossy one.
    """
    own = _method(header, source)
    stated = parsing.text(header, "LossyImageCompression")
    if stated != "01" and own is None:
        dataset.LossyImageCompression = "00"
        return
    dataset.LossyImageCompression = "01"
    ratios = [f"{ratio:.4g}" for ratio in parsing.numbers(header, "LossyImageCompressionRatio") if ratio]
    methods = [method for method in parsing.texts(header, "LossyImageCompressionMethod") if method]
    if not ratios and own is not None:
        ratios = [f"{_ratio(header, source):.4g}"]
    if not methods and own is not None:
        methods = [own]
    if ratios:
        dataset.LossyImageCompressionRatio = ratios
    if methods and len(methods) == len(ratios):  # as many methods as ratios, or none
        dataset.LossyImageCompressionMethod = methods


def _method(header: FileDataset, source: Path | bytes) -> str | None:
    """Return how the pixels as received are compressed lossily; None where they are not.

    Where their transfer syntax is wrong, the pixels say it, as they do when they are decoded.
    """
    syntax = uid.UID(parsing.transfer_syntax(header))
    is_compressed = syntax.is_transfer_syntax and syntax.is_compressed
    try:
        element = parsing.parse_file(source)["PixelData"]
        if not element.is_undefined_length and not (is_compressed and begins_item(element.value)):
            return None
        frame = one_frame(element.value)
        if not is_compressed and coding(frame) is None:
            return None
        return _method_of(frame, syntax)
    except (*parsing.PARSING_ERRORS, parsing.UnreadableDicom, PixelsUnreadable):
        return _METHODS.get(syntax)


def _method_of(frame: bytes, syntax: str) -> str | None:
    grid = wavelet_grid(frame)
    if grid is not None:  # the 5-3 transform is reversible, the 9-7 is not (ITU-T T.800 A.6.1)
        return None if grid.reversible else _METHODS.get(syntax, _JPEG_2000)
    for marker, position in jpeg_segments(frame):
        if marker in _LOSSLESS_FRAMES:
            return None
        if marker in _LOSSY_FRAMES:
            return _JPEG
        if marker == _SOS:  # of JPEG-LS: NEAR, the largest error, follows the components of the scan (T.87 C.2.3)
            return _JPEG_LS if frame[position + 5 + 2 * frame[position + 4]] else None
    return _METHODS.get(syntax)


def _ratio(header: FileDataset, source: Path | bytes) -> float:
    sizes = [parsing.number(header, keyword) or 0 for keyword in ("Rows", "Columns", "BitsAllocated")]
    samples = parsing.number(header, "SamplesPerPixel") or 1
    length = len(source) if isinstance(source, bytes) else source.stat().st_size
    return max(sizes[0] * sizes[1] * sizes[2] / 8 * samples / max(length, 1), 1.0)
