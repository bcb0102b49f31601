"""Fit a bundle's heatmap scale: ``python -m model.demonstration.heatmap_scale BUNDLE DOMAIN=FOLDER...``.

Everything else of the bundle stays, its model digest too. The images are those of its split file's validation part; a
domain written ``children:1-5=FOLDER`` is taken as `model.demonstration.recalibration` takes it. Computed in f32. The
section of the scale in the card is written anew.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from model.bundle.bundle import CARD_FILE, Bundle, load_bundle
from model.dataset.sources import read_sources
from model.dataset.split import read_split
from model.demonstration.recalibration import parse_domain
from model.engine.opening import open_engine
from model.publish.heatmap_scaling import with_fitted_scale
from model.publish.model_card import heatmap_section

_SECTION = re.compile(r"## Heatmap scale\n.*?(?=\n## )", re.DOTALL)
_NEXT = re.compile(r"^## (?:Out of distribution|Unlike the training images)$", re.MULTILINE)


def fit(bundle: Bundle, texts: Sequence[str], threads: int = 1) -> Bundle:
    """Fit and write the scale on the validation images in folders, each ``DOMAIN[:AGES]=FOLDER``."""
    samples = read_sources([parse_domain(text)[0] for text in texts])
    validation = read_split(bundle.folder / "split.csv", samples)["validation"]
    made = with_fitted_scale(bundle, open_engine(bundle, "f32", threads=threads), validation)
    path = made.folder / CARD_FILE
    card = _SECTION.sub("", path.read_text(encoding="utf-8"))
    path.write_text(_NEXT.sub(lambda found: f"{heatmap_section(made)}\n\n{found[0]}", card, count=1), encoding="utf-8")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the scale from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m model.demonstration.heatmap_scale", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", nargs="+", metavar="DOMAIN[:AGES]=FOLDER")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    made = fit(load_bundle(given.bundle), given.data, given.threads)
    for label, scale in made.heatmap.labels.items():
        print(f"{label}: {scale.floor:g} to {scale.full:g}, {made.heatmap.origin(label)}")


if __name__ == "__main__":
    main()
