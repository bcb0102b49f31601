"""From received bytes to a durable instance with its gate decision, and only then to status "success".

The order is the guarantee: file (fsync, rename, fsync folder) -> rows in one transaction -> status 0x0000 -> queued.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import structlog

from db.engine.group_commit import GroupedWrites
from db.engine.session import DatabaseUnavailable, Session
from db.intake.instances import RecordedElsewhere, is_own_object, record_instance
from db.intake.rejected_transfers import record_rejection
from db.records import NewInstance, Queued, Recorded, StudyIdentity
from dicom_io.gate.decision import decide
from dicom_io.header.instance_header import InstanceHeader, with_site_values
from dicom_io.network.status_codes import Status
from dicom_io.receive.listener import Received, Rejection
from worker.admission.rules import decision_record, gate_rules, rules_version
from worker.installation import Site
from worker.intake.back_pressure import Limits
from worker.storage.incoming_file import Arriving
from worker.storage.store import DICOM_SUFFIX, Store, Stored, StoredFileLost, StoreUnavailable
from worker.worklist.priority import triage_for

_log = structlog.get_logger(__name__)


class Intake:
    """Stores, decides on and records instances, however they arrive."""

    def __init__(self, site: Site, enqueue: Callable[[Queued], None], limits: Limits | None = None) -> None:
        self._rules = gate_rules(site.settings)
        self._horizon = site.settings.triage.horizon_hours
        self._database = site.database
        self._writes = GroupedWrites(self._database)
        self._store: Store = site.store
        self.clock = site.clock
        self._enqueue = enqueue
        self.limits = limits or Limits(site.settings, self._database, self._store.free_bytes)

    def receive(self, received: Received) -> Status:
        """Make one instance durable and return the status for its sender. Its analysis is queued after the commit."""
        try:
            pressure = self.limits.pressure(len(received.data) if isinstance(received.data, bytes) else 0)
            if pressure:
                self._refuse(received, pressure)
                return Status.OUT_OF_RESOURCES
            stored = self._put(received)
            recorded = self._record(received, stored)
        except StoreUnavailable as error:
            self._refuse(received, str(error))
            return Status.OUT_OF_RESOURCES
        except DatabaseUnavailable as error:  # a rejection could not be recorded either
            _log.error("instance not stored", status="out of resources", error=str(error))
            return Status.OUT_OF_RESOURCES
        if recorded.queued is not None:
            self.limits.took()
            self._enqueue(recorded.queued)
        return Status.SUCCESS

    def arriving(self) -> Arriving:
        """Open a file for an incoming object, which `receive` makes durable once complete; discard it after that."""
        return self._store.arriving(self.limits.no_space)

    def _put(self, received: Received) -> Stored:
        if isinstance(received.data, Arriving):
            return self._store.keep(received.data, DICOM_SUFFIX)
        return self._store.put(_whole(received), DICOM_SUFFIX)

    def _refuse(self, received: Received, reason: str) -> None:
        self.rejected(Rejection(received.calling_ae, received.address, Status.OUT_OF_RESOURCES, reason, self.clock()))

    def rejected(self, rejection: Rejection) -> None:
        """Record a transfer that the listener rejected."""
        _log.warning(
            "transfer rejected",
            calling_ae=rejection.calling_ae,
            address=rejection.address,
            status=f"0x{int(rejection.status):04X}",
            reason=rejection.reason,
        )
        try:
            with self._database.write() as session:
                record_rejection(
                    session,
                    when=rejection.when,
                    calling_ae=_storable(rejection.calling_ae),
                    address=rejection.address,
                    status=int(rejection.status),
                    reason=rejection.reason,
                )
        except DatabaseUnavailable as error:
            _log.error("rejected transfer not recorded", error=str(error))

    def _record(self, received: Received, stored: Stored) -> Recorded:
        correlation = str(uuid.uuid4())

        def write(session: Session) -> Recorded:
            recorded = record_instance(session, self._instance(session, received, stored, correlation))
            session.flush()
            self._keep(received, stored)
            return recorded

        for last in (False, False, True):
            try:
                recorded = self._writes.run(write)
                break
            except RecordedElsewhere:
                if last:  # three times in a row is not a race
                    raise
        _log.info(
            "received",
            correlation_id=correlation,
            outcome=recorded.outcome,
            instance=recorded.instance_id,
            bytes=stored.size,
            calling_ae=received.calling_ae,
            address=received.address,
        )
        return recorded

    def _keep(self, received: Received, stored: Stored) -> None:
        """Store the bytes again if they were erased meanwhile; once the row is written, nothing deletes them."""
        try:
            self._store.path(stored.uri)
        except StoredFileLost:
            self._store.put(_whole(received), DICOM_SUFFIX)

    def _instance(self, session: Session, received: Received, stored: Stored, correlation: str) -> NewInstance:
        facts = with_site_values(received.header, received.data, self._rules.tags)
        decision = decide(facts, self._rules, is_own=is_own_object(session, facts.sop_instance_uid))
        when = self.clock()
        return NewInstance(
            study=_identity(facts),
            sop_instance_uid=facts.sop_instance_uid,
            sop_class_uid=facts.sop_class_uid,
            series_instance_uid=facts.series_instance_uid,
            transfer_syntax_uid=facts.transfer_syntax_uid,
            origin="live",
            calling_ae=_storable(received.calling_ae),
            correlation_id=correlation,
            uri=stored.uri,
            sha256=stored.sha256,
            size=stored.size,
            age_years=facts.age_years,
            view=None if facts.view is None else _storable(facts.view),
            decision=decision_record(decision, rules_version(self._rules)),
            triage=triage_for(None, when, self._horizon),
            received_at=when,
        )


def _whole(received: Received) -> bytes:
    data = received.data
    return data if isinstance(data, bytes) else data.read(0, len(data))


def _identity(facts: InstanceHeader) -> StudyIdentity:
    return StudyIdentity(
        study_instance_uid=facts.study_instance_uid,
        patient_id=_storable(facts.patient_id),
        patient_name=_storable(facts.patient_name),
        patient_birth_date=_storable(facts.patient_birth_date),
        patient_sex=_storable(facts.patient_sex),
        accession_number=_storable(facts.accession_number),
        study_date=_storable(facts.study_date),
        study_time=_storable(facts.study_time),
        study_description=_storable(facts.study_description),
    )


def _storable(text: str) -> str:
    """Replace null characters, which PostgreSQL cannot store in text: they must not make an image unacceptable."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
