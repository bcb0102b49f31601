"""The one table of retry and timeout numbers, with reasons."""

from __future__ import annotations

from datetime import timedelta

MAX_ATTEMPTS = 3  # an image that crashes its worker is given up after three attempts
# seconds; an analysis takes about one, the largest compressed image that is decoded about twenty. A child that hangs
# longer is killed, in the worker by Celery; an image that always hangs occupies a child for three times this
ANALYSIS_TIME_LIMIT = 60
# longer than an analysis may last; a dead owner on this machine is noticed at once
ANALYSIS_LEASE = timedelta(seconds=80)
# seconds after the 1st, 2nd, ... fault of the machine in a row (store away, bundle broken, decoder missing) until an
# image is tried again; the last one applies to all further ones
MACHINE_BACKOFF = (5, 15, 60)
FAULT_KEPT = 10.0  # seconds for which a model that could not be opened is not opened again, whatever is to be read
FAULT_TOLD = 60.0  # seconds after which the same fault is logged again
CHILD_START_LIMIT = {"openvino": 30.0, "keras": 120.0}  # seconds, by engine; importing TensorFlow takes 5 to 24
PICTURE_TIME_LIMIT = 30.0  # seconds; the largest compressed image is drawn in about twenty, and a person waits
PICTURE_AGAIN = 600.0  # seconds after which an image that crashed or hung its decoder is tried again when asked for
PICTURE_IDLE = 120.0  # seconds; the drawing process takes 90 MB and ends when no page is open
DELIVERY_LEASE = timedelta(seconds=300)  # one object to a slow PACS; renewed for the others after each
DELIVERY_BATCH = 50  # objects per association
DELIVERY_POLL = 0.5  # seconds between queries of the outbox
# seconds after the 1st, 2nd, ... failed attempt at an object; the last one applies to all further ones
DELIVERY_BACKOFF = (2, 5, 15, 60, 300)
# seconds without a message before we report on the requester's association: most are released at once
COMMITMENT_QUIET = 0.5
COMMITMENT_OTHERS = timedelta(seconds=5)  # after which another listener may take a request over
COMMITMENT_POLL = 2.0  # seconds between queries of the requests
COMMITMENT_LEASE = timedelta(seconds=120)  # one association with a slow requester; renewed while files are checked
COMMITMENT_RENEW = 20.0  # seconds
COMMITMENT_PATIENCE = timedelta(hours=24)  # a requester that is unreachable for so long has repeated its request
LISTENER_WATCH = 1.0  # seconds between checks that the listener still accepts
HEARTBEAT_EVERY = 10.0  # seconds; each is one small UPDATE, which SQLite syncs to disk
# four heartbeats missed; one may wait 10 s for a connection and 20 s for a lock, and is then at most 40 s late. Less
# than the shortest lease, which else would end first
PROCESS_LOST = timedelta(seconds=45)
PROCESS_KEPT = timedelta(days=1)  # rows of processes that have ended; what they held was released long before
RECOVERY_EVERY = 3.0  # seconds
REQUEUE_IDLE = timedelta(seconds=6)  # the queue is empty, so a pending analysis this old is in no queue
REQUEUE_BUSY = timedelta(minutes=10)  # the queue is long: most analyses this old still wait in it
RECOVERY_BATCH = 500
RETENTION_EVERY = 60.0  # seconds
LEFTOVER_AGE = timedelta(hours=1)  # a file is written in seconds: a partial one this old was abandoned
RETENTION_BATCH = 50  # studies per round
RESTART_BACKOFF = (1.0, 2.0, 5.0, 15.0, 60.0)  # seconds after the 1st, 2nd, ... death in a row
RESTART_FORGIVEN = 120.0  # seconds of running after which earlier deaths no longer count
STOP_PATIENCE = 70.0  # seconds; a worker finishes its running images, which Celery ends after ANALYSIS_TIME_LIMIT
BROKER_TIMEOUT = 2.0  # seconds; a broker that does not answer must not delay the caller
PEER_AWAY = (0.5, 2.0, 5.0, 15.0)  # seconds after the 1st, 2nd, ... failed association, in a row
# seconds for which a count of the backlog is reused, plus the images that this process accepts meanwhile
BACKLOG_SEEN = 1.0
# the pause before the next count is this multiple of the last count's duration: at most 5 % of the time
BACKLOG_REST = 20
RETRY_AFTER = 30  # seconds after which a sender over HTTP is asked to retry; recovery and a worker need a few
STOW_PATIENCE = 30.0  # seconds a sender over HTTP may be silent, as the listener allows for one PDU
STOW_SLOWEST = 8192  # bytes per second on average: a slow sender must not occupy a request slot indefinitely
IMPORT_EVERY = 1.0  # seconds between scans of the watched folder
IMPORT_DOUBT = 60.0  # seconds without a change after which an incomplete file is given up
IMPORT_SCAN = 10_000  # files per scan
UNREFERENCED_AGE = timedelta(hours=12)  # a file is recorded within seconds of being written
UNREFERENCED_KEPT = timedelta(days=30)  # long enough to notice that the database was restored from an old backup
UNFINISHED_MODEL_KEPT = 86_400.0  # seconds; an import takes minutes
MOST_REFUSALS = 100_000  # rows; the oldest beyond this number are removed
# a destination is tried every five minutes at most: what was not tried for so long, and is not configured, is given up
DESTINATION_KEPT = timedelta(days=7)
SENDER_WATCH = 1.0  # seconds between checks that the senders are alive


def analysis_time_limit(engine: str) -> float:
    """Return after how many seconds a task is killed: a model that was just activated is opened within one.

    OpenVINO opens one in a second; importing TensorFlow may take as long as the start of a child.
    """
    return ANALYSIS_TIME_LIMIT + (CHILD_START_LIMIT[engine] if engine == "keras" else 0)


def analysis_lease(engine: str) -> timedelta:
    """Return for how long an analysis is claimed: longer than its task may last."""
    return ANALYSIS_LEASE + timedelta(seconds=analysis_time_limit(engine) - ANALYSIS_TIME_LIMIT)


def machine_backoff(faults: int) -> timedelta:
    """Return how long an image waits after its ``faults``-th fault of the machine in a row (counted from 1)."""
    return timedelta(seconds=MACHINE_BACKOFF[min(max(faults, 1), len(MACHINE_BACKOFF)) - 1])


def backoff(attempts: int) -> timedelta:
    """Return how long to wait after the ``attempts``-th failed delivery attempt (counted from 1)."""
    return timedelta(seconds=DELIVERY_BACKOFF[min(max(attempts, 1), len(DELIVERY_BACKOFF)) - 1])
