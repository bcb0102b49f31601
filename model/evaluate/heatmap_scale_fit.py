"""The colour scale of heatmaps, fitted on images that the network was not trained on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.heatmap_scale import DEFAULT, HeatmapScale, LabelScale
from model.dataset.sources import Sample
from model.inference.predictor import Predictor
from model.preprocessing.tensor import prepare
from model.rendering.colour_scale import peak_density

QUIET = 90
"""Percentile of the peaks of negative images below which nothing is drawn."""
STRONGEST = 90
"""Percentile of the peaks of positive images at which the colour is full."""
FEWEST = 10
"""Images of either kind that a percentile needs."""
LEAST_SPAN = 1.5
"""Least ratio of full to floor: below it the colour would say little more than yes or no."""


class PeakDensities:
    """Collects the peak density of each label's map, image by image."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._peaks: list[list[float]] = []
        self._positive: list[NDArray[np.bool_]] = []

    def add(self, image: NDArray[np.float32], age_years: float | None = None) -> None:
        """Read one image, float32 [rows, columns] in [0, 1]."""
        bundle = self._predictor.bundle
        (result,) = self._predictor.predict([prepare(image, bundle.preprocessing)], [age_years])
        thresholds = np.array([result.calibration.thresholds[label] for label in bundle.label_names])
        self._peaks.append([peak_density(result.maps.contribution(index)) for index in range(len(thresholds))])
        self._positive.append(result.probabilities >= thresholds)

    def watching(self, images: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Add each image that passes by."""
        for image in images:
            self.add(image)
            yield image

    def scale(self, what: str, known: NDArray[np.bool_] | None = None) -> HeatmapScale:
        """Return the scale fitted on the images added; `known`, bool [n, labels], says which labels count of each."""
        if not self._peaks:
            return HeatmapScale()
        peaks = np.array(self._peaks, np.float32)
        everything = np.ones(peaks.shape, bool)
        labels = self._predictor.bundle.label_names
        return scale_of_peaks(peaks, np.array(self._positive), everything if known is None else known, labels, what)


def fit_heatmap_scale(
    predictor: Predictor,
    samples: Sequence[Sample],
    what: str,
    read_image: Callable[[Path], NDArray[np.float32]],
    on_image: Callable[[], None] = lambda: None,
) -> HeatmapScale:
    """Fit the scale on labelled images; a label is fitted on those that have a value for it.

    Parameters
    ----------
    predictor
        The bundle with its calibration, on an engine.
    samples
        Images of the validation part.
    what
        What the images are, such as "validation images".
    read_image, on_image
        As for `model.evaluate.predictions.predict`.
    """
    found = PeakDensities(predictor)
    for sample in samples:
        found.add(read_image(sample.path), sample.age)
        on_image()
    labels = predictor.bundle.label_names
    known = [[not np.isnan(sample.target(label)) for label in labels] for sample in samples]
    return found.scale(what, np.array(known, bool))


def scale_of_peaks(
    peaks: NDArray[np.float32], positive: NDArray[np.bool_], known: NDArray[np.bool_], labels: Sequence[str], what: str
) -> HeatmapScale:
    """Return the scale of each label, from the peak densities [n, labels] of n images.

    The floor is the `QUIET` percentile of the peaks of images that the model calls negative, full the `STRONGEST`
    percentile of those that it calls positive. With fewer than `FEWEST` of one kind, the ratio of full to floor is that
    of the default scale; with fewer of both, or without any contribution, a label is not fitted. Values are rounded to
    two digits.
    """
    scales: dict[str, LabelScale] = {}
    images: dict[str, tuple[int, int]] = {}
    for index, label in enumerate(labels):
        rows = known[:, index]
        negatives, positives = (peaks[rows & (positive[:, index] == side), index] for side in (False, True))
        ratio = DEFAULT.full / DEFAULT.floor
        floor = float(np.percentile(negatives, QUIET)) if len(negatives) >= FEWEST else 0.0
        full = float(np.percentile(positives, STRONGEST)) if len(positives) >= FEWEST else ratio * floor
        floor = floor if len(negatives) >= FEWEST else full / ratio
        full = max(full, LEAST_SPAN * floor)
        if not floor > 1e-6:
            continue
        scales[label] = LabelScale(float(f"{floor:.2g}"), float(f"{full:.2g}"))
        images[label] = (len(negatives), len(positives))
    return HeatmapScale(f"{len(peaks)} {what}" if scales else "", scales, images)
