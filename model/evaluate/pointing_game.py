"""Localisation of Grad-CAM maps against bounding boxes of radiologists: pointing game and IoU, with chance baselines.

Boxes are those of ChestX-ray14's format (Wang et al. 2017) in a column ``bbox``: ``Label:x,y,width,height;...``.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.dataset.samples import Sample
from model.evaluate.metrics import wilson_interval
from model.inference.predictor import Predictor
from model.preprocessing.tensor import prepare

SAME_LABEL = {"Infiltrate": "Infiltration"}
SHARE_OF_PEAK = 0.5
"""The region of a map are the cells with at least this share of its maximum."""


@dataclass(frozen=True)
class Box:
    """A bounding box that a radiologist drew for a label, in image pixels."""

    label: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Pointing:
    """One map compared with one box, and the baselines of an uninformative map.

    Attributes
    ----------
    hit, centre_hit
        Whether the map's maximum, and the centre of the image, lie in the box.
    area
        The box's share of the image: the probability that a random point hits.
    overlap, chance_overlap
        Intersection over union (IoU) of the map's region and the box; and its mean over cyclic shifts of the region.
    """

    label: str
    hit: bool
    centre_hit: bool
    area: float
    overlap: float
    chance_overlap: float


def read_boxes(folders: Sequence[Path]) -> dict[str, list[Box]]:
    """Return the boxes in the CSV tables of the folders (or in CSV files), by file name of the image."""
    boxes: dict[str, list[Box]] = {}
    for folder in folders:
        for table in sorted(folder.glob("*.csv")) if folder.is_dir() else [folder]:
            with table.open(newline="", encoding="utf-8-sig") as file:
                for row in csv.DictReader(file):
                    found = re.findall(r"([^:;]+):([\d.]+),([\d.]+),([\d.]+),([\d.]+)", row.get("bbox") or "")
                    if found and row.get("Image Index"):
                        boxes[row["Image Index"]] = [
                            Box(SAME_LABEL.get(name, name), *map(float, numbers)) for name, *numbers in found
                        ]
    return boxes


def point(
    contribution: NDArray[np.float32], affine: NDArray[np.float64], tensor_size: int, box: Box
) -> Pointing | None:
    """Compare one map with one box, on the tensor's grid; None where the box lies outside the tensor.

    Parameters
    ----------
    contribution
        float32 [h, w], before ReLU.
    affine
        `PreparedImage.affine`: tensor pixel -> image pixel.
    tensor_size
        Rows and columns of the tensor.
    box
        In image pixels.
    """
    import cv2

    inverse = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))
    corners = inverse @ np.array([[box.left, box.left + box.width], [box.top, box.top + box.height], [1, 1]])
    (left, right), (top, bottom) = np.clip(np.rint(corners[:2]), 0, tensor_size).astype(int)
    inside = np.zeros((tensor_size, tensor_size), bool)
    inside[top:bottom, left:right] = True
    if not inside.any():
        return None
    positive = np.maximum(contribution, 0)
    grown = cv2.resize(positive, (tensor_size, tensor_size), interpolation=cv2.INTER_LINEAR)
    # a map without positive cells is not a hit, wherever its argmax lies
    peak = np.unravel_index(int(grown.argmax()), grown.shape)
    region = (grown >= SHARE_OF_PEAK * grown.max()) & (grown > 0)
    shifts = range(0, tensor_size, max(1, tensor_size // 16))
    chance = [_overlap(np.roll(region, (down, across), (0, 1)), inside) for down in shifts for across in shifts]
    middle = tensor_size // 2
    return Pointing(
        box.label,
        bool(grown.max() > 0 and inside[peak]),
        bool(inside[middle, middle]),
        float(inside.mean()),
        _overlap(region, inside),
        float(np.mean(chance)),
    )


def point_all(
    predictor: Predictor,
    parts: Mapping[str, Sequence[Sample]],
    boxes: Mapping[str, Sequence[Box]],
    read_image: Callable[[Path], NDArray[np.float32]],
) -> dict[str, Any]:
    """Compare the maps of every image that has a box with its boxes.

    Parameters
    ----------
    predictor
        The model.
    parts
        Images of each part of the split, by its name.
    boxes
        Boxes by file name, as `read_boxes` returns them.
    read_image
        Returns float32 [rows, columns] in [0, 1] of a file.

    Returns
    -------
    ``all`` and ``labels``, as `summarise` returns them, and ``films``: file, part, label, whether the image has that
    label, hit and IoU of each box. Empty where no image has a box.
    """
    spec, names = predictor.bundle.preprocessing, predictor.bundle.label_names
    pointings: list[Pointing] = []
    images: list[dict[str, Any]] = []
    for part, samples in parts.items():
        for sample in samples:
            wanted = [box for box in boxes.get(sample.path.name, ()) if box.label in names]
            if not wanted:
                continue
            prepared = prepare(read_image(sample.path), spec)
            (result,) = predictor.predict([prepared], [sample.age])
            for box in wanted:
                contribution = result.maps.contribution(names.index(box.label))
                pointing = point(contribution, prepared.affine, spec.size, box)
                if pointing is None:
                    continue
                pointings.append(pointing)
                images.append(
                    {"file": sample.path.name, "part": part, "label": box.label,
                     "labelled": sample.target(box.label) == 1, "hit": pointing.hit, "iou": round(pointing.overlap, 4)}
                )  # fmt: skip
    if not pointings:
        return {}
    summary = summarise(pointings)
    return {"all": summary["all"], "labels": {k: v for k, v in summary.items() if k != "all"}, "films": images}


def summarise(pointings: Sequence[Pointing]) -> Mapping[str, Any]:
    """Return hit rate (with 95 % Wilson interval) and mean IoU of all boxes and of each label, with the baselines."""
    labels = sorted({each.label for each in pointings})
    by_label = {label: [each for each in pointings if each.label == label] for label in labels}
    groups = {"all": list(pointings), **by_label}
    return {
        name: {
            "boxes": len(group),
            "pointing": round(float(np.mean([each.hit for each in group])), 4),
            "pointing_interval": [
                round(bound, 4) for bound in wilson_interval(float(np.mean([each.hit for each in group])), len(group))
            ],
            "pointing_by_chance": round(float(np.mean([each.area for each in group])), 4),
            "pointing_of_the_centre": round(float(np.mean([each.centre_hit for each in group])), 4),
            "iou": round(float(np.mean([each.overlap for each in group])), 4),
            "iou_by_chance": round(float(np.mean([each.chance_overlap for each in group])), 4),
        }
        for name, group in groups.items()
        if group
    }


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0
