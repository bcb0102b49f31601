"""The legend below a rendered radiograph: flags, label, probability, model, statement, colour scale."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.bundle.heatmap_scale import DEFAULT, NOT_FITTED, LabelScale
from model.rendering.colour_scale import OverlayStyle, drawn

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
    scale, origin
        The label's scale, and where it comes from.
    style
        How the overlay is drawn.
    """

    title: str
    lines: tuple[str, ...]
    flags: tuple[str, ...] = ()
    footer: str = "AI result - not for diagnosis"
    scale: LabelScale = DEFAULT
    origin: str = NOT_FITTED
    style: OverlayStyle = "both"


def draw_legend(legend: Legend, width: int) -> NDArray[np.uint8]:
    """Return the legend, uint8 RGB [height, width, 3]; lines are wrapped, and the height follows from them."""
    from PIL import Image, ImageDraw

    size = max(11, min(26, round(width / 42)))
    margin, gap = max(4, round(size * 0.7)), max(2, round(size * 0.35))
    rows: list[tuple[str, FreeTypeFont, tuple[int, int, int]]] = []
    for text, font, colour in _paragraphs(legend, size):
        rows += [(line, font, colour) for line in wrapped(text, font, width - 2 * margin)]
    heights = [sum(font.getmetrics()) + gap for _, font, _ in rows]
    ticks = _ticks(size, legend.scale)
    under = sum(ticks[0].font.getmetrics()) + 2 * gap
    strip = Image.new("RGB", (width, sum(heights) + 2 * margin + size + gap + under), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    draw.line([(0, 0), (width, 0)], fill=RULE, width=2)
    top = margin
    for (line, font, colour), height in zip(rows, heights, strict=True):
        draw.text((margin, top), line, font=font, fill=colour)
        top += height
    bar = _colour_bar(min(width - 2 * margin, 16 * size), size, legend.scale, legend.style)
    for tick in ticks:
        share = (tick.value - legend.scale.floor) / (legend.scale.full - legend.scale.floor)
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


def _ticks(size: int, scale: LabelScale) -> list[_Tick]:
    font = _font(size * 0.8)
    values = np.linspace(scale.floor, scale.full, 5)
    return [_Tick(float(v), f"{v:.3g}" if v < scale.full else f"{v:.3g} or more", font) for v in values]


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
        (_meaning(legend), plain, MUTED),
    ]


def _meaning(legend: Legend) -> str:
    values = "{:.3g}, {:.3g} and {:.3g}".format(*legend.scale.lines)
    drawn_as = {
        "filled": "colour: local contribution to the logit",
        "contours": f"lines: local contribution to the logit of {values}",
        "both": f"colour: local contribution to the logit; lines: at {values}",
    }
    return f"{drawn_as[legend.style]}; one scale for every image, {legend.origin}"


def _font(points: float) -> "FreeTypeFont":
    from PIL import ImageFont

    loaded = ImageFont.load_default(points)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; a build with it is needed to draw legends")
    return loaded


def _colour_bar(width: int, height: int, scale: LabelScale, style: OverlayStyle) -> NDArray[np.uint8]:
    """Return the scale, from floor to full, over mid-gray as it is drawn; uint8 RGB [height, width, 3]."""
    densities = np.tile(np.linspace(scale.floor, scale.full, width, dtype=np.float32), (height, 1))
    return drawn(densities, scale, style).on(np.full((height, width), 0.45, np.float32))
