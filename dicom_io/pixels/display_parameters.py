"""Reads Modality LUT, VOI LUT, polarity and padding from the header, with fallbacks where they are unusable.

Every choice, fallback and assumption is noted in the record that is kept with the result.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from dicom_io.header import parsing
from dicom_io.pixels.image_pixel_module import PixelDescription
from dicom_io.pixels.luts import DisplaySteps, LookupTable, Rescale, VoiFunction, Window

DISAGREEMENT = "PhotometricInterpretation and PresentationLUTShape disagree"
_FUNCTIONS: tuple[VoiFunction, ...] = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def display_steps(
    dataset: FileDataset, description: PixelDescription
) -> tuple[DisplaySteps, dict[str, str], tuple[str, ...]]:
    """Read Modality LUT, VOI LUT, polarity and padding.

    Returns
    -------
    tuple of DisplaySteps, dict and tuple of str
        The steps to apply, the record of their sources, and flags for people.
    """
    record: dict[str, str] = {}
    modality = _modality(dataset, description, record)
    bare = DisplaySteps(modality, None, False)
    inverted, flags = _polarity(dataset, description, record)
    if description.samples == 3:
        record["voi"] = "none: colour image"
        return DisplaySteps(Rescale(), None, False), record, flags
    voi = _voi(dataset, description, bare.modality_range(description.lowest, description.highest), record)
    return DisplaySteps(modality, voi, inverted, _padding(dataset, description, record)), record, flags


def _modality(dataset: FileDataset, description: PixelDescription, record: dict[str, str]) -> Rescale | LookupTable:
    sequence = parsing.items(dataset, "ModalityLUTSequence")
    if sequence:
        table = _table(sequence[0], description.lowest, description.highest, description.big_endian)
        if table is not None:
            record["modality"] = f"LUT of {len(table.entries)} entries from {table.first}, {table.bits} bits"
            return table
        record["modality_fallback"] = "Modality LUT unusable"
    slope, intercept = parsing.number(dataset, "RescaleSlope"), parsing.number(dataset, "RescaleIntercept")
    if slope is None or slope == 0:
        if parsing.has(dataset, "RescaleSlope"):
            record["modality_fallback"] = f"RescaleSlope {_shown(slope)} read as 1"
        slope = 1.0
    rescale = Rescale(slope, intercept or 0.0)
    record["modality"] = f"rescale {rescale.slope:g} {rescale.intercept:g}"
    return rescale


def _voi(
    dataset: FileDataset, description: PixelDescription, values: tuple[float, float], record: dict[str, str]
) -> LookupTable | Window | None:
    """Choose the VOI: the first usable LUT, else the first usable window, else none (PS3.3 C.11.2)."""
    sequence = parsing.items(dataset, "VOILUTSequence")
    for number, item in enumerate(sequence, 1):
        table = _table(item, math.floor(values[0]), math.ceil(values[1]), description.big_endian)
        if table is not None:
            record["voi"] = f"LUT {number} of {len(sequence)}: {len(table.entries)} entries from {table.first}, "
            record["voi"] += f"{table.bits} bits"
            if parsing.has(dataset, "WindowCenter"):
                record["voi"] += "; a window is given too"
            return table
    if sequence:
        record["voi_fallback"] = "VOI LUT unusable"
    function = _function(dataset, record)
    centers, widths = parsing.numbers(dataset, "WindowCenter"), parsing.numbers(dataset, "WindowWidth")
    for number, (center, width) in enumerate(zip(centers, widths, strict=False), 1):
        if center is None or width is None:
            continue
        window = Window(center, width, function)
        if window.is_usable:
            record["voi"] = f"window {number} of {len(centers)}: center {center:g} width {width:g} {function}"
            return window
    if centers or widths:
        record["voi_fallback"] = f"window center {_listed(centers)} width {_listed(widths)} unusable"
    record["voi"] = f"full range {values[0]:g} to {values[1]:g}"
    return None


def _function(dataset: FileDataset, record: dict[str, str]) -> VoiFunction:
    stated = parsing.text(dataset, "VOILUTFunction").upper()
    for function in _FUNCTIONS:
        if function == stated:
            return function
    if stated:
        record["voi_function_fallback"] = "VOILUTFunction unknown, read as LINEAR"
    return "LINEAR"


def _polarity(
    dataset: FileDataset, description: PixelDescription, record: dict[str, str]
) -> tuple[bool, tuple[str, ...]]:
    """Whether to invert: by PhotometricInterpretation, which PresentationLUTShape should only repeat."""
    shape = parsing.text(dataset, "PresentationLUTShape").upper()
    by_shape = {"INVERSE": True, "IDENTITY": False}.get(shape)
    if description.samples == 3:
        record["polarity"] = "colour"
        return False, ()
    if description.photometric:
        inverted = description.photometric == "MONOCHROME1"
        record["polarity"] = description.photometric
        # MONOCHROME1 with IDENTITY and MONOCHROME2 with INVERSE contradict (PS3.3 C.8.11.3.1.2)
        return inverted, (DISAGREEMENT,) if by_shape is not None and by_shape != inverted else ()
    record["polarity"] = "assumed " + ("MONOCHROME1" if by_shape else "MONOCHROME2")
    return bool(by_shape), ("PhotometricInterpretation missing",)


def _padding(dataset: FileDataset, description: PixelDescription, record: dict[str, str]) -> tuple[int, int] | None:
    values = [parsing.number(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if values[0] is None:
        return None
    ends = sorted(_as_stored(int(value), description) for value in values if value is not None)
    record["padding"] = f"{ends[0]} to {ends[-1]}"
    return ends[0], ends[-1]


def _as_stored(value: int, description: PixelDescription) -> int:
    """Read a US or SS value with the sign of the pixels: its VR depends on PixelRepresentation, writers confuse it."""
    unsigned = value & 0xFFFF
    return unsigned - 0x10000 if description.signed and unsigned >= 0x8000 else unsigned


def _table(item: Dataset, lowest: int, highest: int, big_endian: bool) -> LookupTable | None:
    """Read a LUT; None where it is unusable. `lowest` and `highest` limit its input."""
    words = _words(item, "LUTDescriptor", big_endian)
    if len(words) != 3:
        return None
    count, first, bits = int(words[0]) or 1 << 16, int(words[1]), int(words[2])
    # the first value mapped is US or SS; if the unsigned value lies beyond all input, it is signed
    if first >= 0x8000 and (lowest < 0 or first + count - 1 > highest):
        first -= 0x10000
    entries = _words(item, "LUTData", big_endian, count)
    if len(entries) < count or count < 2:
        return None
    entries = entries[:count]
    needed = max(int(entries.max()).bit_length(), 1)
    return LookupTable(first, entries, bits if needed <= bits <= 16 else needed)


def _words(item: Dataset, keyword: str, big_endian: bool, count: int | None = None) -> NDArray[np.uint16]:
    """Read 16-bit words of any VR; data of half the length of `count` words are bytes packed into words."""
    tag = Tag(keyword)
    element = parsing.raw_element(item, tag)
    if element is None:
        return np.zeros(0, np.uint16)
    value = element.value
    if isinstance(value, bytes):
        little = element.is_little_endian if isinstance(element, RawDataElement) else not big_endian
        whole = np.frombuffer(value[: len(value) // 2 * 2], "<u2" if little else ">u2").astype(np.uint16)
        if count is not None and len(whole) < count <= len(value):
            return np.stack([whole & 0xFF, whole >> 8], axis=1).reshape(-1)
        return whole
    members: Sequence[object] = value if isinstance(value, Sequence) else [value]
    try:
        return np.array([int(str(member)) & 0xFFFF for member in members], np.uint16)
    except ValueError:
        return np.zeros(0, np.uint16)


def _shown(value: float | None) -> str:
    return "empty" if value is None else f"{value:g}"


def _listed(values: tuple[float | None, ...]) -> str:
    return ",".join(_shown(value) for value in values[:4]) or "missing"
