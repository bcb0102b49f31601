"""What listener and sender share of the network: pynetdicom's process-wide settings and the presentation contexts.

pynetdicom keeps its configuration in module globals; they are set here and nowhere else.
"""

import logging

from pydicom import uid
from pynetdicom import _config
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.transport import AssociationSocket

from dicom_io.gate.decision import CR, DX_FOR_PRESENTATION, DX_FOR_PROCESSING, SECONDARY_CAPTURE
from dicom_io.network.tls import shut

VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"
RECEIVED_SOP_CLASSES = (CR, DX_FOR_PRESENTATION, DX_FOR_PROCESSING, SECONDARY_CAPTURE)

UNCOMPRESSED = (str(uid.ExplicitVRLittleEndian), str(uid.ImplicitVRLittleEndian))

# The acceptor's order decides (PS3.7 D.3.2): what needs no decoder first, then lossless, then lossy.
RECEIVED_TRANSFER_SYNTAXES = (
    *UNCOMPRESSED,
    str(uid.ExplicitVRBigEndian),
    str(uid.DeflatedExplicitVRLittleEndian),
    str(uid.RLELossless),
    str(uid.JPEGLosslessSV1),
    str(uid.JPEGLossless),
    str(uid.JPEGLSLossless),
    str(uid.JPEG2000Lossless),
    str(uid.HTJ2KLossless),
    str(uid.HTJ2KLosslessRPCL),
    str(uid.JPEGLSNearLossless),
    str(uid.JPEG2000),
    str(uid.HTJ2K),
    str(uid.JPEGBaseline8Bit),
    str(uid.JPEGExtended12Bit),
)


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


# pynetdicom would log the identifiers of queries, which are patient data
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
# its own notes on every message: they read attributes that a careless sender leaves out, and fail there
_config.LOG_HANDLER_LEVEL = "none"
# one line for what went wrong on the wire, not a traceback of its inside for every port scan
_MODULES = ("acse", "association", "dimse", "dul", "events", "fsm", "service_class", "sm", "transport", "utils")
for _name in ("pynetdicom", *(f"pynetdicom.{module}" for module in _MODULES)):
    logging.getLogger(_name).addFilter(_without_traceback)


def _shut_and_close(self: AssociationSocket) -> None:
    if self.socket is not None:
        shut(self.socket)
        self.socket.close()


# its own leaves a socket open whose peer is gone: the shutdown fails, and the close after it is never reached
AssociationSocket._shutdown_socket = _shut_and_close
# a file is sent as its own bytes, read in pieces: what the peer stores is what we keep
_config.STORE_SEND_CHUNKED_DATASET = True


def received_contexts() -> list[PresentationContext]:
    """Build the contexts that the listener accepts: verification, storage of CR, DX (both) and SC, and commitment."""
    return [
        build_context(COMMITMENT, list(UNCOMPRESSED)),
        build_context(VERIFICATION, list(UNCOMPRESSED)),
        *(build_context(sop_class, list(RECEIVED_TRANSFER_SYNTAXES)) for sop_class in RECEIVED_SOP_CLASSES),
    ]


FASTEST_PDU = 1 << 20  # loopback, objects of 7 MB: 105 MB/s at 16 KiB, 217 at 128 KiB, 332 at 1 MiB, 133 unlimited
