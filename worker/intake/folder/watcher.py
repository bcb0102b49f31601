"""Import from a watched folder: files go through the intake, then to ``done/`` or, with a reason, to ``failed/``.

A file is moved only after its instance is durable, and only if it is still the file that was read. After a crash in
between, the file is found again and the same bytes are stored once more, which changes nothing: no file is lost or
imported twice, by one watcher or by several.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Literal

import structlog

from db.engine.session import DatabaseUnavailable
from dicom_io.network.status_codes import Status
from dicom_io.receive.messages import ListenerSettings, Received, Rejection
from dicom_io.receive.part10_files import examine_file
from dicom_io.receive.store_request import StoreRejected
from worker.config.settings import ConfigurationError, Settings
from worker.intake.folder.moves import place, put_back, set_aside
from worker.intake.folder.scan import DONE, FAILED, Changed, Found, Stamp, TooLarge, entries, read_unchanged
from worker.intake.intake import Intake
from worker.runtime.timeouts import IMPORT_DOUBT, IMPORT_EVERY, IMPORT_SCAN
from worker.storage.store import StoreUnavailable

_log = structlog.get_logger(__name__)

CALLER = "IMPORT"
_LARGEST = ListenerSettings.maximum_object
_Ended = Literal["stored", "failed", "later", "changed"]


def import_folder(settings: Settings) -> Path | None:
    """Return the folder to watch; None if none is configured.

    Raises
    ------
    ConfigurationError
        If it contains the home folder or lies in the store: stored files would be imported again.
    """
    if not settings.imports.folder:
        return None
    folder = Path(settings.imports.folder).expanduser().absolute()
    home, store = settings.home.resolve(), settings.home.resolve() / "store"
    if home.is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(store):
        raise ConfigurationError(f"[imports] folder {folder} must neither contain the home folder nor lie in its store")
    return folder


class Importer:
    """Imports the files of a folder that have not changed for a while.

    Parameters
    ----------
    clock
        Monotonic time in seconds.
    """

    def __init__(
        self, settings: Settings, folder: Path, intake: Intake, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keep = settings.imports.done == "keep"
        self._settle = settings.imports.settle_seconds
        self._folder = folder
        self._intake = intake
        self._clock = clock
        # of the last scan: each file's stamp, and since when it is unchanged
        self._since: dict[Path, tuple[Stamp, float]] = {}
        self._judged: dict[Path, Stamp] = {}  # imported or failed, but could not be moved away
        self._doubted: dict[Path, Stamp] = {}  # cannot be parsed: perhaps it is still being written

    def run(self, stop: threading.Event) -> None:
        """Scan until ``stop`` is set."""
        while not stop.is_set():
            began = self._clock()
            try:
                self.scan(stop)
            except OSError as error:
                _log.error("import folder cannot be read", error=error.strerror or type(error).__name__)
            except (DatabaseUnavailable, StoreUnavailable) as error:
                _log.error("import waits", error=str(error))
            except Exception as error:  # noqa: BLE001 - the thread's edge: were it to end, nothing would be imported
                _log.error("import failed", error=type(error).__name__)
            # a scan of very many files is followed by a pause as long as the scan
            stop.wait(max(IMPORT_EVERY, self._clock() - began))

    def scan(self, stop: threading.Event | None = None) -> int:
        """Scan the folder once and import the files that have settled. Returns how many were imported or failed.

        Raises
        ------
        OSError
            If the folder itself cannot be read.
        """
        moment = self._clock()
        found = list(islice((each for each in entries(self._folder) if not self._is_judged(each)), IMPORT_SCAN))
        before, self._since = self._since, {}
        for each in found:
            stamp, since = before.get(each.path, (None, moment))
            self._since[each.path] = (each.stamp, since if stamp == each.stamp else moment)
        seen = {each.path for each in found}
        self._doubted = {path: stamp for path, stamp in self._doubted.items() if path in seen}
        self._judged = {path: stamp for path, stamp in self._judged.items() if path.exists() or path.is_symlink()}
        ended = 0
        for each in found:
            if stop is not None and stop.is_set():
                break
            rest = moment - self._since[each.path][1]
            doubted = self._doubted.get(each.path) == each.stamp
            if rest < (IMPORT_DOUBT if doubted else self._settle):
                continue
            outcome = self._take(each, in_doubt=rest < IMPORT_DOUBT)
            if outcome == "later":
                break  # the next file would be rejected as well
            ended += outcome in ("stored", "failed")
        if ended:
            _log.info("imported", files=ended)
        return ended

    def _is_judged(self, found: Found) -> bool:
        return self._judged.get(found.path) == found.stamp

    def _take(self, found: Found, *, in_doubt: bool) -> _Ended:
        if found.kind == "aside":
            return self._return(found)
        if found.kind == "other":
            return self._fail(found, Status.CANNOT_UNDERSTAND, f"{found.what}: only regular files are imported")
        try:
            if self._intake.limits.pressure(found.stamp.size):
                return "later"
            data, facts = examine_file(read_unchanged(found, _LARGEST))
            status = self._intake.receive(Received(data, facts, CALLER, "", "", ""))
        except Changed:
            return "changed"
        except (DatabaseUnavailable, StoreUnavailable):
            raise  # no file can be imported now
        except Exception as error:  # noqa: BLE001 - the thread's edge: one file must not block the others
            status, reason = _refusal(error)
            if in_doubt and status == Status.CANNOT_UNDERSTAND:
                self._doubted[found.path] = found.stamp
                return "changed"
            return self._fail(found, status, reason)
        if status == Status.OUT_OF_RESOURCES:
            return "later"
        if status != Status.SUCCESS:
            return self._fail(found, status, status.name.replace("_", " ").lower())
        self._put_away(found, DONE)
        return "stored"

    def _fail(self, found: Found, status: Status, reason: str) -> _Ended:
        self._intake.rejected(Rejection(CALLER, "", status, f"import: {reason}", self._intake.clock()))
        self._put_away(found, FAILED, reason)
        return "failed"

    def _put_away(self, found: Found, where: str, reason: str = "") -> None:
        """Move the imported or failed file away, or delete it; one that cannot be moved is remembered.

        A new file that replaced it meanwhile stays and is imported next.
        """
        aside = None
        try:
            target = self._folder / where / found.path.relative_to(self._folder)
            if where == FAILED or self._keep:
                target.parent.mkdir(parents=True, exist_ok=True)
            aside = set_aside(found.path)
            if not Stamp.of(aside.lstat()).is_renamed(found.stamp):
                put_back(aside, found.path)
                _log.warning("a file was replaced while it was imported; the new one is imported next", to=where)
            elif where == DONE and not self._keep:
                aside.unlink()
            else:
                place(aside, target, reason)
        except FileNotFoundError:
            return  # another watcher was faster
        except OSError as error:
            _log.warning("an imported file cannot be moved away", error=error.strerror, to=where)
            self._judged[found.path] = found.stamp
            if aside is not None:
                self._leave(found, aside)

    def _leave(self, found: Found, aside: Path) -> None:
        """Put back a file that could not be moved away, and remember its new stamp."""
        try:
            path = put_back(aside, found.path)
            stamp = Stamp.of(path.lstat())
        except OSError:
            return  # the next scan finds it under its hidden name
        if stamp.is_renamed(found.stamp):
            self._judged[path] = stamp

    def _return(self, found: Found) -> _Ended:
        """Rename a file back that a watcher left under a hidden name when it died."""
        try:
            put_back(found.path)
        except FileNotFoundError:
            pass  # its watcher is alive
        except OSError as error:
            _log.warning("a file left under a hidden name cannot be renamed", error=error.strerror)
            self._judged[found.path] = found.stamp
        else:
            _log.info("a file left under a hidden name is imported next")
        return "changed"


def _refusal(error: Exception) -> tuple[Status, str]:
    if isinstance(error, StoreRejected):
        return error.status, error.reason
    if isinstance(error, OSError):
        return Status.CANNOT_UNDERSTAND, f"the file cannot be read ({error.strerror or type(error).__name__})"
    if isinstance(error, TooLarge):
        return Status.CANNOT_UNDERSTAND, str(error)
    # the class only: a parser's or database's message may quote patient data
    return Status.PROCESSING_FAILURE, f"internal error: {type(error).__name__}"
