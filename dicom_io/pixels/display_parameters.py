"""Reads Modality LUT, VOI LUT, polarity and padding from the header, with fallbacks where they are unusable.

Every choice, fallback and assumption is noted in the record that is kept with the result.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pydicom.dataset import Dataset, FileDataset

from dicom_io.header import parsing
from dicom_io.pixels.contrast import Distribution, distribution
from dicom_io.pixels.image_pixel_module import PixelDescription, PixelsUnreadable
from dicom_io.pixels.lookup_tables import is_inverting, read_table
from dicom_io.pixels.luts import DisplaySteps, LookupTable, Range, Rescale, VoiFunction, Window, display
from dicom_io.pixels.stored_bits import Samples

DISAGREEMENT = "PhotometricInterpretation and PresentationLUTShape disagree"
_FUNCTIONS: tuple[VoiFunction, ...] = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_NEARLY_ALL = 0.999  # of the pixels lie between the smallest and the largest value that a header states
_FEWEST_GRAYS = 255  # between those two: fewer than 8 bits are those of a blank film, whose noise would fill the range


def display_steps(
    dataset: FileDataset, description: PixelDescription, stored: Samples
) -> tuple[DisplaySteps, dict[str, str], tuple[str, ...]]:
    """Read Modality LUT, VOI LUT, polarity and padding.

    Parameters
    ----------
    stored
        The stored values: they decide whether a window shows the image, and whether a range is too wide for it.

    Returns
    -------
    tuple of DisplaySteps, dict and tuple of str
        The steps to apply, the record of their sources, and flags for people.
    """
    record: dict[str, str] = {}
    inverted, contradictions = _polarity(dataset, description, record)
    if description.samples == 3:
        record["modality"], record["voi"] = "rescale 1 0", "none: colour image"
        return DisplaySteps(Rescale(), None, False), record, contradictions
    padding = _padding(dataset, description, record)
    shown = distribution(stored, description.lowest, description.highest, padding)
    modality, flags = _modality(dataset, description, shown, record)
    steps, noted = _with_voi(dataset, description, DisplaySteps(modality, None, inverted, padding), shown, record)
    return steps, record, (*flags, *noted, *contradictions)


def _modality(
    dataset: FileDataset, description: PixelDescription, shown: Distribution, record: dict[str, str]
) -> tuple[Rescale | LookupTable, tuple[str, ...]]:
    sequence = parsing.items(dataset, "ModalityLUTSequence")
    flags: tuple[str, ...] = ()
    if sequence:
        table, said = read_table(sequence[0], description.lowest, description.highest, description.big_endian)
        if table is not None and shown.mapped(table).varies_like(shown):
            record["modality"] = f"LUT of {said}"
            return table, ()
        if table is not None:
            said += " show nothing: 99 % of the pixels become one value"
        _refuse_inverting(sequence, description, f"Modality LUT unusable: {said}")
        record["modality_fallback"] = f"Modality LUT unusable: {said}"
        flags = ("Modality LUT unusable",)
    slope, intercept = parsing.number(dataset, "RescaleSlope"), parsing.number(dataset, "RescaleIntercept")
    if slope is None or slope == 0:
        if parsing.has(dataset, "RescaleSlope"):
            record["modality_fallback"] = f"RescaleSlope {_shown(slope)} read as 1"
        slope = 1.0
    rescale = Rescale(slope, intercept or 0.0)
    record["modality"] = f"rescale {rescale.slope:g} {rescale.intercept:g}"
    return rescale, flags


def _with_voi(
    dataset: FileDataset,
    description: PixelDescription,
    steps: DisplaySteps,
    shown: Distribution,
    record: dict[str, str],
) -> tuple[DisplaySteps, tuple[str, ...]]:
    """Choose the VOI: the first LUT that shows the image, else the first window, else a range (PS3.3 C.11.2)."""

    def flatness(voi: LookupTable | Window | Range | None) -> str:
        how = replace(steps, voi=voi, padding=None)
        return shown.flatness(display(shown.values, how, description.lowest, description.highest))

    chosen: LookupTable | Window | Range
    unusable: list[tuple[str, str]] = []
    full, said_of_full, noted = _range(dataset, description, steps.modality, shown)
    for voi, flag, said in _stated(dataset, description, steps, record):
        if voi is None:
            unusable.append((flag, said))
        elif (how_flat := flatness(voi)) and not flatness(full):  # what has no contrast is flat under every window
            unusable.append((flag, f"{said} shows nothing: {how_flat}"))
        else:
            record["voi"], chosen, noted = said, voi, ()
            break
    else:
        record["voi"], chosen = said_of_full, full
    if unusable:
        record["voi_fallback"] = "; ".join(said for _, said in unusable)
        if not isinstance(chosen, LookupTable):
            _refuse_inverting(parsing.items(dataset, "VOILUTSequence"), description, record["voi_fallback"])
    return replace(steps, voi=chosen), (*dict.fromkeys(flag for flag, _ in unusable), *noted)


def _refuse_inverting(luts: Iterable[Dataset], description: PixelDescription, said: str) -> None:
    """Refuse an image whose unusable LUTs invert it: what is used in their place would show its negative."""
    if any(is_inverting(item, description.big_endian) for item in luts):
        raise PixelsUnreadable(f"{said}; it inverts the image, so that nothing else can stand for it")


def _stated(
    dataset: FileDataset, description: PixelDescription, steps: DisplaySteps, record: dict[str, str]
) -> Iterator[tuple[LookupTable | Window | None, str, str]]:
    """Yield the VOI LUTs and windows of the header with the flag to raise where one is unusable, and what it is.

    LUT and window are alternatives, and a LUT comes first; None where one cannot be read.
    """
    values = steps.modality_range(description.lowest, description.highest)
    sequence = parsing.items(dataset, "VOILUTSequence")
    for number, item in enumerate(sequence, 1):
        table, said = read_table(item, *values, description.big_endian)
        which = f"LUT {number} of {len(sequence)}"
        too = "; a window is given too" if parsing.has(dataset, "WindowCenter") else ""
        yield table, "VOI LUT unusable", f"VOI {which} unusable: {said}" if table is None else f"{which}: {said}{too}"
    centers, widths = parsing.numbers(dataset, "WindowCenter"), parsing.numbers(dataset, "WindowWidth")
    function = _function(dataset, record)
    none_is_usable = True
    for number, (center, width) in enumerate(zip(centers, widths, strict=False), 1):
        if center is None or width is None or not Window(center, width, function).is_usable:
            continue
        none_is_usable = False
        said = f"window {number} of {len(centers)}: center {center:g} width {width:g} {function}"
        yield Window(center, width, function), "window unusable", said
    if (centers or widths) and none_is_usable:
        yield None, "window unusable", f"window center {_listed(centers)} width {_listed(widths)} unusable"


def _range(
    dataset: FileDataset, description: PixelDescription, modality: Rescale | LookupTable, shown: Distribution
) -> tuple[Range, str, tuple[str, ...]]:
    """Find what to show where neither LUT nor window can be used.

    Smallest and Largest Image Pixel Value where the pixels keep to them, else all that BitsStored or the Modality LUT
    allow; the occupied bits where nothing exceeds a quarter of that: 12 bits stored as 16 would be black.
    """
    bits, source = description.bits_stored, "full range"
    ends: tuple[float, float] = float(description.lowest), float(description.highest)
    if isinstance(modality, LookupTable):
        bits, ends, shown = modality.bits, (0.0, modality.highest), shown.mapped(modality)
    else:
        stated = [
            None if value is None else _as_stored(int(value), description)
            for value in (parsing.number(dataset, f"{which}ImagePixelValue") for which in ("Smallest", "Largest"))
        ]
        if (
            stated[0] is not None
            and stated[1] is not None
            and ends[0] <= stated[0] < stated[1] <= ends[1]
            and stated[1] - stated[0] >= min(_FEWEST_GRAYS, (ends[1] - ends[0]) / 4)
            and shown.share_within(stated[0], stated[1]) >= _NEARLY_ALL
        ):
            ends, source = (stated[0], stated[1]), "range of Smallest and Largest Image Pixel Value"
    flags: tuple[str, ...] = ()
    occupied = shown.occupied_bits(*ends)
    if occupied is not None:
        within = f"nothing exceeds a quarter of {ends[0]:g} to {ends[1]:g}"
        source = f"{within}: range of the {occupied[2]} occupied bits"
        ends, flags = (occupied[0], occupied[1]), (f"no usable window: {occupied[2]} of {bits} bits occupied",)
    if isinstance(modality, Rescale):
        ends = DisplaySteps(modality, None, False).modality_range(*ends)
    return Range(*ends), f"{source} {ends[0]:g} to {ends[1]:g}", flags


def _function(dataset: FileDataset, record: dict[str, str]) -> VoiFunction:
    stated = parsing.text(dataset, "VOILUTFunction").upper()
    for function in _FUNCTIONS:
        if function == stated:
            return function
    if stated:
        record["voi_function_fallback"] = "VOILUTFunction unknown, read as LINEAR"
    return "LINEAR"


def _polarity(
    dataset: FileDataset, description: PixelDescription, record: dict[str, str]
) -> tuple[bool, tuple[str, ...]]:
    """Whether to invert: by PhotometricInterpretation, which PresentationLUTShape should only repeat."""
    shape = parsing.text(dataset, "PresentationLUTShape").upper()
    by_shape = {"INVERSE": True, "IDENTITY": False}.get(shape)
    if description.samples == 3:
        record["polarity"] = "colour"
        return False, ()
    if description.photometric:
        inverted = description.photometric == "MONOCHROME1"
        record["polarity"] = description.photometric
        # MONOCHROME1 with IDENTITY and MONOCHROME2 with INVERSE contradict (PS3.3 C.8.11.3.1.2)
        return inverted, (DISAGREEMENT,) if by_shape is not None and by_shape != inverted else ()
    record["polarity"] = "assumed " + ("MONOCHROME1" if by_shape else "MONOCHROME2")
    return bool(by_shape), ("PhotometricInterpretation missing",)


def _padding(dataset: FileDataset, description: PixelDescription, record: dict[str, str]) -> tuple[int, int] | None:
    values = [parsing.number(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if values[0] is None:
        return None
    ends = sorted(_as_stored(int(value), description) for value in values if value is not None)
    record["padding"] = f"{ends[0]} to {ends[-1]}"
    return ends[0], ends[-1]


def _as_stored(value: int, description: PixelDescription) -> int:
    """Read a US or SS value with the sign of the pixels: its VR depends on PixelRepresentation, writers confuse it."""
    unsigned = value & 0xFFFF
    return unsigned - 0x10000 if description.signed and unsigned >= 0x8000 else unsigned


def _shown(value: float | None) -> str:
    return "empty" if value is None else f"{value:g}"


def _listed(values: tuple[float | None, ...]) -> str:
    return ",".join(_shown(value) for value in values[:4]) or "missing"
