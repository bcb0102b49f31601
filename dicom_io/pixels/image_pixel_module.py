"""The Image Pixel module (PS3.3 C.7.6.3), checked before any pixel is decoded."""

from dataclasses import dataclass

from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian

from dicom_io.errors import StatedError
from dicom_io.header import parsing
from dicom_io.header.frames import number_of_frames

# 100 megapixels, four times the largest radiograph (43 x 43 cm at 0.085 mm): limits what a header can make us allocate.
MOST_PIXELS = 100_000_000
_COLOUR = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"}


class PixelsUnreadable(StatedError):
    """The pixels cannot be decoded; `reason` names attributes and values and contains no patient data."""


class DecoderMissing(PixelsUnreadable):
    """This machine has no decoder for the image; another machine may have one."""


@dataclass(frozen=True)
class PixelDescription:
    """The layout of an image; `photometric` is ``""`` where the header does not state it."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    planar: bool
    transfer_syntax_uid: str

    @property
    def lowest(self) -> int:
        """The lowest storable value."""
        return -(1 << (self.bits_stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The highest storable value."""
        return (1 << (self.bits_stored - (1 if self.signed else 0))) - 1

    @property
    def big_endian(self) -> bool:
        """Whether words are stored with the most significant byte first."""
        return self.transfer_syntax_uid == str(ExplicitVRBigEndian)

    @property
    def frame_bytes(self) -> int:
        """The length of the uncompressed frame, in bytes."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


def describe(dataset: FileDataset) -> tuple[PixelDescription, tuple[str, ...]]:
    """Read and check the layout of the pixels.

    Returns
    -------
    tuple of PixelDescription and tuple of str
        The layout, and the assumptions made.

    Raises
    ------
    PixelsUnreadable
        If there are no pixels, or the frames, samples, bits or size are unsupported.
    """
    if not parsing.has(dataset, "PixelData"):
        floats = [name for name in ("FloatPixelData", "DoubleFloatPixelData") if parsing.has(dataset, name)]
        raise PixelsUnreadable(f"{floats[0]} is not read: only PixelData is" if floats else "PixelData is missing")
    rows, columns = parsing.integer(dataset, "Rows", 0), parsing.integer(dataset, "Columns", 0)
    if rows <= 0 or columns <= 0:
        raise PixelsUnreadable(f"Rows is {rows} and Columns is {columns}: both must be at least 1")
    frames = number_of_frames(dataset)
    if frames != 1:
        raise PixelsUnreadable(f"NumberOfFrames is {frames}: only single images are read")
    samples = parsing.integer(dataset, "SamplesPerPixel", 1)
    if samples not in {1, 3}:
        raise PixelsUnreadable(f"SamplesPerPixel is {samples}: 1 or 3 are read")
    if rows * columns * samples > MOST_PIXELS:
        raise PixelsUnreadable(f"Rows x Columns is {rows} x {columns}: more than {MOST_PIXELS} samples are not decoded")
    assumed: list[str] = []
    allocated = parsing.integer(dataset, "BitsAllocated", 16)
    if allocated not in {8, 16, 32}:
        raise PixelsUnreadable(f"BitsAllocated is {allocated}: 8, 16 or 32 are read")
    stored = parsing.integer(dataset, "BitsStored", allocated)
    if not 1 <= stored <= allocated:
        assumed.append(f"BitsStored {stored} read as BitsAllocated {allocated}")
        stored = allocated
    high = parsing.integer(dataset, "HighBit", stored - 1)
    if not stored - 1 <= high < allocated:
        assumed.append(f"HighBit {high} read as {stored - 1}")
        high = stored - 1
    photometric = parsing.text(dataset, "PhotometricInterpretation").upper()
    if photometric and photometric not in ({"MONOCHROME1", "MONOCHROME2"} if samples == 1 else _COLOUR):
        raise PixelsUnreadable(f"PhotometricInterpretation is {photometric[:16]} with {samples} samples: not read")
    description = PixelDescription(
        rows=rows,
        columns=columns,
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=parsing.integer(dataset, "PixelRepresentation", 0) == 1,
        photometric=photometric,
        planar=parsing.integer(dataset, "PlanarConfiguration", 0) == 1,
        transfer_syntax_uid=parsing.transfer_syntax(dataset),
    )
    return description, tuple(assumed)
