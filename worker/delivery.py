"""Delivery: a process of its own, a thread a destination, one association for many objects, from the outbox alone."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator

import structlog

from db import deliveries
from db.records import ClaimedDelivery
from db.session import Database, DatabaseUnavailable
from dicom_io.sender import Outgoing, PeerUnreachable, SendOutcome, send
from worker.leases import lease_owner
from worker.peers import destination_peer
from worker.settings import Destination, Settings
from worker.store import Store, StoreUnavailable
from worker.timing import DELIVERY_BATCH, DELIVERY_LEASE, DELIVERY_POLL, PEER_TIMEOUT, backoff, now

_log = structlog.get_logger(__name__)


class Courier:
    """Carries the outbox of one destination."""

    def __init__(self, settings: Settings, destination: Destination, database: Database, store: Store) -> None:
        self._destination = destination
        self._peer = destination_peer(settings, destination)
        self._database = database
        self._store = store
        self._owner = lease_owner()

    def run(self, stop: threading.Event) -> None:
        """Deliver until ``stop`` is set; a database that is away is waited for."""
        while not stop.is_set():
            try:
                carried = self.carry_batch()
            except DatabaseUnavailable as error:
                _log.error("outbox cannot be read", destination=self._destination.name, error=str(error))
                carried = 0
            if not carried:
                stop.wait(DELIVERY_POLL)

    def carry_batch(self) -> int:
        """Offer what is due, in one association. Returns how many objects were due."""
        with self._database.write() as session:
            batch = deliveries.claim_batch(
                session,
                self._destination.name,
                owner=self._owner,
                now=now(),
                lease=DELIVERY_LEASE,
                limit=DELIVERY_BATCH,
            )
        if not batch:
            return 0
        open_items = {str(item.id): item for item in batch}
        try:
            for outcome in send(self._peer, list(self._outgoing(open_items))):
                self._settle(open_items.pop(outcome.key), outcome)
        except PeerUnreachable as error:
            for item in open_items.values():
                self._retry(item, str(error))
            _log.warning(
                "destination unreachable", destination=self._destination.name, waiting=len(open_items), error=str(error)
            )
            return 0  # wait before the next look
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of one destination, whose thread must outlive everything
            reason = f"unexpected {type(error).__name__}"
            for item in open_items.values():
                self._retry(item, reason)
            _log.error(
                "delivery failed unexpectedly",
                destination=self._destination.name,
                error=type(error).__name__,
                raised_at=[f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)],
            )
            return 0
        for item in open_items.values():
            self._retry(item, "the association ended before it was offered")
        return len(batch)

    def _outgoing(self, items: dict[str, ClaimedDelivery]) -> Iterator[Outgoing]:
        for key, item in list(items.items()):
            try:
                yield Outgoing(key=key, path=self._store.whole(item.uri))
            except StoreUnavailable as error:
                del items[key]
                self._retry(item, str(error))

    def _settle(self, item: ClaimedDelivery, outcome: SendOutcome) -> None:
        if outcome.result == "retry":
            self._retry(item, outcome.reason)
            return
        with self._database.write() as session:
            if outcome.result == "stored":
                deliveries.mark_sent(session, item.id, self._owner, now(), outcome.reason)
            else:
                deliveries.mark_failed(session, item.id, self._owner, outcome.reason)
        _log.info("delivered", destination=self._destination.name, result=outcome.result, status=outcome.status)

    def _retry(self, item: ClaimedDelivery, reason: str) -> None:
        with self._database.write() as session:
            when = now() + backoff(item.attempts)
            deliveries.mark_retry(session, item.id, self._owner, next_attempt_at=when, reason=reason)


def deliver_forever(settings: Settings, database: Database, store: Store, stop: threading.Event) -> None:
    """Run a courier a destination until ``stop`` is set."""
    threads = [
        threading.Thread(
            target=Courier(settings, destination, database, store).run, args=(stop,), name=f"deliver {destination.name}"
        )
        for destination in settings.destinations
    ]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join(timeout=PEER_TIMEOUT)
