"""Copies the lossy compression history of a source to an object made of it (PS3.3 C.7.6.1.1.5)."""

from pathlib import Path

from pydicom import uid
from pydicom.dataset import Dataset, FileDataset

from dicom_io.header import parsing

# LossyImageCompressionMethod (0028,2114), PS3.3 C.7.6.1.1.5.1
_METHODS = {
    str(uid.JPEGBaseline8Bit): "ISO_10918_1",
    str(uid.JPEGExtended12Bit): "ISO_10918_1",
    str(uid.JPEGLSNearLossless): "ISO_14495_1",
    str(uid.JPEG2000): "ISO_15444_1",
    str(uid.HTJ2K): "ISO_15444_15",
}


def add_lossy_history(dataset: Dataset, header: FileDataset, source: Path | bytes) -> None:
    """Set in `dataset` whether its source was ever compressed lossily, with which ratios and methods."""
    syntax = parsing.transfer_syntax(header)
    stated = parsing.text(header, "LossyImageCompression")
    if stated != "01" and syntax not in _METHODS:
        dataset.LossyImageCompression = "00"
        return
    dataset.LossyImageCompression = "01"
    ratios = [f"{ratio:.4g}" for ratio in parsing.numbers(header, "LossyImageCompressionRatio") if ratio]
    methods = [method for method in parsing.texts(header, "LossyImageCompressionMethod") if method]
    if not ratios and syntax in _METHODS:
        ratios = [f"{_ratio(header, source):.4g}"]
    if not methods and syntax in _METHODS:
        methods = [_METHODS[syntax]]
    if ratios:
        dataset.LossyImageCompressionRatio = ratios
    if methods and len(methods) == len(ratios):  # as many methods as ratios, or none
        dataset.LossyImageCompressionMethod = methods


def _ratio(header: FileDataset, source: Path | bytes) -> float:
    sizes = [parsing.number(header, keyword) or 0 for keyword in ("Rows", "Columns", "BitsAllocated")]
    samples = parsing.number(header, "SamplesPerPixel") or 1
    length = len(source) if isinstance(source, bytes) else source.stat().st_size
    return max(sizes[0] * sizes[1] * sizes[2] / 8 * samples / max(length, 1), 1.0)
