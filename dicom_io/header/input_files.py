"""Finds the images among files and folders, by their content, not by their names."""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom.valuerep import STANDARD_VR

from dicom_io.header import parsing
from dicom_io.header.parsing import UnreadableDicom

Kind = Literal["dicom", "png", "jpeg", "unknown"]

_DICOMDIR = "DICOMDIR"
_EXPLICIT_VRS = {vr.encode() for vr in STANDARD_VR}
_FIRST_GROUPS = (0x0002, 0x0008)


@dataclass(frozen=True)
class InputFile:
    """A file, and its kind by its first bytes."""

    path: Path
    kind: Kind


def find_inputs(paths: Iterable[Path]) -> Iterator[InputFile]:
    """List every file under the paths, in a stable order, each once.

    Folders are searched recursively without hidden files and folders. A DICOMDIR stands for its folder: all files in
    it, and those that it references and that are missing, as DICOM, so that they are reported.

    Raises
    ------
    FileNotFoundError
        If one of the paths does not exist.
    """
    listed: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        for file in _files(path):
            resolved = file.resolve()
            if resolved not in listed:
                listed.add(resolved)
                yield InputFile(file, _kind(file))


def _kind(file: Path) -> Kind:
    if not file.exists():
        return "dicom"  # referenced by a DICOMDIR
    return kind_of(file) if file.is_file() else "unknown"  # a pipe or device may never end


def kind_of(path: Path) -> Kind:
    """Return the kind of a file by its first bytes; also DICOM without preamble; `unknown` where it cannot be read."""
    try:
        with path.open("rb") as handle:
            head = handle.read(132)
            size = os.fstat(handle.fileno()).st_size
    except OSError:
        return "unknown"
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "dicom" if _starts_with_an_element(head, size) else "unknown"


def _starts_with_an_element(head: bytes, size: int) -> bool:
    """Whether the first bytes are a data element of group 0002 or 0008 (PS3.5 7.1) that ends within the file."""
    if len(head) < 8:
        return False
    for order in "<>":
        group, element = struct.unpack(order + "HH", head[:4])
        if group not in _FIRST_GROUPS or element > 0x1200:
            continue
        if head[4:6] in _EXPLICIT_VRS:
            return True
        (length,) = struct.unpack(order + "I", head[4:8])
        if order == "<" and 0 < length <= min(size, 1024):
            return True
    return False


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if path.name.upper() != _DICOMDIR:
            yield path
            return
        path = path.parent
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder) / name
            if name.startswith(".") or not file.is_file():
                continue
            if name.upper() == _DICOMDIR:
                yield from _missing(file)
            else:
                yield file


def _missing(dicomdir: Path) -> Iterator[Path]:
    """List the files that a DICOMDIR references and that are missing, without regard to case."""
    try:
        records = parsing.items(parsing.parse_header(dicomdir)[0], "DirectoryRecordSequence")
    except (UnreadableDicom, OSError):
        return
    for record in records:
        parts = parsing.texts(record, "ReferencedFileID")
        if not parts or any(part in {"", ".", ".."} or "/" in part for part in parts):
            continue
        folder, found = dicomdir.parent, True
        for part in parts:
            present = {} if not folder.is_dir() else {entry.name.upper(): entry for entry in folder.iterdir()}
            found = found and part.upper() in present
            folder = present.get(part.upper(), folder / part)
        if not found:
            yield folder
