"""The attributes of a site's rules: parsed from the configuration, then read from headers.

Three notations: a keyword (``StationName``), a tag (``(0008,1010)``), a private attribute by its creator
(``(0019,10,ACME 1.1)``). A dot leads into a sequence, an index selects an item, without one every item counts:
``AnatomicRegionSequence[0].CodeValue``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydicom.datadict import dictionary_VR, keyword_dict, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from dicom_io.header import parsing

MOST_VALUES = 100  # of one attribute
MOST_CHARACTERS = 1024  # of one value

# How a value may be shown. Coded: masked. Free: only as the site's rule has it. Identifying: never.
Kind = Literal["coded", "free", "identifying", "sequence"]

_NUMERIC = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "IS", "DS"})
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "AT"})
_CODED = _NUMERIC | {"CS", "AE", "UI"}
_CODED_KEYWORDS = frozenset({
    "CodeValue", "CodingSchemeDesignator", "StationName", "Manufacturer", "ManufacturerModelName", "SoftwareVersions",
    "DeviceSerialNumber", "DetectorID",
})  # fmt: skip
_IDENTIFYING_GROUPS = frozenset({0x0010, 0x0038})  # patient, visit
_IDENTIFYING_VRS = frozenset({"PN", "DA", "DT", "TM"})
_IDENTIFYING_KEYWORDS = frozenset({
    "AccessionNumber", "StudyID", "RequestedProcedureID", "ScheduledProcedureStepID", "SOPInstanceUID",
    "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
})  # fmt: skip
_STEP = re.compile(
    r"(?:(?P<keyword>[A-Za-z][A-Za-z0-9]*)"
    r"|\(\s*(?P<group>[0-9A-Fa-f]{4})\s*,\s*(?P<element>[0-9A-Fa-f]{2}|[0-9A-Fa-f]{4})\s*(?:,\s*(?P<creator>[^)]+?)\s*)?\))"
    r"(?:\[(?P<item>[0-9]{1,4})\])?"
)


class TagNotUnderstood(ValueError):
    """A configured attribute cannot be used in a rule; the message says why."""


@dataclass(frozen=True)
class _Step:
    tag: int  # of a private element: its last two digits
    group: int
    creator: str = ""
    item: int | None = None


@dataclass(frozen=True)
class TagPath:
    """An attribute; `text` is as the site wrote it."""

    text: str
    steps: tuple[_Step, ...]
    kind: Kind


def parse_tag_path(text: str) -> TagPath:
    """Parse a configured attribute.

    Raises
    ------
    TagNotUnderstood
        For an unknown keyword (with the nearest known one), a tag that is not in a header, or binary data.
    """
    written = text.strip()
    steps: list[_Step] = []
    kinds: list[Kind] = []
    position = 0
    while True:
        found = _STEP.match(written, position)
        if found is None:
            raise TagNotUnderstood(
                f"tag {text!r} is not understood; write a keyword (StationName), (gggg,eeee), (gggg,ee,CREATOR) for a "
                "private one, or Sequence[0].Attribute"
            )
        step = _step(found)
        steps.append(step)
        kinds.append(_kind(step))
        position = found.end()
        if position == len(written):
            break
        if written[position] != "." or (kinds[-1] != "sequence" and not step.creator):
            raise TagNotUnderstood(f"tag {text!r}: {found[0]} is not a sequence, so nothing may follow it")
        position += 1
    if steps[-1].item is not None:
        raise TagNotUnderstood(f"tag {text!r}: an index is only for a sequence that an attribute follows")
    return TagPath(written, tuple(steps), "identifying" if "identifying" in kinds else kinds[-1])


def header_tags(paths: Iterable[TagPath]) -> list[BaseTag]:
    """Return the top-level tags that a header must be read with for `values`."""
    wanted: dict[int, None] = {}
    for path in paths:
        step = path.steps[0]
        if not step.creator:
            wanted[step.tag] = None
            continue
        for block in range(0x10, 0x100):  # PS3.5 7.8.1: which creator reserved which block is in the header
            wanted[(step.group << 16) | block] = None
            wanted[(step.group << 16) | (block << 8) | step.tag] = None
    return [Tag(tag) for tag in wanted]


def values(dataset: Dataset, path: TagPath) -> tuple[str, ...] | None:
    """Read an attribute: its values as text, ``()`` for a sequence with items, None where missing or empty."""
    found: list[str] = []
    exists = False
    for holder in _holders([dataset], path.steps[:-1]):
        tag = _tag(holder, path.steps[-1])
        if tag is None or tag not in holder:
            continue
        if parsing.items(holder, tag):
            exists = True
            continue
        members = [value for value in _members(holder, tag, dataset) if value]
        exists = exists or bool(members)
        found += members
    return tuple(value[:MOST_CHARACTERS] for value in found[:MOST_VALUES]) if exists else None


def _holders(datasets: list[Dataset], steps: tuple[_Step, ...]) -> list[Dataset]:
    for step in steps:
        inner: list[Dataset] = []
        for dataset in datasets:
            tag = _tag(dataset, step)
            items = [] if tag is None else parsing.items(dataset, tag)
            inner += items if step.item is None else items[step.item : step.item + 1]
        datasets = inner[:MOST_VALUES]
    return datasets


def _tag(dataset: Dataset, step: _Step) -> BaseTag | None:
    if not step.creator:
        return Tag(step.tag)
    for block in range(0x10, 0x100):
        owner = Tag((step.group << 16) | block)
        if owner in dataset and parsing.text(dataset, owner) == step.creator:
            return Tag((step.group << 16) | (block << 8) | step.tag)
    return None


def _members(dataset: Dataset, tag: BaseTag, root: Dataset) -> list[str]:
    if _value_representation(dataset, tag) in _NUMERIC:
        return ["" if number is None else f"{number:.15g}" for number in parsing.numbers(dataset, tag)]
    return list(parsing.texts(dataset, tag, root))


def _value_representation(dataset: Dataset, tag: BaseTag) -> str:
    announced = getattr(dataset.get_item(tag), "VR", None)
    if announced and announced != "UN":
        return str(announced)
    return _dictionary_vr(tag)


def _dictionary_vr(tag: int) -> str:
    try:
        # such as "US or SS"
        return dictionary_VR(tag).split(" ")[0]
    except KeyError:
        return ""


def _step(found: re.Match[str]) -> _Step:
    item = None if found["item"] is None else int(found["item"])
    if found["keyword"]:
        tag = tag_for_keyword(found["keyword"])
        if tag is None:
            near = difflib.get_close_matches(found["keyword"], keyword_dict, n=1)
            raise TagNotUnderstood(
                f"tag {found['keyword']!r} is not a DICOM keyword" + (f"; did you mean {near[0]}?" if near else "")
            )
        return _readable(_Step(int(tag), int(tag) >> 16, item=item), found["keyword"])
    group, element = int(found["group"], 16), int(found["element"], 16)
    if found["creator"]:
        if group % 2 == 0 or len(found["element"]) != 2:
            raise TagNotUnderstood(
                f"tag {found[0]!r}: a private attribute has an odd group and two digits, (0019,10,CREATOR)"
            )
        return _readable(_Step(element, group, found["creator"], item), found[0])
    if len(found["element"]) != 4:
        raise TagNotUnderstood(f"tag {found[0]!r}: write four digits, (gggg,eeee), or a creator: (gggg,ee,CREATOR)")
    if group % 2:
        raise TagNotUnderstood(
            f"tag {found[0]!r} is private: write its last two digits and its creator, (gggg,ee,CREATOR)"
        )
    return _readable(_Step((group << 16) | element, group, item=item), found[0])


def _readable(step: _Step, written: str) -> _Step:
    if step.group <= 0x0002:
        raise TagNotUnderstood(f"tag {written!r} is not in the data set, which rules evaluate")
    if step.group >= 0x7FE0:
        raise TagNotUnderstood(f"tag {written!r} is or follows the pixel data; rules evaluate the header before it")
    if not step.creator and _dictionary_vr(step.tag) in _BINARY:
        raise TagNotUnderstood(f"tag {written!r} has binary data, which no rule can evaluate")
    return step


def _kind(step: _Step) -> Kind:
    if step.creator:
        return "identifying"  # its content is unknown
    vr, keyword = _dictionary_vr(step.tag), keyword_for_tag(step.tag)
    if step.group in _IDENTIFYING_GROUPS or vr in _IDENTIFYING_VRS or keyword in _IDENTIFYING_KEYWORDS:
        return "sequence" if vr == "SQ" else "identifying"
    if vr == "SQ":
        return "sequence"
    return "coded" if vr in _CODED or keyword in _CODED_KEYWORDS else "free"
