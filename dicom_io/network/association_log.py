"""pynetdicom's log lines: each names the association that it is about and what was raised, on one line.

pynetdicom 3.0.4 writes of an error neither the peer nor the AE titles, and a traceback whose last line may quote what
the peer sent. An exception is written as its class and where it was raised instead.
"""

from __future__ import annotations

import logging
import threading
import traceback

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

_FRAMES = 3  # the innermost; the others are pynetdicom's threads

_used = threading.local()  # `association`: in words, the one on which a thread that is not its own sends messages


def described(association: Association) -> str:
    """An association in words: the peer's AE title and address, and our AE title."""
    ours, theirs = association.acceptor, association.requestor
    if association.is_requestor:
        ours, theirs = theirs, ours
    address = theirs.address_info
    place = "an unknown address" if address is None else address.address
    if association.is_requestor and address is not None:
        place += f" port {address.port}"
    return f"association with {theirs.ae_title.strip() or 'an unnamed AE'} at {place} as {ours.ae_title.strip()}"


def uses(association: str) -> None:
    """Say on which association, in words, this thread sends messages from now on; empty: on none."""
    _used.association = association


def name_peers() -> None:
    """Have all of pynetdicom's log lines name their association; to be called before the first one."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith("pynetdicom.") and isinstance(logger, logging.Logger) and _named not in logger.filters:
            logger.addFilter(_named)


def _named(record: logging.LogRecord) -> bool:
    words = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        places = " > ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
        words = f"{type(error).__name__} at {places}"
    thread = threading.current_thread()
    association = thread.assoc if isinstance(thread, DULServiceProvider) else thread
    if isinstance(association, Association):
        words = f"{described(association)}: {words}"
    elif used := getattr(_used, "association", ""):
        words = f"{used}: {words}"
    record.msg, record.args, record.exc_info, record.exc_text = words, (), None, None
    return True
