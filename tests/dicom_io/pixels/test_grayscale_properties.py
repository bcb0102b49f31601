"""Whatever a header says of its pixels, there is an image between black and white, or a reason."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_io.header.instance_header import UnreadableDicom
from dicom_io.pixels.grayscale import PixelsUnreadable, read_grayscale
from tests.dicom_io.images import image_file, item, sequence

PIXELS = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000

TEXT = st.one_of(
    st.sampled_from([b"", b"0", b"-1", b"1e308", b"-1e-300", b"nan", b"128", b"256\\\\1", b"0.0001", b"x", b"1\\2"]),
    st.binary(max_size=10),
)
SHORT = st.integers(0, 65535)
TABLES = st.builds(
    lambda descriptor, data: sequence(item(LUTDescriptor=("US", descriptor), LUTData=("OW", data))),
    st.lists(SHORT, min_size=1, max_size=4),
    st.binary(max_size=40),
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        **{keyword: TEXT.map(lambda value: ("DS", value)) for keyword in ("WindowCenter", "WindowWidth")},
        **{keyword: TEXT.map(lambda value: ("DS", value)) for keyword in ("RescaleSlope", "RescaleIntercept")},
        **{keyword: TEXT.map(lambda value: ("DS", value)) for keyword in ("PixelSpacing", "ImagerPixelSpacing")},
        **{
            keyword: TEXT.map(lambda value: ("CS", value)) for keyword in ("PatientOrientation", "PresentationLUTShape")
        },
        **{keyword: TEXT.map(lambda value: ("IS", value)) for keyword in ("NumberOfFrames", "PixelAspectRatio")},
        "VOILUTFunction": st.sampled_from(["LINEAR", "SIGMOID", "LINEAR_EXACT", "CUBIC", ""]),
        "ModalityLUTSequence": TABLES,
        "VOILUTSequence": TABLES,
        "PixelPaddingValue": SHORT.map(lambda value: ("US", value)),
        "PixelRepresentation": st.integers(0, 2),
        "BitsStored": st.integers(0, 20),
        "HighBit": st.integers(0, 20),
        "PhotometricInterpretation": st.sampled_from(["MONOCHROME1", "MONOCHROME2", "", "RGB"]),
        "ShutterShape": st.sampled_from(["RECTANGULAR", "CIRCULAR", "POLYGONAL", "OVAL"]),
        "RadiusOfCircularShutter": TEXT.map(lambda value: ("IS", value)),
        "CenterOfCircularShutter": TEXT.map(lambda value: ("IS", value)),
        "VerticesOfThePolygonalShutter": TEXT.map(lambda value: ("IS", value)),
    },
)


@settings(max_examples=300, deadline=None)
@given(header=HEADERS)
def test_any_header_gives_an_image_or_a_reason(header: dict[str, object]) -> None:
    try:
        shown = read_grayscale(image_file(PIXELS, **header))
    except (PixelsUnreadable, UnreadableDicom) as refusal:
        assert refusal.reason
        return
    assert shown.image.dtype == np.float32
    assert np.isfinite(shown.image).all()
    assert 0 <= shown.image.min() <= shown.image.max() <= 1
    assert shown.image.size >= PIXELS.size
    corner = shown.to_stored @ (0, 0, 1)
    assert -0.5 <= corner[0] <= 3.5
    assert -0.5 <= corner[1] <= 2.5
