"""Settings, received objects and rejections: plain values that need no network library."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from dicom_io.header.incoming_file import IncomingFile
from dicom_io.header.instance_header import InstanceHeader
from dicom_io.network.presentation_contexts import FASTEST_PDU
from dicom_io.network.status_codes import Status
from dicom_io.network.tls import TlsFiles


class ListenerCannotBind(Exception):
    """The listener's address cannot be bound; the message names it and the reason."""

    exit_code: ClassVar[int] = 1


class ListenerPortInUse(ListenerCannotBind):
    """Another process listens on the port."""


@dataclass(frozen=True)
class ListenerSettings:
    """Address, limits and timeouts of a listener; times in seconds, sizes in bytes.

    Attributes
    ----------
    allowed_callers
        ``AETITLE``, ``AETITLE@address`` or ``AETITLE@network`` each; empty: any caller.
    maximum_object
        Of one object; a sender that exceeds it is disconnected.
    maximum_held
        Of the unanswered requests of all associations; a request that exceeds it waits, and its sender is disconnected
        after `pdu_timeout`.
    maximum_associations
        Established at once; a further one is rejected as transient.
    check_called_ae
        Whether an association is rejected where its called AE title is not `ae_title`.
    association_timeout
        Until a connection has sent a complete association request, the TLS handshake included.
    idle_timeout
        Between two messages of an association.
    pdu_timeout
        Until a PDU is complete.
    tls
        Certificates and key; None: without TLS.
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
    """A received object: the complete file (preamble, meta, data set as sent), its header values and its sender."""

    data: bytes | IncomingFile = field(repr=False)
    header: InstanceHeader
    calling_ae: str
    called_ae: str
    address: str
    association_id: str


@dataclass(frozen=True)
class Rejection:
    """A rejected connection, association or object; `reason` contains no patient data, `when` is UTC."""

    calling_ae: str
    address: str
    status: Status
    reason: str
    when: datetime
