"""Which compressed transfer syntaxes this machine decodes, found out by decoding an image of 8 x 8 pixels in each."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_io.pixels.decoding import decode
from dicom_io.pixels.image_pixel_module import PixelDescription, PixelsUnreadable
from worker.analysis.codec_samples import COLUMNS, ROWS, SAMPLES, CodecSample


@dataclass(frozen=True)
class Codecs:
    """What was found.

    Attributes
    ----------
    decoders
        Decoder -> names of the transfer syntaxes that it decodes.
    broken
        A line for each that is not decoded, or wrongly: its name, and why.
    """

    decoders: dict[str, list[str]]
    broken: tuple[str, ...]


def check_codecs() -> Codecs:
    """Decode every sample; takes some tens of milliseconds."""
    decoders: dict[str, list[str]] = {}
    broken = []
    for sample in SAMPLES:
        problem, decoder = _decoded(sample)
        if problem:
            broken.append(f"{sample.name}: {problem}")
        else:
            decoders.setdefault(decoder, []).append(sample.name)
    return Codecs(decoders, tuple(broken))


def _decoded(sample: CodecSample) -> tuple[str, str]:
    """What is wrong with the decoded sample (empty: nothing), and the decoder's name."""
    description = PixelDescription(
        rows=ROWS,
        columns=COLUMNS,
        samples=1,
        bits_allocated=8 if sample.bits == 8 else 16,
        bits_stored=sample.bits,
        high_bit=sample.bits - 1,
        signed=False,
        photometric="MONOCHROME2",
        planar=False,
        transfer_syntax_uid=sample.transfer_syntax_uid,
    )
    try:
        values, decoder, _ = decode(sample.pixel_data, description)
    except PixelsUnreadable as error:
        return str(error), ""
    worst = max(
        abs(int(values[row, column, 0]) - sample.expected(row, column))
        for row in range(ROWS)
        for column in range(COLUMNS)
    )
    return ("" if worst <= sample.tolerance else f"decoded wrongly, by {worst}"), decoder
