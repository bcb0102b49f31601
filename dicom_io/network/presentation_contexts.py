"""Presentation contexts, and the process-wide settings of pynetdicom: module globals, set only here."""

from pydicom import uid
from pynetdicom import _config
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification
from pynetdicom.transport import AssociationSocket

from dicom_io.network.association_log import name_peers
from dicom_io.network.tls import shutdown

RECEIVED_SOP_CLASSES: tuple[str, ...] = (
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.SecondaryCaptureImageStorage,
)

UNCOMPRESSED = (str(uid.ExplicitVRLittleEndian), str(uid.ImplicitVRLittleEndian))

# The acceptor's order decides (PS3.7 D.3.2): first uncompressed, then lossless, then lossy.
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


# pynetdicom would log the identifiers of queries, which are patient data
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
# its log handlers read attributes that a sender may leave out, and fail on them
_config.LOG_HANDLER_LEVEL = "none"
# one line for a network error, not a traceback of pynetdicom for every port scan, and whose error it is
name_peers()


def _shutdown_and_close(self: AssociationSocket) -> None:
    if self.socket is not None:
        shutdown(self.socket)
        self.socket.close()


# pynetdicom's own leaves a socket open whose peer is gone: its shutdown fails, and the close after it is never reached
AssociationSocket._shutdown_socket = _shutdown_and_close
# a file is sent byte for byte, read in pieces: the peer stores the same bytes that are stored here
_config.STORE_SEND_CHUNKED_DATASET = True


def received_contexts() -> list[PresentationContext]:
    """Build the contexts that the listener accepts: verification, storage of CR, DX (both) and SC, and commitment."""
    return [
        build_context(StorageCommitmentPushModel, list(UNCOMPRESSED)),
        build_context(Verification, list(UNCOMPRESSED)),
        *(build_context(sop_class, list(RECEIVED_TRANSFER_SYNTAXES)) for sop_class in RECEIVED_SOP_CLASSES),
    ]


FASTEST_PDU = 1 << 20  # loopback, objects of 7 MB: 105 MB/s at 16 KiB, 217 at 128 KiB, 332 at 1 MiB, 133 unlimited
