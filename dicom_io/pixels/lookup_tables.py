"""Reads a LUT from an item of Modality LUT Sequence or VOI LUT Sequence (PS3.3 C.11.1.1, C.11.2.1.1)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_io.header import parsing
from dicom_io.pixels.luts import LookupTable

_ABOVE_DESCRIPTOR = 0.01  # share of entries: a curve that overshoots white; more, and the descriptor is wrong
_BYTE_RANGE = 255


def read_table(item: Dataset, lowest: float, highest: float, big_endian: bool) -> tuple[LookupTable | None, str]:
    """Read a LUT.

    Parameters
    ----------
    item
        The item of the sequence.
    lowest, highest
        The range of its input.
    big_endian
        Whether values that pydicom has decoded were stored with the most significant byte first.

    Returns
    -------
    tuple of LookupTable or None, and str
        The LUT with its description for the record; None with the reason where it is unusable.
    """
    descriptor = _words(item, "LUTDescriptor", big_endian)
    if len(descriptor) != 3:
        return None, f"LUTDescriptor has {len(descriptor)} values in place of 3"
    count, first, stated = int(descriptor[0]) or 1 << 16, int(descriptor[1]), int(descriptor[2])
    # the first value mapped is US or SS; if the unsigned value lies beyond all input, it is signed
    if first >= 0x8000 and (lowest < 0 or first + count - 1 > highest):
        first -= 0x10000
    entries = _entries(_words(item, "LUTData", big_endian), count, stated)
    if entries is None or count < 2:
        return None, f"LUTDescriptor states {count} entries, LUTData holds {_length(item)} bytes"
    needed = max(int(entries.max()).bit_length(), 1)
    # Vendors state 16 bits for entries of 12: the image would be 16 times too dark.
    bits = needed
    if 1 <= stated < needed and (entries >> stated > 0).mean() <= _ABOVE_DESCRIPTOR:
        bits, entries = stated, np.minimum(entries, (1 << stated) - 1)
    said = "" if bits == stated else f" (descriptor: {stated})"
    return LookupTable(first, entries, bits), f"{count} entries from {first}, {bits} bits{said}"


def is_inverting(item: Dataset, big_endian: bool) -> bool:
    """Whether the LUT, or what is there of it, falls from its first to its last word: dark becomes bright."""
    words = _words(item, "LUTData", big_endian)
    return len(words) > 1 and bool(words[0] > words[-1])


def _entries(words: NDArray[np.uint16], count: int, stated: int) -> NDArray[np.uint16] | None:
    """Return `count` entries; None where there are fewer.

    Bytes packed into words are entries only where there are exactly as many, padded to a word. Entries of more than 8
    bits are never packed: half of such a LUT missing looks the same, but as bytes it is no curve.
    """
    if len(words) >= count:
        return words[:count]
    if len(words) != (count + 1) // 2:
        return None
    packed = np.stack([words & 0xFF, words >> 8], axis=1).reshape(-1)[:count]
    if stated > 8 and np.abs(np.diff(packed.astype(np.int64))).sum() > 2 * _BYTE_RANGE:
        return None
    return packed


def _length(item: Dataset) -> int:
    return 2 * len(_words(item, "LUTData", False))


def _words(item: Dataset, keyword: str, big_endian: bool) -> NDArray[np.uint16]:
    """Read 16-bit words of any VR."""
    element = parsing.raw_element(item, Tag(keyword))
    if element is None:
        return np.zeros(0, np.uint16)
    value = element.value
    if isinstance(value, bytes):
        little = element.is_little_endian if isinstance(element, RawDataElement) else not big_endian
        whole = value[: len(value) // 2 * 2]
        return np.frombuffer(whole, "<u2" if little else ">u2").astype(np.uint16)
    members: Sequence[object] = value if isinstance(value, Sequence) else [value]
    try:
        return np.array([int(str(member)) & 0xFFFF for member in members], np.uint16)
    except ValueError:
        return np.zeros(0, np.uint16)
