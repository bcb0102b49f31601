"""What the listener is told, and what it tells: plain values, for which no network library need be imported."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, Literal, Protocol

from dicom_io.facts import InstanceFacts
from dicom_io.status_codes import Status
from dicom_io.tls import TlsFiles

FASTEST_PDU = 1 << 20  # loopback, objects of 7 MB: 105 MB/s at 16 KiB, 217 at 128 KiB, 332 at 1 MiB, 133 unlimited


class ListenerCannotBind(Exception):
    """The listener's address cannot be used; the message names it and says why."""


class ListenerPortInUse(ListenerCannotBind):
    """Another process listens on the port already."""


@dataclass(frozen=True)
class ListenerSettings:
    """Where to listen and for whom; times in seconds.

    Attributes
    ----------
    allowed_callers
        ``AETITLE``, ``AETITLE@address`` or ``AETITLE@network`` each; empty: any caller.
    maximum_object
        Most bytes of one object; a sender of more is hung up on.
    maximum_held
        Most bytes of unanswered requests over all associations; who finds no room waits, and is hung up on in the end.
    maximum_associations
        Established at once; a further one is rejected as transient.
    check_called_ae
        Whether an association that calls another AE title than ours is rejected.
    association_timeout
        How long a connection may stay without a complete association request, the TLS handshake included.
    idle_timeout
        How long an association may stay without a message.
    pdu_timeout
        How long one PDU may take to arrive.
    tls
        What TLS is spoken with; None: plain.
    """

    ae_title: str = "CXRTRIAGE"
    host: str = "0.0.0.0"
    port: int = 11112
    allowed_callers: tuple[str, ...] = ()
    check_called_ae: bool = True
    maximum_pdu: int = FASTEST_PDU
    maximum_object: int = 1 << 29
    maximum_held: int = 1 << 30
    maximum_associations: int = 50
    association_timeout: float = 15.0
    idle_timeout: float = 60.0
    pdu_timeout: float = 30.0
    tls: TlsFiles | None = None


class Incoming(Protocol):
    """A file that is put down while it arrives. Who began it discards it in any case; what was kept then stays."""

    @property
    def problem(self) -> str:
        """Why it could not be put down, in words; empty where it could. What is written after that is dropped."""

    def __len__(self) -> int: ...

    def write(self, piece: bytes | memoryview) -> None:
        """Add to the end; never fails. The piece is not used after the call."""

    def read(self, position: int, count: int) -> bytes:
        """Read from what was written, fewer bytes at its end. OSError."""

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Open what was written, at its beginning. OSError."""

    def discard(self) -> None:
        """Let go of it."""


@dataclass(frozen=True)
class Received:
    """One received object: the complete file (preamble, meta, the data set exactly as sent), its facts and sender."""

    data: bytes | Incoming = field(repr=False)
    facts: InstanceFacts
    calling_ae: str
    called_ae: str
    address: str
    association_id: str


@dataclass(frozen=True)
class Rejection:
    """An association or object that was turned away; `reason` holds no patient data, `when` is UTC."""

    calling_ae: str
    address: str
    status: Status
    reason: str
    when: datetime
