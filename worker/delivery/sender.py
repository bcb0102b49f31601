"""Delivery: a process of its own, a thread a destination, many objects at once, from the outbox alone."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from datetime import timedelta

import structlog

from db.delivery import objects, outbox
from db.engine.leases import database_time
from db.engine.session import Database, DatabaseUnavailable, StatementRejected
from db.reasons import ReasonCode
from db.records import ClaimedDelivery
from worker.config.settings import Settings
from worker.delivery.transports.opening import open_transport
from worker.delivery.transports.transport import DestinationUnreachable, Item, SendOutcome, Transport
from worker.runtime.registered_process import RegisteredProcess
from worker.runtime.timeouts import DELIVERY_BATCH, DELIVERY_LEASE, DELIVERY_POLL, PEER_AWAY, SENDER_WATCH, backoff
from worker.storage.store import Store, StoredFileLost, StoreUnavailable

_log = structlog.get_logger(__name__)


class SenderDied(Exception):
    """A destination's thread ended by itself: the process must end too, so that it is started again and seen."""


class DestinationSender:
    """Sends the outbox of one destination, whatever its transport; its leases name the row of ``process``."""

    def __init__(
        self, destination: str, transport: Transport, database: Database, store: Store, process: RegisteredProcess
    ) -> None:
        self._destination = destination
        self._transport = transport
        self._database = database
        self._store = store
        self._process = process
        self._batch = DELIVERY_BATCH
        self._unreachable = 0  # times in a row that no connection could be had

    def run(self, stop: threading.Event) -> None:
        """Deliver until ``stop`` is set; a database or a destination that is away is waited for."""
        try:
            while not stop.is_set():
                try:
                    due = self.send_batch(stop.is_set)
                except (DatabaseUnavailable, StatementRejected) as error:
                    _log.error("outbox cannot be read", destination=self._destination, error=str(error))
                    due = 0
                if not due:
                    stop.wait(self.pause)
        finally:
            self._transport.close()

    @property
    def pause(self) -> float:
        """Seconds until the next look at the outbox: longer, the longer the destination is away."""
        return PEER_AWAY[min(self._unreachable, len(PEER_AWAY)) - 1] if self._unreachable else DELIVERY_POLL

    def send_batch(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Offer what is due. Returns how many objects were due; 0: wait before the next look.

        Between two objects the leases of those not yet offered are renewed, and given back once ``stopping()``.
        """
        with self._database.read() as session:  # asked twice a second: what writes would keep others from writing
            if not outbox.is_any_due(session, self._destination, database_time(session, self._process.clock)):
                return 0
        owner = self._process.owner
        with self._database.write() as session:
            claimed = outbox.claim_batch(
                session,
                self._destination,
                owner=owner,
                now=database_time(session, self._process.clock),
                lease=DELIVERY_LEASE,
                limit=self._batch,
            )
            batch = objects.without_superseded(session, claimed)
        if not batch:
            return len(claimed)
        open_items = {str(item.id): item for item in batch}
        try:
            with closing(self._transport.send(list(self._items(open_items)))) as outcomes:
                for outcome in outcomes:
                    self._settle(open_items.pop(outcome.key), outcome, open_items.values())
                    if open_items and stopping():
                        self._give_back(open_items.values())
                        return len(batch)
        except DestinationUnreachable as error:  # no object's fault
            self._unreachable += 1
            self._retry(open_items.values(), str(error), ReasonCode.PEER_UNREACHABLE, timedelta(seconds=self.pause))
            _log.warning(
                "destination unreachable", destination=self._destination, waiting=len(open_items), error=str(error)
            )
            return 0
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of one destination, whose thread must outlive everything
            self._retry(open_items.values(), f"unexpected {type(error).__name__}", ReasonCode.UNEXPECTED_ERROR)
            self._batch = 1  # so that the object it came of holds up no other
            _log.error(
                "delivery failed unexpectedly",
                destination=self._destination,
                error=type(error).__name__,
                raised_at=[f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)],
            )
            return 0
        self._retry(open_items.values(), "the connection ended before it was offered", ReasonCode.NOT_SENT)
        self._batch, self._unreachable = DELIVERY_BATCH, 0
        return len(batch)

    def _items(self, items: dict[str, ClaimedDelivery]) -> Iterator[Item]:
        for key, item in list(items.items()):
            try:
                yield Item(key=key, path=self._store.whole(item.uri, item.sha256))
            except StoreUnavailable as error:
                del items[key]
                self._retry([item], str(error), ReasonCode.STORE_UNAVAILABLE)
            except StoredFileLost as error:
                del items[key]
                with self._database.write() as session:
                    outbox.mark_failed(session, item, str(error), ReasonCode.STORED_FILE_LOST)
                _log.error("object lost from the store, not sent", destination=self._destination, error=str(error))

    def _settle(self, item: ClaimedDelivery, outcome: SendOutcome, others: Collection[ClaimedDelivery]) -> None:
        code = ReasonCode.NOT_SENT if outcome.status is None else ReasonCode.PEER_STATUS
        with self._database.write() as session:
            moment = database_time(session, self._process.clock)
            if outcome.result == "retry":
                when = moment + backoff(item.attempts)
                kept = outbox.mark_retry(session, item, next_attempt_at=when, reason=outcome.reason, code=code)
            elif outcome.result == "stored":
                kept = outbox.mark_sent(session, item, moment, outcome.reason)
            else:
                kept = outbox.mark_failed(session, item, outcome.reason, code)
            outbox.renew(session, list(others), moment + DELIVERY_LEASE)
        if not kept:
            _log.warning("lease lost: another process sends this object", destination=self._destination)
        _log.info("delivered", destination=self._destination, result=outcome.result, status=outcome.status)

    def _retry(
        self, items: Collection[ClaimedDelivery], reason: str, code: ReasonCode, wait: timedelta | None = None
    ) -> None:
        if not items:
            return
        with self._database.write() as session:
            moment = database_time(session, self._process.clock)
            for item in items:
                when = moment + (backoff(item.attempts) if wait is None else wait)
                outbox.mark_retry(session, item, next_attempt_at=when, reason=reason, code=code)

    def _give_back(self, items: Collection[ClaimedDelivery]) -> None:
        with self._database.write() as session:
            for item in items:
                outbox.give_back(session, item)


def deliver_forever(
    settings: Settings, database: Database, store: Store, stop: threading.Event, process: RegisteredProcess
) -> None:
    """Run a sender a destination until ``stop`` is set; the object under way is finished.

    Raises
    ------
    SenderDied
        If a sender's thread ended before that, once the others have stopped.
    """
    threads = [
        threading.Thread(
            target=DestinationSender(
                destination.name, open_transport(settings, destination), database, store, process
            ).run,
            args=(stop,),
            name=f"deliver {destination.name}",
        )
        for destination in settings.destinations
    ]
    for thread in threads:
        thread.start()
    died: list[str] = []
    while not died and not stop.wait(SENDER_WATCH):
        ended = [thread.name for thread in threads if not thread.is_alive()]
        if not stop.is_set():  # those that end because of it may do so between the wait and the look
            died = ended
    stop.set()
    for thread in threads:
        thread.join()
    if died:
        raise SenderDied(f"ended by itself: {', '.join(died)}")
