"""What the listener is told, and what it tells: plain values, for which no network library need be imported."""

from dataclasses import dataclass, field
from datetime import datetime

from dicom_io.header.facts import InstanceFacts
from dicom_io.header.incoming_file import Incoming
from dicom_io.network.presentation_contexts import FASTEST_PDU
from dicom_io.network.status_codes import Status
from dicom_io.network.tls import TlsFiles


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
