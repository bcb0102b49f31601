"""A bundle gets the colour scale of its heatmaps: fitted, written into the manifest, and so shown in the card."""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import DESCRIPTION_FILE, Bundle, load_bundle
from model.bundle.heatmap_scale import HeatmapScale
from model.dataset.sources import Sample, limited
from model.engine.protocol import Engine
from model.evaluate.heatmap_scale_fit import fit_heatmap_scale
from model.inference.predictor import Predictor
from model.preprocessing.image_files import read_raster
from model.publish.bundle_writer import write_table

IMAGES_OF_A_DOMAIN = 600
"""That the scale is fitted on; more move a percentile by less than its rounding."""


def with_fitted_scale(
    bundle: Bundle,
    engine: Engine,
    samples: Sequence[Sample],
    read_image: Callable[[Path], NDArray[np.float32]] = read_raster,
    on_image: Callable[[], None] = lambda: None,
) -> Bundle:
    """Fit the heatmap scale of a bundle on its validation part and write it; return the bundle loaded again.

    Parameters
    ----------
    bundle
        With its final calibration: maps are divided by its temperatures.
    engine
        Of the same network.
    samples
        The validation part.
    read_image, on_image
        As for `fit_heatmap_scale`.
    """
    by_domain: dict[str, list[Sample]] = {}
    for sample in samples:
        by_domain.setdefault(sample.domain, []).append(sample)
    chosen = [sample for members in by_domain.values() for sample in limited(members, IMAGES_OF_A_DOMAIN)]
    return with_scale(
        bundle, fit_heatmap_scale(Predictor(bundle, engine), chosen, "validation images", read_image, on_image)
    )


def with_scale(bundle: Bundle, scale: HeatmapScale) -> Bundle:
    """Write a heatmap scale into a bundle's manifest; return the bundle loaded again. The model digest stays."""
    table = tomllib.loads((bundle.folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    table.pop("heatmap", None)
    if scale.labels:
        table["heatmap"] = scale.as_table()
    write_table(bundle.folder, table)
    return load_bundle(bundle.folder, unfinished=True)
