"""Layout of a folder of images: class folders, parts of a split that hold class folders, or parts within classes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from model.bundle.labels import KNOWN_CODES, label_key, says_no_finding
from model.dataset.image_files import IMAGE_SUFFIXES, images_below, is_hidden, is_masks, subfolders
from model.dataset.label_tables import find_tables
from model.dataset.part_names import part_of
from model.dataset.samples import DatasetInvalid, Source
from model.dataset.table_files import TableFile

_LABELS = frozenset(map(label_key, KNOWN_CODES))
_NOT_CLASSES = frozenset({"ap", "pa", "frontal", "lateral", "images", "image", "img", "imgs", "dicom", "png", "jpg"})
"""Folders within a class folder that are surely no classes: views, and forms of files."""

_UNREAD_TABLES = frozenset({".xlsx", ".xls", ".ods", ".parquet", ".json"})


@dataclass(frozen=True)
class ClassFolder:
    """A folder of images of one class, and the part of the split it is in; empty: none."""

    folder: Path
    name: str
    part: str = ""


@dataclass(frozen=True)
class Layout:
    """What a source consists of: tables of labels with the folder they stand in and its part, or class folders."""

    tables: tuple[tuple[TableFile, str], ...] = ()
    classes: tuple[ClassFolder, ...] = ()


def layout_of(source: Source, notices: list[str]) -> Layout:
    """Return the layout of a source.

    Parameters
    ----------
    source
        A folder or a table. Where its own name is that of a part, all of it is of that part.
    notices
        Sentences about folders that are left out are appended.

    Raises
    ------
    DatasetInvalid
        The folder has neither tables nor class folders, or it cannot be known which of its folders are the classes.
    """
    tables = find_tables(source.folder)
    if source.folder.is_dir():
        notices += [
            f"{path} is no CSV file, and is not read; labels in it have to be saved as CSV"
            for path in sorted(source.folder.iterdir())
            if path.suffix.lower() in _UNREAD_TABLES and not is_hidden(path)
        ]
    own = part_of(source.folder.resolve().name) if source.folder.is_dir() else ""
    if tables:
        return Layout(tables=tuple((table, own) for table in tables))
    folders = [folder for folder in subfolders(source.folder) if not _left_out(folder, notices)]
    _notice_loose_images(source.folder, notices)
    if any(part_of(folder.name) for folder in folders):
        return _of_parts(source, folders, notices)
    within = {folder: subfolders(folder) for folder in folders}
    if len(folders) > 1 and all(inner and all(part_of(each.name) for each in inner) for inner in within.values()):
        _check_classes(
            source.folder,
            {
                folder.name: [each.name for part in inner for each in subfolders(part)]
                for folder, inner in within.items()
            },
        )
        for folder in folders:
            _notice_loose_images(folder, notices)
        return Layout(
            classes=tuple(
                ClassFolder(each, folder.name, part_of(each.name)) for folder, inner in within.items() for each in inner
            )
        )
    if len(folders) == 1 and _is_wrapper(folders[0]):
        notices.append(f"{source.folder} holds {folders[0].name} alone, which is read")
        return layout_of(Source(folders[0], source.domain, source.patient_pattern, source.uncertain), notices)
    if len(folders) < 2:
        found = f"found {len(folders)}{': ' + folders[0].name if folders else ''}"
        raise DatasetInvalid(
            f"{source.folder} holds neither a CSV table of labels (ChestX-ray14's 'Image Index' and 'Finding Labels', "
            "CheXpert's 'Path' and 'Frontal/Lateral', or 'path' and one column per label) "
            f"nor at least two class folders ({found})"
        )
    _check_classes(source.folder, {folder.name: [each.name for each in inner] for folder, inner in within.items()})
    return Layout(classes=tuple(ClassFolder(folder, folder.name, own) for folder in folders))


def _of_parts(source: Source, folders: list[Path], notices: list[str]) -> Layout:
    """Return the layout of a folder with folders named like parts, each with tables or class folders."""
    tables: list[tuple[TableFile, str]] = []
    classes: list[ClassFolder] = []
    for folder in folders:
        part = part_of(folder.name)
        if not part and any(part_of(each.name) for each in subfolders(folder)):
            notices.append(f"{folder} holds the parts once more, as an archive of Kermany's does, and is not read")
        elif not part and images_below(folder):
            parts = ", ".join(each.name for each in folders if part_of(each.name))
            raise DatasetInvalid(
                f"{source.folder} holds the parts of a split ({parts}) and beside them {folder.name}, which is none; "
                "parts are named train, val and test: rename it or move it elsewhere"
            )
        elif part:
            of_part = find_tables(folder)
            own = [each for each in subfolders(folder) if not _left_out(each, notices)]
            if not of_part and not own and images_below(folder):
                raise DatasetInvalid(f"{folder} is a part of a split, but holds neither class folders nor a table")
            if not of_part:
                _notice_loose_images(folder, notices)
            tables += [(table, part) for table in of_part]
            classes += [ClassFolder(each, each.name, part) for each in own if not of_part]
    if tables and classes:
        raise DatasetInvalid(
            f"{source.folder} has a table of labels in {tables[0][0].path.parent.name} but class folders in "
            f"{classes[0].folder.parent.name}; give them as two sources"
        )
    return Layout(tuple(tables), tuple(classes))


def _left_out(folder: Path, notices: list[str]) -> bool:
    if is_masks(folder):
        notices.append(f"{folder} holds segmentations by its name, and is not read")
        return True
    return False


def _notice_loose_images(folder: Path, notices: list[str]) -> None:
    loose = [path for path in sorted(folder.iterdir()) if path.suffix and path.suffix.lower() in IMAGE_SUFFIXES]
    if loose := [path for path in loose if path.is_file() and not is_hidden(path)]:
        notices.append(f"{len(loose)} images in {folder}, such as {loose[0].name}, are in no class folder and not used")


def _is_wrapper(folder: Path) -> bool:
    """Return whether a folder that stands alone holds tables, or parts of a split, as an unpacked archive does."""
    return bool(find_tables(folder)) or any(part_of(each.name) for each in subfolders(folder))


def _check_classes(folder: Path, within: dict[str, list[str]]) -> None:
    """Raise DatasetInvalid where the classes seem to be the folders within the folders: collections, or folds."""
    inner = [{label_key(name) for name in names} - _NOT_CLASSES for names in within.values()]
    alike = all(names == inner[0] for names in inner) and len(inner[0]) > 1
    if (alike or _has_labels(name for names in inner for name in names)) and not _has_labels(within):
        shown = ", ".join(sorted({name for names in within.values() for name in names})[:4])
        raise DatasetInvalid(
            f"the folders of {folder} ({', '.join(list(within)[:4])}) hold the folders {shown}: which of them are the "
            "classes cannot be known. Name parts of a split train, val and test; give collections one by one, as "
            f"{next(iter(within))}={folder / next(iter(within))}"
        )


def _has_labels(names: Iterable[str]) -> bool:
    return any(says_no_finding(name) or label_key(name) in _LABELS for name in names)
