"""Packing of bundles into one zip or tar file, and their import from untrusted archives."""

import gzip
import io
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from model.bundle.bundle import DESCRIPTION_FILE, Bundle, BundleInvalid, load_bundle
from model.dataset.patient_digests import KEY_FILE
from model.engine.opening import open_engine
from model.engine.protocol import EngineUnsuitable
from model.network.keras_files import ImportRefused

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MOST_FILES = 64
MOST_BYTES = 8 << 30
MOST_AT_ONCE = 1 << 20
"""Largest single read from a tar, in bytes."""

# What the archive modules raise on malformed files; an encrypted zip is a RuntimeError.
_UNPACKING_ERRORS = (
    *(OSError, EOFError, ValueError, LookupError, RuntimeError, struct.error),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError),
)
_DATE = (1980, 1, 1, 0, 0, 0)


def is_archive(path: Path) -> bool:
    """Return whether a file name has the suffix of an archive."""
    return path.name.lower().endswith(SUFFIXES)


def pack_bundle(bundle: Bundle, path: Path) -> None:
    """Write the files of a bundle's folder, without the patient key, into one archive with reproducible bytes.

    Raises
    ------
    ValueError
        The name has no suffix of `SUFFIXES`.
    """
    if not is_archive(path):
        raise ValueError(f"{path} has no suffix of an archive; allowed are {', '.join(SUFFIXES)}")
    folder = f"{bundle.name}-{bundle.digest[:12]}"
    files = sorted(entry for entry in bundle.folder.iterdir() if entry.is_file() and entry.name != KEY_FILE)
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                info = zipfile.ZipInfo(f"{folder}/{file.name}", _DATE)
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                with file.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target)
        return
    packed = path.suffix.lower() != ".tar"
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if packed else raw as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for file in files:
            member = tarfile.TarInfo(f"{folder}/{file.name}")
            member.size, member.mode = file.stat().st_size, 0o644
            with file.open("rb") as source:
                tar.addfile(member, source)


def import_bundle(path: Path, folder: Path) -> Bundle:
    """Unpack an archive or copy a bundle's folder, and verify it: file names, checksums, golden output.

    Parameters
    ----------
    path
        The archive or folder.
    folder
        Of the new bundle; created, and left incomplete where the bundle is refused.

    Raises
    ------
    ImportRefused
        It is no bundle, is damaged or changed, or its network's output differs from the golden output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, file in _members(path):
            with file, (folder / name).open("wb") as target:
                if name == KEY_FILE:
                    (folder / name).chmod(0o600)
                shutil.copyfileobj(file, target)
        if not (folder / DESCRIPTION_FILE).is_file():
            raise ImportRefused(path, f"it is no bundle: it holds no {DESCRIPTION_FILE}")
        bundle = load_bundle(folder)
        if bundle.has_compiled_network:
            open_engine(bundle, "f32")
        return bundle
    except ImportRefused:
        raise
    except BundleInvalid as invalid:
        raise ImportRefused(path, invalid.reason) from invalid
    except EngineUnsuitable as error:
        raise ImportRefused(path, str(error)) from error
    except _UNPACKING_ERRORS as error:
        raise ImportRefused(path, f"it is damaged or truncated: {error}") from error


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name, without folder, and contents of every file."""
    if path.is_dir():
        for file in sorted(entry for entry in path.iterdir() if entry.is_file()):
            yield file.name, file.open("rb")
        return
    with _opened(path) as archive:
        if isinstance(archive, zipfile.ZipFile):
            sizes = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
        else:
            sizes = _listed(path, archive)
        _check_members(path, sizes)
        for name in sizes:
            content = archive.open(name) if isinstance(archive, zipfile.ZipFile) else archive.extractfile(name)
            yield PurePosixPath(name).name, content or io.BytesIO()


def _listed(path: Path, archive: tarfile.TarFile) -> dict[str, int]:
    """Return name and size of a tar's files; without a table of contents, the whole tar is decompressed for it."""
    sizes: dict[str, int] = {}
    total = 0
    for number, entry in enumerate(archive, 1):
        if not (entry.isfile() or entry.isdir()):
            raise ImportRefused(path, f"{entry.name!r} in it is a link or a device; a bundle has files alone")
        total += entry.size
        _check_amount(path, max(0, number - 1), total)  # one entry may be the bundle's folder
        if entry.isfile():
            sizes[entry.name] = entry.size
    return sizes


class _LimitedReads:
    """A file for tarfile that refuses reads of more than `MOST_AT_ONCE` bytes, which malformed headers ask for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MOST_AT_ONCE:
            raise tarfile.ReadError(f"a header of it claims {size} bytes; allowed are {MOST_AT_ONCE}")
        return self._file.read(size)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    with path.open("rb") as file:
        magic = file.read(2)
    if magic == b"PK":  # not is_zipfile: it accepts a tar whose last file is a .keras file, which is a zip
        with zipfile.ZipFile(path) as archive:
            yield archive
    else:
        with (
            cast(IO[bytes], gzip.open(path) if magic == b"\x1f\x8b" else path.open("rb")) as unpacked,
            tarfile.open(fileobj=cast(IO[bytes], _LimitedReads(unpacked)), mode="r:") as tar,
        ):
            yield tar


def _check_members(path: Path, sizes: dict[str, int]) -> None:
    parts = [PurePosixPath(name).parts for name in sizes]
    folders = {part[:-1] for part in parts}
    climbing = any(".." in part or part[:1] == ("/",) or "\\" in name for part, name in zip(parts, sizes, strict=True))
    if climbing or len(folders) > 1 or any(len(folder) > 1 for folder in folders):
        raise ImportRefused(path, "its files do not lie in one folder, as a bundle's do")
    _check_amount(path, len(sizes), sum(sizes.values()))


def _check_amount(path: Path, files: int, size: int) -> None:
    if files > MOST_FILES or size > MOST_BYTES:
        raise ImportRefused(
            path,
            f"it holds {files} files of {size} bytes; allowed are {MOST_FILES} files and {MOST_BYTES} bytes",
        )
