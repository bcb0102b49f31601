"""The same element twice in one data set: the first counts, as in DCMTK, and it is noted.

An element may stand only once (PS3.5 7.1). pydicom takes the last one without a word, so that another reader of the
same object would see another patient. Its generator of elements is therefore wrapped: every data set and item that this
process parses passes through it, file meta too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydicom import filereader
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag

_noted: ContextVar[dict[BaseTag, None] | None] = ContextVar("repeated elements", default=None)
_elements = filereader.data_element_generator


@contextmanager
def repeated_elements() -> Iterator[dict[BaseTag, None]]:
    """Collect the tags that are met again while data sets are parsed, and sequences accessed, in this context."""
    noted: dict[BaseTag, None] = {}
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def note_repeated(tag: BaseTag) -> None:
    """Add a tag to what `repeated_elements` collects."""
    if (noted := _noted.get()) is not None:
        noted[tag] = None


def flag_for(tag: BaseTag) -> str:
    """Return the flag of a repeated element."""
    return f"repeated element: {keyword_for_tag(tag) or f'({tag.group:04X},{tag.element:04X})'}"


def _first_of_each(*arguments: Any, **options: Any) -> Iterator[RawDataElement | DataElement]:  # noqa: ANN401
    """Yield each element; for a repeated one the first again: the reader counts on one step an element."""
    first: dict[BaseTag, RawDataElement | DataElement] = {}
    for element in _elements(*arguments, **options):
        if element.tag in first:
            note_repeated(element.tag)
        yield first.setdefault(element.tag, element)


filereader.data_element_generator = _first_of_each
