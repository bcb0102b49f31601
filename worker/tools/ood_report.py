"""Out-of-distribution scores of files: ``python -m worker.tools.ood_report BUNDLE 'NAME=FILE,FILE' ...``.

Scores how far files are from the training distribution, and writes the scores into the bundle's metrics and card; the
network and its digest stay the same. Files are DICOM, PNG or JPEG; colour is averaged to gray, so that the score is
measured without the gate, which would reject such files.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.bundle.bundle import Bundle


def measure_out_of_distribution(bundle: Bundle, files: dict[str, list[Path]], threads: int = 1) -> Bundle:
    """Add the scores of files, grouped by name, to a bundle's metrics and card; return the bundle.

    Raises
    ------
    model.preprocessing.image_files.UnreadableImage
        A file cannot be read.
    """
    from model.bundle.bundle import METRICS_FILE, load_bundle
    from model.demonstration.card_sections import demonstration_sections
    from model.engine.opening import open_engine
    from model.evaluate.ood_probes import image_scores, summary
    from model.publish.bundle_writer import changed_copy, rewrite_description
    from model.publish.model_card import write_card

    engine = open_engine(bundle, threads=threads)
    found = {
        name: summary(image_scores(engine, bundle.preprocessing, bundle.distribution, [_read(path) for path in paths]))
        for name, paths in files.items()
    }
    metrics = {**bundle.metrics, "distribution": {**bundle.metrics.get("distribution", {}), **found}}
    with changed_copy(bundle.folder, bundle.folder) as copy:
        (copy / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        again = rewrite_description(copy, bundle.everyone, bundle.groups)
        curves = copy / "curves.png"
        write_card(again, curves.name if curves.exists() else None, demonstration_sections(again))
    return load_bundle(bundle.folder)


def _read(path: Path) -> NDArray[np.float32]:
    import cv2

    from model.preprocessing.image_files import UnreadableImage
    from worker.model_registry.training_images import read_image

    try:
        return read_image(path)
    except UnreadableImage as error:
        if "is in colour" not in str(error):
            raise
    pixels = cv2.imread(str(path))
    assert pixels is not None  # read_image decoded it and rejected it for its colour alone
    gray: NDArray[np.float32] = (pixels.mean(axis=2) / 255).astype("float32")
    return gray


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure from the command line."""
    from model.bundle.bundle import load_bundle

    parser = argparse.ArgumentParser(
        prog="python -m worker.tools.ood_report", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("files", nargs="+", metavar="NAME=FILE,FILE...")
    given = parser.parse_args(arguments)
    files: dict[str, list[Path]] = {}
    for text in given.files:
        name, separator, paths = text.partition("=")
        if not separator or not name:
            parser.error(f"{text!r} is not understood; write 'limbs=hip.dcm,hand.dcm'")
        files[name] = [Path(path) for path in paths.split(",")]
    bundle = measure_out_of_distribution(load_bundle(given.bundle), files)
    for name in files:
        print(f"{name}: {bundle.metrics['distribution'][name]}")


if __name__ == "__main__":
    main()
