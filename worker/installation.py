"""The composition root's first half: settings, home folder, database and store of one installation."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from worker.runtime.clock import Clock, now

if TYPE_CHECKING:
    from db.engine.session import Database
    from worker.config.settings import Settings
    from worker.storage.store import FolderStore


@dataclass(frozen=True)
class Site:
    """One installation; database and store are opened when first asked for; its parts read the time from `clock`."""

    settings: Settings
    clock: Clock = now

    @cached_property
    def database(self) -> Database:
        """The database, its schema created if it was empty. `db.engine.session.DatabaseUnavailable`."""
        from db.engine.schema import prepare
        from db.engine.session import Database

        if not self.settings.database.url:
            make_home(self.settings)
        database = Database(self.settings.database_url)
        prepare(database, self.clock())
        return database

    @cached_property
    def store(self) -> FolderStore:
        """The store of received instances and made objects. `worker.storage.store.StoreUnavailable`.

        Created only where no row names a file in it; `db.engine.session.DatabaseUnavailable` if that cannot be asked.
        """
        from worker.storage.store import FolderStore

        make_home(self.settings)
        return FolderStore(self.settings.home / "store", self._has_files)

    def _has_files(self) -> bool:
        from db.retention.erasure import any_file

        with self.database.read() as session:
            return any_file(session)

    def existing(self) -> Site:
        """Return this installation if it exists: a query with a mistyped name must not create an empty one.

        Raises
        ------
        worker.config.settings.ConfigurationError
            If nothing was ever run here.
        """
        from worker.config.settings import ConfigurationError

        if not self.settings.has_database:
            raise ConfigurationError(
                f"there is no installation in {self.settings.home}: name another with --home or [storage] home, "
                "or make one with 'cxr-triage up'"
            )
        return self


def make_home(settings: Settings) -> None:
    """Create the home folder, closed to other users, where it is not there; several processes may do so at once.

    Raises
    ------
    worker.config.settings.ConfigurationError
        If it cannot be created or written.
    """
    from worker.config.settings import ConfigurationError

    home = settings.home
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds patient data
        with tempfile.TemporaryFile(dir=home):  # without a name, or with one that no other process uses
            pass
    except OSError as error:
        raise ConfigurationError(
            f"home folder {home} cannot be written ({error.strerror}): choose another with --home or [storage] home"
        ) from error


def open_site(home: Path | None, config: Path | None) -> Site:
    """Read the configuration; nothing is created or connected yet. `ConfigurationError`."""
    # importing pydantic takes 0.1 s, and `--help` need not wait for it
    from worker.config.settings import load_settings
    from worker.runtime.logs import log_to_stderr

    log_to_stderr()
    return Site(load_settings(config, home))
