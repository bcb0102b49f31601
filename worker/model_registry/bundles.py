"""The models this installation can use: bundles shipped with the program and those under the home folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from db.analysis.planning import retarget
from db.model_registry import activation
from db.model_registry.scope import ModelScope
from db.records import ActiveModel
from model.bundle.bundle import (
    DESCRIPTION_FILE,
    Bundle,
    BundleInvalid,
    builtin_bundles_folder,
    find_bundles,
    load_bundle,
)
from worker.config.settings import Settings
from worker.installation import Site, make_home
from worker.model_registry.active_models import active_table, vanished
from worker.model_registry.preprocessing import preprocessing_id
from worker.worklist.priority import ranking


class UnknownModel(Exception):
    """No bundle has that name; the message lists those there are."""

    exit_code: ClassVar[int] = 1


def bundle_folders(settings: Settings) -> list[Path]:
    """Return the folders that are searched for bundles: the home folder's first."""
    return [settings.home / "models", builtin_bundles_folder()]


def list_bundles(settings: Settings) -> list[Bundle | BundleInvalid]:
    """Return every bundle found, the broken ones as the reason why."""
    return list(find_bundles(bundle_folders(settings)))


def find_bundle(settings: Settings, name: str) -> Bundle:
    """Return the bundle with this name, or with a digest that starts so, or in this folder.

    Raises
    ------
    UnknownModel
        If there is none.
    model.bundle.bundle.BundleInvalid
        If the named folder holds a broken one.
    """
    if os.path.isfile(Path(name) / "model.toml"):  # noqa: PTH113 - pathlib raises on a name that is too long
        return load_bundle(Path(name).absolute())
    found = list_bundles(settings)
    for bundle in found:
        if isinstance(bundle, BundleInvalid):
            if bundle.folder is not None and bundle.folder.name == name:
                raise bundle
        elif name == bundle.name or (len(name) >= 6 and bundle.digest.startswith(name)):
            return bundle
    names = ", ".join(bundle.name for bundle in found if not isinstance(bundle, BundleInvalid)) or "none"
    raise UnknownModel(f"no model is named {name!r}; there are: {names}")


def activate(
    site: Site,
    name: str,
    scope: ModelScope | None = None,
    *,
    default: bool = False,
    replace: bool = False,
    only_first: bool = False,
) -> Bundle:
    """Check a bundle whole, golden output included, and make it active. A broken one changes nothing.

    A bundle from elsewhere is copied into the home folder first, so that nobody takes it away under the workers. What
    still waits for another model is read by the one that reads it now.

    Parameters
    ----------
    scope, default, replace
        What it reads: see `db.model_registry.activation.activate`; everything that no other model reads when not given.
    only_first
        Change nothing where a model was ever activated, which another process may do while this one checks the bundle.

    Raises
    ------
    db.model_registry.activation.ScopeTaken
        If another active model reads some of it.
    """
    from model.inference.predictor import Predictor

    settings = site.settings
    bundle = find_bundle(settings, name)
    Predictor.open(bundle.folder, settings.reading.precision, threads=1, engine=settings.reading.engine)
    if bundle.folder.resolve().parent not in [folder.resolve() for folder in bundle_folders(settings)]:
        bundle = _copy_home(settings, bundle)
    moment = site.clock()
    with site.database.write() as session:
        if only_first:
            activation.one_at_a_time(session)
            if activation.any_model_known(session):
                return bundle
        activation.activate(session, as_record(bundle), moment, scope, default=default, replace=replace)
    retarget(site.database, moment, ranking(site.settings))
    return bundle


def follow_moved(site: Site) -> list[Bundle]:
    """Find the active models whose folder is gone where this program has them, and note it.

    A program that is installed anew, elsewhere, brings the bundle that ships with it along.

    Returns
    -------
    list of Bundle
        Those that were found, where they are now.
    """
    gone = {model.digest: model.folder for model in vanished(active_table(site))}
    found: dict[str, Bundle] = {}
    for bundle in list_bundles(site.settings) if gone else ():
        if not isinstance(bundle, BundleInvalid) and bundle.digest in gone:
            found.setdefault(bundle.digest, bundle)
    if found:
        with site.database.write() as session:
            for digest, bundle in found.items():
                activation.note_moved(session, digest, gone[digest], str(bundle.folder))
    return list(found.values())


def deactivate(site: Site, named: str | None = None) -> str | None:
    """Let the active model with this name (or digest, from its start) read nothing more; all of them when not given.

    Returns
    -------
    str or None
        Its name.

    Raises
    ------
    UnknownModel
        If no active model is named so.
    """
    name = None
    with site.database.write() as session:
        if named is None:
            activation.deactivate(session)
        else:
            active = activation.active_models(session)
            found = [each for each in active.models if named == each.name or each.digest.startswith(named)]
            if len(found) != 1 or not named:
                raise UnknownModel(f"no active model is named {named!r}; active: {active.name or 'none'}")
            activation.deactivate(session, found[0].digest)
            name = found[0].name
    retarget(site.database, site.clock(), ranking(site.settings))
    return name


@contextmanager
def models_folder(settings: Settings) -> Iterator[Path]:
    """The home folder's models, for one process at a time: what is checked before a bundle is moved in stays true.

    Raises
    ------
    worker.config.settings.ConfigurationError
        If the home folder cannot be written.
    """
    make_home(settings)
    folder = settings.home / "models"
    folder.mkdir(exist_ok=True)
    with (settings.home / "models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _copy_home(settings: Settings, bundle: Bundle) -> Bundle:
    described = (bundle.folder / DESCRIPTION_FILE).read_bytes()
    with models_folder(settings) as folder:
        target = folder / f"{bundle.name}-{bundle.digest[:12]}"
        if target.exists() and (target / DESCRIPTION_FILE).read_bytes() != described:
            # the same model, calibrated or compiled otherwise: what is there may be in use, and stays
            target = target.with_name(f"{target.name}-{hashlib.sha256(described).hexdigest()[:8]}")
        if not target.exists():
            unfinished = folder / f".model-{uuid.uuid4().hex}"  # hidden, and cleared away by a later import
            shutil.copytree(bundle.folder, unfinished)
            unfinished.rename(target)
    return load_bundle(target)


def as_record(bundle: Bundle) -> ActiveModel:
    """Return the registry's row of a bundle."""
    return ActiveModel(bundle.digest, bundle.name, str(bundle.folder), preprocessing_id(bundle))
