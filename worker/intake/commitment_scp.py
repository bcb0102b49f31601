"""Storage commitment (PS3.4 Annex J): a request is made durable before it is answered, then checked and reported.

It runs beside the listener, on whose association the report may still be sent. The request is a row: if this process
dies, another listener, or this one after a restart, continues it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from db.delivery import commitment_requests
from db.delivery.commitment_requests import ClaimedCommitment, Kept
from db.engine.leases import database_time
from db.engine.session import DatabaseUnavailable, StatementRejected
from db.reasons import ReasonCode
from dicom_io.network.association import Peer, PeerUnreachable
from dicom_io.network.status_codes import ActionStatus, FailureReason
from dicom_io.receive.storage_commitment import (
    CommitmentRequest,
    CommitmentResult,
    Reference,
    ReportOutcome,
    deliver_report,
    failure_reason,
)
from worker.config.dicom_peers import requester_peer
from worker.installation import Site
from worker.runtime.registered_process import RegisteredProcess
from worker.runtime.timeouts import (
    COMMITMENT_LEASE,
    COMMITMENT_OTHERS,
    COMMITMENT_PATIENCE,
    COMMITMENT_POLL,
    COMMITMENT_QUIET,
    COMMITMENT_RENEW,
    backoff,
)
from worker.storage.store import StoredFileLost, StoreUnavailable

_log = structlog.get_logger(__name__)
_AT_ONCE = 4  # concurrent reports: one silent requester must not delay the others

Report = Callable[[str, CommitmentResult, float], ReportOutcome]


class LeaseLost(Exception):
    """Another claim holds the request, or its requester has asked for it anew: this one must report nothing."""


class Committer:
    """Accepts requests for storage commitment, checks the instances and reports the result.

    Parameters
    ----------
    site
        Its settings, database, store and clock are used.
    report
        Reports on the association with this id, once quiet so long: `dicom_io.receive.listener.Listener.report`.
    process
        The row that its leases name.
    """

    def __init__(self, site: Site, report: Report, process: RegisteredProcess) -> None:
        self._settings = site.settings
        self._database = site.database
        self._store = site.store
        self._clock = site.clock
        self._report = report
        self._registered = process
        self._own: dict[int, tuple[str, float]] = {}  # requests of our associations: (association, when to look)
        self._working = 0  # requests that are claimed: never more than can be worked on, for their leases run
        self._lock = threading.Lock()
        self._wake = threading.Event()

    def receive(self, request: CommitmentRequest) -> ActionStatus:
        """Make a request durable and return the status of the N-ACTION response."""
        try:
            with self._database.write() as session:
                when = database_time(session, self._clock)
                number = commitment_requests.record(
                    session,
                    transaction_uid=request.transaction_uid,
                    calling_ae=request.calling_ae,
                    address=request.address,
                    instances=[(each.sop_class_uid, each.sop_instance_uid) for each in request.references],
                    now=when,
                    due=when + COMMITMENT_OTHERS,
                )
        except DatabaseUnavailable as error:
            _log.error("commitment request not recorded", status="resource limitation", error=str(error))
            return ActionStatus.RESOURCE_LIMITATION
        with self._lock:
            self._own[number] = (request.association_id, time.monotonic() + COMMITMENT_QUIET)
        self._wake.set()
        _log.info(
            "commitment requested",
            request=number,
            calling_ae=request.calling_ae,
            address=request.address,
            count=len(request.references),
        )
        return ActionStatus.SUCCESS

    def run(self, stop: threading.Event) -> None:
        """Process requests until ``stop`` is set; while the database is unavailable, they wait."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="commitment") as pool:
            while not stop.is_set():
                try:
                    for claimed, association in self._claim():
                        pool.submit(self._process, claimed, association)
                except (DatabaseUnavailable, StatementRejected, StoreUnavailable) as error:
                    _log.error("commitment waits", error=str(error))
                self._wake.wait(COMMITMENT_QUIET if self._own else COMMITMENT_POLL)
                self._wake.clear()

    def wake(self) -> None:
        """Wake `run`, so that it checks whether to stop."""
        self._wake.set()

    def _claim(self) -> list[tuple[ClaimedCommitment, str | None]]:
        """Claim what is due: requests of our own associations once these are quiet, others when their time has come."""
        with self._lock:
            free = _AT_ONCE - self._working
            own = {number: words for number, words in self._own.items() if words[1] <= time.monotonic()}
            own = dict(list(own.items())[:free])
        if not free:
            return []
        with self._database.read() as session:
            if not own and not commitment_requests.is_any_open(session, database_time(session, self._clock)):
                return []
        owner = self._registered.owner
        with self._database.write() as session:
            moment = database_time(session, self._clock)
            commitment_requests.release_dead(session, self._registered.judge(session, moment), moment)
            taken: list[tuple[ClaimedCommitment, str | None]] = []
            for number, (association, _) in own.items():
                claimed = commitment_requests.claim(session, number, owner=owner, now=moment, lease=COMMITMENT_LEASE)
                if claimed is not None:
                    taken.append((claimed, association))
            due = commitment_requests.claim_due(
                session, owner=owner, now=moment, lease=COMMITMENT_LEASE, limit=free - len(taken)
            )
        taken += [(claimed, None) for claimed in due]
        with self._lock:
            for number, words in own.items():
                if self._own.get(number) == words:  # else asked for anew meanwhile
                    del self._own[number]
            self._working += len(taken)
        return taken

    def _process(self, claimed: ClaimedCommitment, association: str | None) -> None:
        try:
            self._report_on(claimed, association)
        except DatabaseUnavailable as error:  # the lease expires, and the request is due again
            _log.error("commitment waits", request=claimed.id, error=str(error))
        except LeaseLost:
            _log.warning("lease lost: another claim reports this commitment", request=claimed.id)
        finally:
            with self._lock:
                self._working -= 1
            self._wake.set()

    def _report_on(self, claimed: ClaimedCommitment, association: str | None) -> None:
        try:
            result = self._check(claimed)
            if association is not None:
                self._renew(claimed)
                answer = self._report(association, result, COMMITMENT_QUIET)
                if answer is ReportOutcome.BUSY:
                    self._later(claimed, association)
                    return
                if answer is ReportOutcome.REPORTED:
                    self._reported(claimed, result, "its own association")
                    return
            requester = self._requester(claimed.calling_ae)
            self._renew(claimed)
            deliver_report(requester, result)
            self._reported(claimed, result, "a new association")
        except PeerUnreachable as error:
            self._not_reported(claimed, str(error), ReasonCode.PEER_UNREACHABLE)
        except StoreUnavailable as error:
            self._not_reported(claimed, str(error), ReasonCode.STORE_UNAVAILABLE)
        except (DatabaseUnavailable, LeaseLost):
            raise
        except Exception as error:  # noqa: BLE001 - the edge of one request, which must hold up no other
            _log.error("commitment failed unexpectedly", request=claimed.id, error=type(error).__name__)
            self._not_reported(claimed, f"unexpected {type(error).__name__}", ReasonCode.UNEXPECTED_ERROR)

    def _requester(self, calling_ae: str) -> Peer:
        peer = requester_peer(self._settings, calling_ae)
        if peer is None:
            raise PeerUnreachable(
                f"the association of {calling_ae} has ended, and no address of it is configured: add it to [[peers]]"
            )
        return peer

    def _check(self, claimed: ClaimedCommitment) -> CommitmentResult:
        """An instance is committed if it has a row and its stored bytes have the row's hash. `StoreUnavailable`."""
        with self._database.read() as session:
            found = commitment_requests.kept(session, (instance for _, instance in claimed.instances))
        if not self._store.is_there():
            raise StoreUnavailable(f"store {self._store.root} does not exist")
        committed: list[Reference] = []
        failed: list[tuple[Reference, FailureReason]] = []
        renewed = time.monotonic()
        for sop_class, instance in claimed.instances:
            if time.monotonic() - renewed > COMMITMENT_RENEW:
                self._renew(claimed)
                renewed = time.monotonic()
            reference = Reference(sop_class, instance)
            reason = self._missing(reference, found.get(instance))
            if reason is None:
                committed.append(reference)
            else:
                failed.append((reference, reason))
        return CommitmentResult(claimed.transaction_uid, tuple(committed), tuple(failed))

    def _renew(self, claimed: ClaimedCommitment) -> None:
        with self._database.write() as session:
            until = database_time(session, self._clock) + COMMITMENT_LEASE
            if not commitment_requests.renew(session, claimed, until):
                raise LeaseLost

    def _missing(self, reference: Reference, kept: Kept | None) -> FailureReason | None:
        if kept is None:
            return failure_reason(reference)
        if kept.sop_class_uid != reference.sop_class_uid:
            return FailureReason.CLASS_INSTANCE_CONFLICT
        for uri, sha256 in kept.copies:
            try:
                self._store.whole(uri, sha256)
            except StoredFileLost as error:
                _log.error("an acknowledged instance is damaged in the store", error=str(error))
                return FailureReason.PROCESSING_FAILURE
        return None

    def _later(self, claimed: ClaimedCommitment, association: str) -> None:
        with self._database.write() as session:
            commitment_requests.give_back(session, claimed, database_time(session, self._clock) + COMMITMENT_OTHERS)
        with self._lock:
            self._own[claimed.id] = (association, time.monotonic() + COMMITMENT_QUIET)

    def _reported(self, claimed: ClaimedCommitment, result: CommitmentResult, way: str) -> None:
        committed, refused = len(result.committed), len(result.failed)
        with self._database.write() as session:
            moment = database_time(session, self._clock)
            commitment_requests.mark_reported(session, claimed, moment, committed, refused)
        _log.info(
            "commitment reported",
            request=claimed.id,
            calling_ae=claimed.calling_ae,
            way=way,
            committed=committed,
            refused=refused,
        )

    def _not_reported(self, claimed: ClaimedCommitment, reason: str, code: ReasonCode) -> None:
        with self._database.write() as session:
            moment = database_time(session, self._clock)
            over = moment - claimed.requested_at > COMMITMENT_PATIENCE
            if over:
                commitment_requests.mark_failed(session, claimed, moment, f"given up: {reason}", code)
            else:
                when = moment + backoff(claimed.attempts)
                commitment_requests.mark_retry(session, claimed, next_attempt_at=when, reason=reason, code=code)
        _log.warning(
            "commitment not reported", request=claimed.id, calling_ae=claimed.calling_ae, given_up=over, reason=reason
        )
