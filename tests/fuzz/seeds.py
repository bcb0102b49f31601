"""What the mutations start from: whole DICOM files, real ones and small ones in every transfer syntax that is read."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.data import get_testdata_file

from tests.dicom_io.images import code, image_file, item, sequence
from tests.peers.radiographs import sample

_RAMP = (np.arange(40 * 36, dtype=np.uint16).reshape(40, 36) * 37) % 4096
_PIXELS = {"BitsAllocated": 16, "BitsStored": 12, "Rows": 40, "Columns": 36}
_LARGEST_WHOLE = 40_000  # a larger one costs time and finds nothing more: its header is what is real about it
_SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "dicom"
# of pydicom's own test files: odd lengths, nested sequences, odd encodings, overlays, no file meta
_FOREIGN = ("MR_small.dcm", "no_meta.dcm", "nested_priv_SQ.dcm", "UN_sequence.dcm", "liver_1frame.dcm", "chrH32.dcm")

Seed = tuple[str, bytes]


@cache
def seeds() -> tuple[Seed, ...]:
    """Every start, in a fixed order; what is not on this machine is left out."""
    return (*_synthesized(), *_real())


def _synthesized() -> list[Seed]:
    rich = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": "Nováková^Božena",
        "PatientID": "P1",
        "PatientBirthDate": "19700101",
        "PatientAge": "054Y",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "WindowCenter": "2048",
        "WindowWidth": "4096",
        "PatientOrientation": ["R", "F"],
        "PixelSpacing": ["0.2", "0.1"],
        "ShutterShape": "RECTANGULAR",
        "ShutterLeftVerticalEdge": 2,
        "ShutterRightVerticalEdge": 30,
        "ShutterUpperHorizontalEdge": 2,
        "ShutterLowerHorizontalEdge": 30,
        "AnatomicRegionSequence": code("51185008", "SCT"),
        "VOILUTSequence": sequence(item(LUTDescriptor=("US", [256, 0, 8]), LUTData=("OW", bytes(512)))),
        "ModalityLUTSequence": sequence(item(LUTDescriptor=("US", [16, 0, 16]), LUTData=("OW", bytes(range(32))))),
        "ReferencedStudySequence": sequence(item(PurposeOfReferenceCodeSequence=code("1", "99X"))),
    }
    found: list[Seed] = [
        (str(syntax.keyword), image_file(_RAMP, syntax, BitsStored=12, **rich))
        for syntax in (
            uid.ExplicitVRLittleEndian,
            uid.ImplicitVRLittleEndian,
            uid.ExplicitVRBigEndian,
            uid.DeflatedExplicitVRLittleEndian,
        )
    ]
    found += [
        (str(uid.UID(syntax).keyword), image_file(frame, syntax, **{**rich, **_PIXELS}))
        for syntax, frame in _compressed().items()
    ]
    eight = (_RAMP >> 4).astype(np.uint8)
    for syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        described = {**_PIXELS, "BitsAllocated": 8, "BitsStored": 8}
        frame = bytes(imagecodecs.jpeg8_encode(eight, level=90))
        found.append((str(syntax.keyword), image_file(frame, syntax, **{**rich, **described})))
    return found


def _compressed() -> dict[str, bytes]:
    lossless = bytes(imagecodecs.ljpeg_encode(_RAMP, bitspersample=12))
    jpeg2000 = bytes(imagecodecs.jpeg2k_encode(_RAMP, codecformat="j2k", reversible=True, level=0, bitspersample=12))
    high = bytes(imagecodecs.htj2k_encode(_RAMP, reversible=True))
    planes = [imagecodecs.packbits_encode(plane.astype(np.uint8).tobytes()) for plane in (_RAMP >> 8, _RAMP & 0xFF)]
    planes = [plane + b"\0" * (len(plane) % 2) for plane in planes]
    rle = struct.pack("<16I", 2, 64, 64 + len(planes[0]), *([0] * 13)) + b"".join(planes)
    near = bytes(imagecodecs.jpegls_encode(_RAMP, level=2))
    return {
        uid.RLELossless: rle,
        uid.JPEGLossless: lossless,
        uid.JPEGLosslessSV1: lossless,
        uid.JPEGLSLossless: bytes(imagecodecs.jpegls_encode(_RAMP)),
        uid.JPEGLSNearLossless: near,
        uid.JPEG2000Lossless: jpeg2000,
        uid.JPEG2000: jpeg2000,
        uid.HTJ2KLossless: high,
        uid.HTJ2KLosslessRPCL: high,
        uid.HTJ2K: high,
    }


def _real() -> list[Seed]:
    found: list[Seed] = []
    paths = [sample("RG1_J2KR"), *sorted(_SHARED.glob("*.dcm"))]
    paths += [Path(str(path)) for name in _FOREIGN if (path := get_testdata_file(name, download=False))]
    for path in paths:
        data = path.read_bytes()
        # a large one ends where a broken transfer would end it
        found.append((path.name, data if len(data) <= _LARGEST_WHOLE else data[: _LARGEST_WHOLE // 5]))
    return found
