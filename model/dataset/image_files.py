"""Image files of a collection: which files below a folder are images, and which of them a table names."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from model.dataset.samples import DatasetInvalid, FileProblem

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom", ""})
"""Suffixes of image files; DICOM files often have none."""
_UNREAD_SUFFIXES = frozenset(
    {".bmp", ".tif", ".tiff", ".gif", ".webp", ".jp2", ".nii", ".gz", ".npy", ".mha", ".nrrd", ".zip", ".tar", ".7z"}
)
"""Suffixes of files that hold images in a form that is not read."""


def is_hidden(path: Path) -> bool:
    """Return whether a file or folder is none of the collection's: hidden, or of an archive made on macOS."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted; symbolic links are followed."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path))


def is_masks(folder: Path) -> bool:
    """Return whether a folder's name says that it holds segmentations, not radiographs."""
    return bool(re.fullmatch(r"(?:\w*[ _-])?(?:masks?|segmentations?)", folder.name.casefold()))


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted by folder; symbolic links are followed, each folder is entered once."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(here / name) and not is_masks(here / name))
        yield from (here / name for name in sorted(names) if not is_hidden(here / name))


def images_below(folder: Path, problems: list[FileProblem] | None = None) -> list[Path]:
    """Return the image files below a folder, sorted; files of images in other forms are appended to `problems`."""
    images = []
    for path in files_below(folder):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
        elif suffix in _UNREAD_SUFFIXES and problems is not None:
            problems.append(FileProblem("damaged", path, f"{suffix} is not read; allowed are PNG, JPEG and DICOM"))
    return sorted(images)


class ImageIndex:
    """Finds the image files that a table names.

    Parameters
    ----------
    folder
        Of the table.
    images
        All images below it.
    """

    def __init__(self, folder: Path, images: Iterable[Path]) -> None:
        self._folder = folder
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for image in images:
            self._by_name.setdefault(image.name.casefold(), []).append(image)
            self._by_stem.setdefault(image.stem.casefold(), []).append(image)

    def find(self, name: str) -> Path | None:
        """Return the image file that a table names, or None where there is none.

        A path is resolved from the table's folder, also without its first folder: CheXpert's tables begin each path
        with the folder that holds the table (``CheXpert-v1.0-small/train/...``). An absolute path of another machine,
        POSIX or Windows, is resolved by as many of its last parts as lead to a file. A name without a folder is looked
        for below the table's folder. Case, and a suffix that is missing or another image's, make no difference.

        Raises
        ------
        DatasetInvalid
            Several files have the name.
        """
        text = name.replace("\\", "/")
        absolute = re.match(r"(?:[A-Za-z]:)?/+", text)
        if absolute and Path(name).is_file():
            return Path(name)
        parts = PurePosixPath(text[absolute.end() :] if absolute else text).parts
        if not parts or parts == (".",):
            return None
        for start in range(len(parts) if absolute else min(2, len(parts))):
            path = self._folder.joinpath(*parts[start:])
            if path.is_file():
                return path
            if len(parts) - start > 1 and (found := self._one(self._in_other_form(path, parts[start:]), name)):
                return found
        if len(parts) > 1 and not absolute:
            return None
        last = Path(parts[-1])
        same_name = self._by_name.get(last.name.casefold(), [])
        return self._one(same_name or self._alike(last), name)

    def _in_other_form(self, path: Path, parts: tuple[str, ...]) -> list[Path]:
        """Return the images at a path whose case or suffix is another."""
        wanted = [part.casefold() for part in (*self._folder.parts, *parts[:-1])]
        named = [*self._by_name.get(path.name.casefold(), []), *self._alike(path)]
        return list(dict.fromkeys(image for image in named if [p.casefold() for p in image.parent.parts] == wanted))

    def _alike(self, path: Path) -> list[Path]:
        """Return the images with the stem of a name that has no suffix, or that of an image."""
        stem = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
        return self._by_stem.get(stem.casefold(), [])

    def _one(self, named: list[Path], name: str) -> Path | None:
        if len(named) > 1:
            raise DatasetInvalid(
                f"a table of {self._folder} names {name}, which is {len(named)} files: {named[0]} and {named[1]}; "
                "write the path from the table's folder"
            )
        return named[0] if named else None
