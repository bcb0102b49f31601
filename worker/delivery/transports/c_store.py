"""DICOM destinations: C-STORE of many objects over one association, which ends with them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

from dicom_io.network.association import Peer, PeerUnreachable
from dicom_io.send.storage_scu import Outgoing, send
from worker.delivery.transports.transport import DestinationUnreachable, Item, SendOutcome


class CStoreTransport:
    """Sends to one Storage SCP."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def send(self, items: Sequence[Item]) -> Generator[SendOutcome]:
        with closing(send(self._peer, [Outgoing(item.key, item.path) for item in items])) as outcomes:
            try:
                for outcome in outcomes:
                    yield SendOutcome(outcome.key, outcome.result, outcome.reason, outcome.status)
            except PeerUnreachable as error:
                raise DestinationUnreachable(str(error)) from error

    def close(self) -> None:
        """Nothing is kept open between two batches."""
