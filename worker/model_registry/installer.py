"""Bringing a model of others into this installation's registry: checked whole before anybody can see it."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.bundle.bundle import DESCRIPTION_FILE, Bundle, BundleInvalid, load_bundle
from model.network.keras_files import ImportRefused
from worker.config.settings import Settings
from worker.model_registry.bundles import list_bundles, models_folder
from worker.runtime.timeouts import UNFINISHED_MODEL_KEPT

if TYPE_CHECKING:
    from model.importing.keras_import import Imported

UNFINISHED = ".model-"
TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".pth.tar", ".pt.tar")


@dataclass(frozen=True)
class Arrival:
    """A model that is in the registry now.

    Attributes
    ----------
    notes
        What a person should know of it.
    known
        Whether the very same model was there already.
    """

    bundle: Bundle
    notes: tuple[str, ...] = ()
    known: bool = False


def is_bundle(path: Path) -> bool:
    """Say whether a path is a bundle's: its folder, or an archive of it."""
    from model.publish.archive import is_archive

    torch = path.name.lower().endswith(TORCH_SUFFIXES)
    return (path / DESCRIPTION_FILE).is_file() or (is_archive(path) and not torch)


def add_model(settings: Settings, source: Path, out: Path | None, make: Callable[[Path], Imported | Bundle]) -> Arrival:
    """Have a bundle made in a folder of its own, and move it to its place when it is whole.

    Parameters
    ----------
    source
        What it is made of.
    out
        Its folder; None: among the models of the home folder.
    make
        Writes the bundle into the folder that it is given.

    Raises
    ------
    model.network.keras_files.ImportRefused
        It is no model, or its name or its place are taken; nothing was changed.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ImportRefused(source, f"{out} is not empty; choose another folder")
    with models_folder(settings) if out is None else nullcontext(out.absolute().parent) as beside:
        beside.mkdir(parents=True, exist_ok=True)
        if out is None:
            remove_unfinished(beside)
    unfinished = beside / f"{UNFINISHED}{uuid.uuid4().hex}"
    try:
        made = make(unfinished)
        bundle, notes = (made, ()) if isinstance(made, Bundle) else (made.bundle, made.notes)
        if out is not None:
            unfinished.rename(out)  # which takes the place of an empty folder at most
            return Arrival(load_bundle(out), notes)
        with models_folder(settings) as models:
            target = models / f"{bundle.name}-{bundle.digest[:12]}"
            _check_name(settings, source, bundle.name, bundle.digest)
            known = target.exists()
            if not known:
                unfinished.rename(target)
        return Arrival(load_bundle(target), notes, known)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what imports left in a folder that were killed longer ago than any takes."""
    for left in folder.glob(f"{UNFINISHED}*"):
        with suppress(FileNotFoundError):  # another import removes it, too
            if left.stat().st_mtime < time.time() - UNFINISHED_MODEL_KEPT:
                shutil.rmtree(left, ignore_errors=True)


def _check_name(settings: Settings, source: Path, name: str, digest: str) -> None:
    """Refuse a name that another model of this installation has."""
    for other in list_bundles(settings):
        if not isinstance(other, BundleInvalid) and other.name == name and other.digest != digest:
            raise ImportRefused(
                source,
                f"another model is named {name} ({other.digest[:12]}, {other.folder}); choose another, or remove it",
            )
