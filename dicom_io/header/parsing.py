"""Parses DICOM, with or without preamble and file meta, and reads attributes whatever they contain.

pydicom's validation of values is switched off here: its warnings would write patient data (an invalid birth date, an
invalid name) to the log. Received data is checked by this package and rejected with a reason instead.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from contextlib import contextmanager
from functools import cache
from io import SEEK_END, BytesIO
from pathlib import Path
from threading import Lock
from traceback import clear_frames
from typing import BinaryIO, ClassVar, Literal, Protocol, TypeVar

import pydicom
from pydicom import config
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_partial, read_preamble
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import STANDARD_VR

from dicom_io.errors import StatedError
from dicom_io.header.character_sets import decode
from dicom_io.header.repeated_elements import note_repeated

config.settings.reading_validation_mode = config.IGNORE

# What pydicom raises on malformed bytes; not Exception, so that our own defects show.
PARSING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
# And on values in memory: pydicom raises an OSError for a truncated sequence.
VALUE_ERRORS = (*PARSING_ERRORS, OSError)
# without the cache, pydicom's lookup of keywords was a quarter of the time of reading a header
_tag = cache(Tag)
_PIXEL_TAGS = frozenset(Tag(keyword) for keyword in ("FloatPixelData", "DoubleFloatPixelData", "PixelData"))
_GROUPS_OF_OBJECTS = frozenset({0x0004, 0x0008, 0x0028})
_UNDEFINED = 0xFFFFFFFF  # length (PS3.5 7.1)
_LARGEST_OBJECT = 1 << 30  # held in memory
_LARGEST_INFLATED = 1 << 28  # inflated at once; 268 MB hold the largest image that is decoded
_LARGEST_META = 65_536  # bytes with the preamble; about a hundred are usual
# The memory budget counts received bytes; inflated, they may be a thousand times more: so only one at a time.
_INFLATING = Lock()
_PADDING = "\0 \t\r\n"


_Default = TypeVar("_Default", int, None)


class UnreadableDicom(StatedError):
    """The bytes cannot be parsed as a DICOM object; `reason` says why and contains no patient data."""

    exit_code: ClassVar[int] = 1


class Openable(Protocol):
    """What can be opened, such as a path."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Open it at its beginning. OSError."""


def parse_header(source: Openable | bytes, keywords: Sequence[str | BaseTag] | None = None) -> tuple[FileDataset, bool]:
    """Parse a DICOM object up to its pixel data.

    Parameters
    ----------
    source
        A file, or the bytes of one; preamble and file meta may be missing.
    keywords
        The attributes to keep, by keyword or tag; all when not given.

    Returns
    -------
    tuple of FileDataset and bool
        The header, and whether a non-empty attribute with pixels follows it.

    Raises
    ------
    UnreadableDicom
        If it is not DICOM, or too damaged to parse.
    OSError
        If the file cannot be opened or read.
    """
    pixels: list[int] = []
    explicit: list[str] = []

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        if vr is None and explicit:  # the parser would take its length, and what follows, for another
            raise UnreadableDicom(f"{element_name(tag)} has no valid VR")
        if vr in STANDARD_VR:
            explicit.append(vr)
        if tag >> 16 == 2:  # it is no part of a data set (PS3.10 7.1); the file meta before it counts
            note_repeated(tag)
        if length != _UNDEFINED and length > left() and tag not in _PIXEL_TAGS:
            raise UnreadableDicom(f"data set truncated: {element_name(tag)} has {left()} of {length} bytes")
        if tag in _PIXEL_TAGS and length > 0:
            pixels.append(length)
        return tag in _PIXEL_TAGS

    wanted: list[BaseTag | int] | None = None if keywords is None else [_tag(keyword) for keyword in keywords]
    try:
        with (
            BytesIO(source) if isinstance(source, bytes) else source.open("rb") as handle,
            _bounded(handle) as left,
        ):
            dataset = read_partial(handle, stop_when=at_pixels, force=True, specific_tags=wanted)
    except VALUE_ERRORS as error:
        raise _unreadable(error) from error
    return _not_empty(dataset), bool(pixels)


def element_name(tag: BaseTag) -> str:
    """Return tag and keyword for a message: ``(0010,0020) PatientID``."""
    return f"({tag.group:04X},{tag.element:04X}) {keyword_for_tag(tag)}".rstrip()


def parse_file(source: Path | bytes) -> FileDataset:
    """Parse a DICOM object with its pixels; parameters and errors as for `parse_header`."""
    length = len(source) if isinstance(source, bytes) else source.stat().st_size
    if length > _LARGEST_OBJECT:
        raise UnreadableDicom(f"an object of {length} bytes; the maximum is {_LARGEST_OBJECT}")
    try:
        with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as handle, _bounded(handle):
            dataset = pydicom.dcmread(handle, force=True)
    except VALUE_ERRORS as error:
        raise _unreadable(error) from error
    return _not_empty(dataset)


def file_meta(handle: BinaryIO) -> tuple[Dataset, int]:
    """Read the file meta elements (PS3.10 7.1), if any; returns them and the offset of the data set.

    They end where another group begins, whatever their group length says, as in pydicom's parser.
    One of `VALUE_ERRORS` where they cannot be parsed, or do not end within 64 KiB.
    """

    def is_over(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return tag.group != 2

    head = BytesIO(handle.read(_LARGEST_META))
    read_preamble(head, force=True)
    start = head.tell()
    meta = read_dataset(head, is_implicit_VR=False, is_little_endian=True, stop_when=is_over)
    if head.tell() >= _LARGEST_META and handle.read(1):
        raise ValueError("the file meta does not end")
    return (meta, head.tell()) if len(meta) else (Dataset(), start)


@contextmanager
def one_inflated() -> Iterator[None]:
    """Wait until no other thread holds an inflated data set; an exception releases it too."""
    with _INFLATING:
        try:
            yield
        except (*VALUE_ERRORS, UnreadableDicom) as error:
            clear_frames(error.__traceback__)
            raise


def inflated_length(handle: BinaryIO) -> int:
    """Return the inflated length of the rest of a deflated file (PS3.5 A.5), in bytes, without keeping it.

    Raises
    ------
    UnreadableDicom
        If it is more than 256 MiB; a small file may inflate to a thousand times its size.
    zlib.error
        If it cannot be inflated; not if it is only truncated.
    """
    inflater, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not inflater.eof and (piece := inflater.unconsumed_tail or handle.read(1 << 16)):
        length += len(inflater.decompress(piece, 1 << 20))
        if length > _LARGEST_INFLATED:
            raise UnreadableDicom(f"a deflated data set of more than {_LARGEST_INFLATED} bytes; that is the maximum")
    return length


@contextmanager
def _bounded(handle: BinaryIO) -> Iterator[Callable[[], int]]:
    """Limit the size of a deflated file before it is parsed; gives how many bytes may follow at most while it is."""
    meta, start = file_meta(handle)
    if text(meta, "TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        end = handle.seek(0, SEEK_END)
        handle.seek(0)
        yield lambda: end - handle.tell()
        return
    handle.seek(start)
    if handle.read(2) == b"\0\0":  # the parser would read a command set there, and inflate what follows it
        raise UnreadableDicom("a command set precedes the deflated data set")
    handle.seek(start)
    inflated = inflated_length(handle)
    handle.seek(0)
    with one_inflated():
        yield lambda: inflated


def _unreadable(error: Exception) -> UnreadableDicom:
    if isinstance(error, OSError) and error.errno is not None:
        raise error  # an error of the file system; those of pydicom have no errno
    if isinstance(error, ValueError) and "embedded null character" in str(error):  # of Python's codecs.lookup
        return UnreadableDicom("SpecificCharacterSet contains a null character: the character set is unknown")
    # the kind only: the message of the parser may quote values
    return UnreadableDicom(f"not a readable DICOM object ({type(error).__name__} while parsing)")


def _not_empty(dataset: FileDataset) -> FileDataset:
    # any text parses as some elements, but hardly of the groups that every object has
    if not any(tag >> 16 in _GROUPS_OF_OBJECTS for tag in dataset.keys()):  # noqa: SIM118  (values must stay raw)
        meta = getattr(dataset, "file_meta", None)
        if meta is not None and text(meta, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            raise UnreadableDicom("a DICOMDIR, which is a directory and not an image")
        raise UnreadableDicom("no attribute could be read: not a DICOM object, or truncated")
    return dataset


def transfer_syntax(dataset: FileDataset) -> str:
    """Return the transfer syntax UID; without file meta the one that the parser detected."""
    meta = getattr(dataset, "file_meta", None)
    declared = "" if meta is None else str(meta.get("TransferSyntaxUID", "") or "").strip("\0 ")
    if declared:
        return declared
    implicit, little = dataset.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if little or little is None else ExplicitVRBigEndian)


def text(dataset: Dataset, keyword: str | BaseTag, character_set: Dataset | None = None) -> str:
    """Read an attribute as text, however badly it is encoded.

    Parameters
    ----------
    dataset
        The data set that has the attribute.
    keyword
        Its keyword or tag.
    character_set
        The data set whose SpecificCharacterSet applies, where that is not `dataset` (an item of a sequence).

    Returns
    -------
    str
        The value without padding, several values separated by backslashes; ``""`` where missing, empty or a sequence.
        Bytes that cannot be decoded, and control characters, are replaced (`dicom_io.header.character_sets`).
    """
    tag = _tag(keyword)
    element = raw_element(dataset, tag)
    if element is None:
        return ""
    value = element.value
    if isinstance(value, bytes):
        return _decoded(element, value, dataset if character_set is None else character_set)[0].strip(_PADDING)
    if value is None or isinstance(element, RawDataElement) or element.VR == "SQ":
        return ""
    if isinstance(value, MutableSequence):
        return "\\".join(str(member) for member in value).strip(_PADDING)
    return str(value).strip(_PADDING)


def texts(dataset: Dataset, keyword: str | BaseTag, character_set: Dataset | None = None) -> tuple[str, ...]:
    """Read the values of an attribute as text; ``()`` where it is missing or empty."""
    whole = text(dataset, keyword, character_set)
    return tuple(member.strip(_PADDING) for member in whole.split("\\")) if whole else ()


def number(dataset: Dataset, keyword: str) -> float | None:
    """Read the first value of a numeric attribute; None where it is missing, empty or not a finite number."""
    members = numbers(dataset, keyword)
    return members[0] if members else None


def numbers(dataset: Dataset, keyword: str | BaseTag) -> tuple[float | None, ...]:
    """Read a numeric attribute of any VR, binary or text; a value that is not a finite number is None."""
    tag = _tag(keyword)
    element = raw_element(dataset, tag)
    if element is None:
        return ()
    if isinstance(element, RawDataElement) and element.VR in {"DS", "IS", "UN", "SH", "LO", "CS"}:
        return tuple(_finite(member) for member in texts(dataset, keyword))
    try:
        value = dataset[tag].value
    except VALUE_ERRORS:
        return tuple(_finite(member) for member in texts(dataset, keyword))
    if value is None:
        return ()
    members = value if isinstance(value, MutableSequence) else [value]
    return tuple(_finite(member) for member in members)


def integer(dataset: Dataset, keyword: str, default: _Default) -> int | _Default:
    """Read the first value of a numeric attribute as an integer; `default` where there is none within 32 bits."""
    value = number(dataset, keyword)
    return default if value is None or abs(value) > 2**31 else int(value)


def items(dataset: Dataset, keyword: str | BaseTag) -> list[Dataset]:
    """Read the items of a sequence; an empty list where it is missing, empty or cannot be parsed."""
    tag = _tag(keyword)
    if tag not in dataset:
        return []
    try:
        value = dataset[tag].value
    except VALUE_ERRORS:
        return []
    return [item for item in value if isinstance(item, Dataset)] if hasattr(value, "__iter__") else []


def has(dataset: Dataset, keyword: str | BaseTag) -> bool:
    """Whether an attribute is present, with or without a value."""
    return _tag(keyword) in dataset


def raw_element(dataset: Dataset, tag: BaseTag) -> DataElement | RawDataElement | None:
    """Return an element, raw where it was not decoded yet; None where it is missing or its VR is invalid."""
    try:
        return dataset.get_item(tag)
    except VALUE_ERRORS:  # missing, or of an invalid VR: one without a value is decoded at once
        return None


def is_decodable(dataset: Dataset, keyword: str | BaseTag, character_set: Dataset | None = None) -> bool:
    """Whether `text` gives the attribute's text without replacements; parameters as there."""
    element = raw_element(dataset, _tag(keyword))
    if element is None or not isinstance(element.value, bytes):
        return True
    return _decoded(element, element.value, dataset if character_set is None else character_set)[1]


def character_set_terms(dataset: Dataset) -> list[str]:
    """Return the values of SpecificCharacterSet as they are written."""
    element = raw_element(dataset, _tag("SpecificCharacterSet"))
    value = None if element is None else element.value
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").split("\\")
    if isinstance(value, str) or value is None:
        return [value or ""]
    return [str(member) for member in value]


def _decoded(element: DataElement | RawDataElement, value: bytes, character_set: Dataset) -> tuple[str, bool]:
    return decode(value, character_set_terms(character_set), is_name=dictionary_vr(element.tag) == "PN")


@cache
def dictionary_vr(tag: BaseTag) -> str:
    """Return the VR of an attribute (PS3.6), such as ``US or SS``; empty where it is unknown."""
    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""


def _finite(value: object) -> float | None:
    if isinstance(value, Dataset):  # an item of a sequence where a number is expected; it may contain an invalid VR
        return None
    try:
        text = str(value).strip(_PADDING)
        if "_" in text:
            return None  # 1_000 is a number in Python only
        result = float(text)
    except (ValueError, OverflowError):
        return None
    return result if -1e300 < result < 1e300 else None
