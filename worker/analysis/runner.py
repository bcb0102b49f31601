"""A worker child's work: claim one analysis, read the image, store everything it gave in one transaction."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog

from db.analysis import lifecycle
from db.analysis.planning import keep_current
from db.engine.leases import database_time
from db.engine.schema import installation_uid
from db.engine.session import Database, DatabaseUnavailable
from db.model_registry.activation import active_models, known_model
from db.reasons import ReasonCode
from db.records import ActiveModel, AnalysisResult, ClaimedAnalysis
from dicom_io.pixels.grayscale import DecoderMissing, PixelsUnreadable
from model.bundle.bundle import BundleInvalid
from model.engine.protocol import EngineUnsuitable
from model.inference.predictor import Predictor
from worker import APPLICATION
from worker.analysis.pipeline import read_dicom
from worker.config.settings import Settings
from worker.model_registry.bundles import UnknownModel
from worker.model_registry.preprocessing import made_by_newer, preprocessing_id
from worker.objects.request import ImageReading, ObjectRequest, ReadImage
from worker.objects.writer import NumberTaken, ObjectWriter, WrittenObject
from worker.runtime.registered_process import ANALYSIS_CHILD, RegisteredProcess
from worker.runtime.timeouts import FAULT_KEPT, FAULT_TOLD, MAX_ATTEMPTS, analysis_lease, machine_backoff
from worker.storage.store import Store, StoredFileLost, StoreUnavailable
from worker.worklist.priority import rank_study

_log = structlog.get_logger(__name__)
_SPARE_READERS = 1  # beside the active models', that of rows created just before one was activated


@dataclass(frozen=True)
class _Broken:
    """A bundle that could not be opened, in seconds of `time.monotonic`."""

    folder: Path
    error: BundleInvalid | EngineUnsuitable
    at: float


class Analyst:
    """Holds the models of one process, loaded after the fork, and analyses ids.

    ``process`` is the row that its leases name; without one it registers a row without a heartbeat.
    """

    def __init__(
        self, settings: Settings, database: Database, store: Store, process: RegisteredProcess | None = None
    ) -> None:
        self._settings = settings
        self.database = database
        self._store = store
        self._objects = ObjectWriter(settings, database, store)
        self._process = process or RegisteredProcess(lambda: database, ANALYSIS_CHILD)
        self._readers: dict[str, Predictor] = {}
        self._installation: UUID | None = None
        self._broken: dict[str, _Broken] = {}  # by digest
        self._told: dict[str, float] = {}  # faults, when they were logged last

    def analyse(self, analysis_id: int) -> str:
        """Analyse one row if it is free. Returns the state it ended in, or ``"not free"``."""
        claimed = self._claim(analysis_id)
        if claimed is None:
            return "not free"
        started = time.monotonic()
        try:
            state = self._read_and_store(claimed)
        except (
            StoreUnavailable,
            BundleInvalid,
            EngineUnsuitable,
            UnknownModel,
            DecoderMissing,
        ) as error:  # the machine's fault, not the image's
            kept = self._wait(claimed, error)
            state = "given back" if kept else "lease lost"
            # what the store says names a file
            if not self._tells(_fault(error) if isinstance(error, StoreUnavailable) else str(error)):
                return state
            _log.error("not analysed", analysis=claimed.id, state=state, error=str(error))
        except PixelsUnreadable as error:
            state = self._end(claimed, "failed", str(error), ReasonCode.PIXELS_UNREADABLE)
        except StoredFileLost as error:  # until the same bytes come again
            state = self._end(claimed, "failed", f"{error}; send it again", ReasonCode.STORED_FILE_LOST)
        except DatabaseUnavailable as error:
            with suppress(DatabaseUnavailable):
                self._wait(claimed, error)
            raise
        except Exception as error:  # noqa: BLE001 - the outermost edge of one image's work
            # kept with the image, the attempt counted; the log shows where it was raised, not the error's text, which
            # may hold a patient's data
            with self.database.write() as session:
                reason = f"unexpected {type(error).__name__}"
                code = ReasonCode.UNEXPECTED_ERROR
                kept = lifecycle.give_back(session, claimed, reason=reason, code=code, retry_at=None)
            _log.error(
                "analysis failed unexpectedly",
                analysis=claimed.id,
                correlation_id=claimed.correlation_id,
                error=type(error).__name__,
                raised_at=[f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)],
            )
            state = "given back" if kept else "lease lost"
        _log.info(
            "analysed",
            correlation_id=claimed.correlation_id,
            analysis=claimed.id,
            state=state,
            attempt=claimed.attempts,
            seconds=round(time.monotonic() - started, 3),
            since_arrival=round((self._process.clock() - claimed.received_at).total_seconds(), 3),
        )
        return state

    def _wait(self, claimed: ClaimedAnalysis, error: Exception) -> bool:
        """Give an analysis back for a fault of the machine, to be tried again ever later. False: lease lost."""
        with self.database.write() as session:
            moment = database_time(session, self._process.clock)
            when = moment + machine_backoff(claimed.faults + 1)
            return lifecycle.give_back(session, claimed, reason=str(error), code=_fault(error), retry_at=when)

    def _tells(self, fault: str) -> bool:
        """Whether a fault is to be logged: the same one, of hundreds of images, once a minute."""
        moment = time.monotonic()
        if moment - self._told.get(fault, -FAULT_TOLD) < FAULT_TOLD:
            return False
        self._told = {each: at for each, at in self._told.items() if moment - at < FAULT_TOLD}
        self._told[fault] = moment
        return True

    def reader(self, digest: str) -> Predictor:
        """Return the reader of a model, opening it on first use, and anew where another bundle of it was activated.

        Quantized or calibrated anew, a bundle is the same model, and another reading.

        Raises
        ------
        worker.model_registry.bundles.UnknownModel
            If the registry has no such model.
        model.bundle.bundle.BundleInvalid
            If the bundle is gone, was changed, or does not give its golden output.
        """
        with self.database.read() as session:
            model = known_model(session, digest)
        if model is None:
            raise UnknownModel(f"model {digest[:12]} is not in the registry")
        if model.folder not in self._readers:
            reader = self._opened(digest, Path(model.folder))
            self._keep_current(model, preprocessing_id(reader.bundle))
            with self.database.read() as session:
                kept = len(active_models(session).entries) + _SPARE_READERS
            while len(self._readers) >= max(kept, 2):
                del self._readers[next(iter(self._readers))]  # the one that was not used for longest
            self._readers[model.folder] = reader
        self._readers[model.folder] = self._readers.pop(model.folder)
        return self._readers[model.folder]

    def _opened(self, digest: str, folder: Path) -> Predictor:
        """Open a bundle; one that could not be opened is not tried again for `FAULT_KEPT` seconds: that may be slow."""
        former = self._broken.get(digest)
        if former is not None and former.folder == folder and time.monotonic() - former.at < FAULT_KEPT:
            raise former.error.with_traceback(None)
        reading = self._settings.reading
        try:
            reader = Predictor.open(folder, precision=reading.precision, threads=1, engine=reading.engine)
            if reader.bundle.digest != digest:
                raise BundleInvalid(folder, f"holds model {reader.bundle.digest[:12]}, not {digest[:12]}")
        except (BundleInvalid, EngineUnsuitable) as error:
            self._broken[digest] = _Broken(folder, error, time.monotonic())
            raise
        self._broken.pop(digest, None)
        return reader

    def _keep_current(self, model: ActiveModel, makes: str) -> None:
        """After an upgrade, let what arrives be queued as what this version makes; a newer one's word stands."""
        if made_by_newer(model.preprocessing_id):
            _log.warning("an older version than the newest here", model=model.name, made=model.preprocessing_id)
            return
        with self.database.write() as session:
            again = keep_current(session, model, makes)
        if makes != model.preprocessing_id or again:
            _log.info("upgraded", model=model.name, was=model.preprocessing_id, makes=makes, read_after_all=again)

    def _claim(self, analysis_id: int) -> ClaimedAnalysis | None:
        owner = self._process.owner
        for first in (True, False):
            with self.database.write() as session:
                moment = database_time(session, self._process.clock)
                claimed = lifecycle.claim(
                    session,
                    analysis_id,
                    owner=owner,
                    now=moment,
                    lease=analysis_lease(self._settings.reading.engine),
                    max_attempts=MAX_ATTEMPTS,
                )
                # redelivered because its child died: that child's lease is released at once, before the next recovery
                if claimed is not None or not first:
                    return claimed
                if not lifecycle.release_dead(session, self._process.judge(session, moment), moment):
                    return None
        return None

    def _read_and_store(self, claimed: ClaimedAnalysis) -> str:
        reader = self.reader(claimed.model_digest)
        makes = preprocessing_id(reader.bundle)
        if claimed.preprocessing_id != makes:
            # queued before an upgrade, or by the other of two versions that run while one is under way: whoever holds
            # it reads it, now, as what it makes; given back, it would go to and fro between the two
            _log.info("queued by another version", analysis=claimed.id, queued=claimed.preprocessing_id, read=makes)
            with self.database.write() as session:
                renamed = lifecycle.read_as(session, claimed, makes, database_time(session, self._process.clock))
            if renamed is None:
                return "not read"
            claimed = renamed
        source = self._store.whole(claimed.uri, claimed.sha256)  # no result or identity out of damaged bytes
        read = read_dicom(
            source,
            reader,
            age_years=claimed.age_years,
            view=claimed.view,
            flags=claimed.flags,
            reduced_resolution=self._settings.reading.reduced_resolution,
        )
        request = ObjectRequest(
            self._installation_uid(),
            claimed.study_instance_uid,
            claimed.created_at.astimezone(self._settings.dicom.zone),
            (ReadImage(source, claimed.sha256, claimed.sop_instance_uid, read, reader.bundle),),
            self._settings.heatmaps.style,
        )
        result = _result(reader, read)
        while True:
            written = self._objects.write(request, claimed.study_id, [claimed.id])
            try:
                kept = self._complete(claimed, result, written)
                break
            except NumberTaken:  # by another image of the study that ended in between
                self._objects.discard(written)
        if not kept:  # nothing of ours was written to the database
            self._discard_if_forgotten(claimed, written)
            return "lease lost"
        return "done"

    def _complete(self, claimed: ClaimedAnalysis, result: AnalysisResult, written: Sequence[WrittenObject]) -> bool:
        with self.database.write() as session:
            moment = database_time(session, self._process.clock)
            kept = lifecycle.complete(session, claimed, result, moment)
            if kept:
                self._objects.record(session, written, moment)
                rank_study(session, claimed.study_id, self._settings.triage.horizon_hours)
        return kept

    def _discard_if_forgotten(self, claimed: ClaimedAnalysis, written: Sequence[WrittenObject]) -> None:
        """Delete what was just written for a study that was removed meanwhile; else another worker needs it."""
        with self.database.read() as session:
            if lifecycle.is_known(session, claimed.id):
                return
        self._objects.discard(written)

    def _installation_uid(self) -> UUID:
        if self._installation is None:
            with self.database.read() as session:
                self._installation = installation_uid(session)
        return self._installation

    def _end(self, claimed: ClaimedAnalysis, state: str, reason: str, code: ReasonCode) -> str:
        with self.database.write() as session:
            moment = database_time(session, self._process.clock)
            kept = lifecycle.end(session, claimed, state=state, reason=reason, code=code, now=moment)
            if kept:  # what a former model said of this image ranks its study no longer
                rank_study(session, claimed.study_id, self._settings.triage.horizon_hours)
        return state if kept else "lease lost"


def _fault(error: Exception) -> ReasonCode:
    """What of the machine was at fault."""
    if isinstance(error, StoreUnavailable):
        return ReasonCode.STORE_UNAVAILABLE
    if isinstance(error, DatabaseUnavailable):
        return ReasonCode.DATABASE_UNAVAILABLE
    return ReasonCode.DECODER_MISSING if isinstance(error, DecoderMissing) else ReasonCode.MODEL_UNAVAILABLE


def _result(reader: Predictor, read: ImageReading) -> AnalysisResult:
    return AnalysisResult(
        engine=reader.engine.name,
        precision=reader.engine.precision,
        application_version=APPLICATION,
        ood_score=read.reading.ood_score,
        flags=read.flags,
        outside_domain=read.outside_domain,
        record=read.record,
        findings=read.findings,
        maps=read.reading.maps.to_bytes(),
        affine=tuple(float(number) for number in read.affine.ravel()),
    )
