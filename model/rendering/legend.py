"""The legend below a rendered radiograph: flags, label, probability, model, statement, colour scale."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.rendering.colour_scale import DENSITY_FLOOR, DENSITY_FULL, blend, opacity

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

BACKGROUND = (16, 16, 20)
TEXT = (232, 232, 232)
MUTED = (170, 170, 176)
WARNING = (255, 196, 61)
RULE = (70, 70, 78)


@dataclass(frozen=True)
class Legend:
    """Texts of the legend; they must not identify a patient.

    Attributes
    ----------
    title
        The label.
    lines
        Probability with threshold, peak density, model.
    flags
        Drawn first, in the colour of warnings.
    footer
        The bundle's statement, in the colour of warnings.
    """

    title: str
    lines: tuple[str, ...]
    flags: tuple[str, ...] = ()
    footer: str = "AI result - not for diagnosis"


def draw_legend(legend: Legend, width: int) -> NDArray[np.uint8]:
    """Return the legend, uint8 RGB [height, width, 3]; lines are wrapped, and the height follows from them."""
    from PIL import Image, ImageDraw

    size = max(11, min(26, round(width / 42)))
    margin, gap = max(4, round(size * 0.7)), max(2, round(size * 0.35))
    rows: list[tuple[str, FreeTypeFont, tuple[int, int, int]]] = []
    for text, font, colour in _paragraphs(legend, size):
        rows += [(line, font, colour) for line in wrapped(text, font, width - 2 * margin)]
    heights = [sum(font.getmetrics()) + gap for _, font, _ in rows]
    ticks = _ticks(size)
    under = sum(ticks[0].font.getmetrics()) + 2 * gap
    strip = Image.new("RGB", (width, sum(heights) + 2 * margin + size + gap + under), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    draw.line([(0, 0), (width, 0)], fill=RULE, width=2)
    top = margin
    for (line, font, colour), height in zip(rows, heights, strict=True):
        draw.text((margin, top), line, font=font, fill=colour)
        top += height
    bar = _colour_bar(min(width - 2 * margin, 16 * size), size)
    for tick in ticks:
        share = (tick.value - DENSITY_FLOOR) / (DENSITY_FULL - DENSITY_FLOOR)
        x = margin + round(share * (bar.shape[1] - 1))
        draw.line([(x, top + size), (x, top + size + gap)], fill=MUTED)
        half = tick.font.getlength(tick.text) / 2
        left = min(max(x - half, margin), width - margin - 2 * half)
        draw.text((left, top + size + gap), tick.text, font=tick.font, fill=MUTED)
    pixels = np.array(strip, np.uint8)
    pixels[top : top + size, margin : margin + bar.shape[1]] = bar
    return pixels


@dataclass(frozen=True)
class _Tick:
    value: float
    text: str
    font: "FreeTypeFont"


def _ticks(size: int) -> list[_Tick]:
    font = _font(size * 0.8)
    values = np.linspace(DENSITY_FLOOR, DENSITY_FULL, 5)
    return [_Tick(float(v), f"{v:g}" if v < DENSITY_FULL else f"{v:g} or more", font) for v in values]


def wrapped(text: str, font: "FreeTypeFont", width: int) -> list[str]:
    """Wrap a text into lines of at most `width` pixels; a word that is wider is broken."""
    lines, line = [], ""
    for word in text.split():
        while font.getlength(word) > width and len(word) > 1:
            fits = next((n for n in range(len(word), 0, -1) if font.getlength(word[:n]) <= width), 1)
            if line:
                lines.append(line)
                line = ""
            lines.append(word[:fits])
            word = word[fits:]
        joined = f"{line} {word}".strip()
        if line and font.getlength(joined) > width:
            lines.append(line)
            line = word
        else:
            line = joined
    return [*lines, line] if line else lines


def _paragraphs(legend: Legend, size: int) -> list[tuple[str, "FreeTypeFont", tuple[int, int, int]]]:
    plain = _font(size)
    return [
        *((f"! {flag}", plain, WARNING) for flag in legend.flags),
        (legend.title, _font(size * 1.35), TEXT),
        *((line, plain, TEXT) for line in legend.lines),
        (legend.footer, plain, WARNING),
        ("colour: local contribution to the logit; the same scale for every image", plain, MUTED),
    ]


def _font(points: float) -> "FreeTypeFont":
    from PIL import ImageFont

    loaded = ImageFont.load_default(points)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; a build with it is needed to draw legends")
    return loaded


def _colour_bar(width: int, height: int) -> NDArray[np.uint8]:
    """Return the colour scale, from `DENSITY_FLOOR` to `DENSITY_FULL`, over mid-gray; uint8 RGB [height, width, 3]."""
    densities = np.tile(np.linspace(DENSITY_FLOOR, DENSITY_FULL, width, dtype=np.float32), (height, 1))
    return blend(np.full((height, width), 0.45, np.float32), opacity(densities))
