"""Calibrate a bundle again: ``python -m model.demonstration.recalibration BUNDLE OUT DOMAIN=FOLDER...``.

The network stays unchanged. The bundle's split file gives its validation and test part, and is written anew. A domain
written ``children:1-5=FOLDER`` stands for these ages, in completed years, and gets a calibration of its own. Everything
is computed in f32, so that the result does not depend on the processor. The metrics get a comparison of other forms of
calibration on the validation part, and the localisation of the maps on images with boxes.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.bundle import DESCRIPTION_FILE, METRICS_FILE, Bundle, load_bundle
from model.bundle.calibration import AgeRanges
from model.dataset.sources import Sample, Source, read_sources
from model.dataset.split import read_split, write_split
from model.demonstration.calibration_comparison import compare_forms
from model.demonstration.card_sections import demonstration_sections
from model.engine.opening import open_engine
from model.evaluate.calibration_fit import fit_calibration
from model.evaluate.metrics_with_intervals import RESAMPLES, metrics_by_domain
from model.evaluate.pointing_game import Box, point_all, read_boxes
from model.evaluate.predictions import calibrate, predict
from model.inference.predictor import Predictor
from model.preprocessing.image_files import read_raster
from model.publish.bundle_writer import changed_copy, rewrite_description
from model.publish.heatmap_scaling import with_fitted_scale
from model.publish.model_card import write_card


def recalibrate(
    bundle: Bundle,
    output: Path,
    parts: Mapping[str, Sequence[Sample]],
    domain_ages: Mapping[str, AgeRanges],
    boxes: Mapping[str, Sequence[Box]] | None = None,
    read_image: Callable[[Path], NDArray[np.float32]] = read_raster,
    on_image: Callable[[], None] = lambda: None,
    threads: int = 1,
) -> Bundle:
    """Write a copy of a bundle with newly fitted calibrations and thresholds; the model digest stays the same.

    Parameters
    ----------
    bundle
        The bundle.
    output
        A folder that does not exist.
    parts
        Images of ``validation``, on which the calibration is fitted, and of ``test``, on which it is evaluated.
    domain_ages
        As for `fit_calibration`.
    boxes
        Bounding boxes of radiologists on images of any part, by file name.
    """
    engine = open_engine(bundle, "f32", threads=threads)
    validation, test = (predict(engine, bundle, parts[part], read_image, on_image) for part in ("validation", "test"))
    labels = bundle.label_names
    fitted = fit_calibration(validation, labels, domain_ages)
    calibrated = calibrate(test, labels, fitted.everyone, fitted.groups, bundle.distribution)
    test_metrics = {
        "engine": engine.name,
        "precision": engine.precision,
        "resamples": RESAMPLES,
        "images": len(test.logits),
        "domains": metrics_by_domain(test, calibrated, labels),
    }
    comparison = compare_forms(validation, labels)
    metrics = {**bundle.metrics, "test": test_metrics, **({"calibration_forms": comparison} if comparison else {})}
    pointing = point_all(Predictor(bundle, engine), parts, boxes or {}, read_image)
    metrics |= {"pointing": pointing} if pointing else {}
    if output.exists():
        raise FileExistsError(17, "it exists already; choose another folder", str(output))
    with changed_copy(bundle.folder, output) as copy:
        (copy / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        write_split(parts, copy / "split.csv")
        again = rewrite_description(copy, fitted.everyone, fitted.groups, (METRICS_FILE, "split.csv"))
        again = with_fitted_scale(again, engine, parts["validation"], read_image, on_image)
        curves = copy / "curves.png"
        write_card(again, curves.name if curves.exists() else None, demonstration_sections(again))
    return load_bundle(output)


def parse_domain(text: str) -> tuple[Source, AgeRanges]:
    """Read ``domain=folder`` or ``domain:low-high=folder``, several ranges divided by commas."""
    name, separator, folder = text.partition("=")
    domain, _, ranges = name.partition(":") if separator else ("", "", "")
    limits = [re.fullmatch(r"(\d+)-(\d+)", part) for part in ranges.split(",") if part]
    if None in limits:
        raise ValueError(f"ages {ranges!r} of {text!r} are not understood; write children:1-5=FOLDER")
    source = Source.parse(f"{domain}={folder}" if separator else text)
    return source, tuple((float(m[1]), float(m[2])) for m in limits if m)


def main(arguments: Sequence[str] | None = None) -> None:
    """Calibrate a bundle anew from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m model.demonstration.recalibration", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", nargs="+", metavar="DOMAIN[:AGES]=FOLDER")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    bundle = load_bundle(given.bundle)
    parsed = [parse_domain(text) for text in given.data]
    samples = read_sources([source for source, _ in parsed])
    parts = read_split(bundle.folder / "split.csv", samples)
    ages: dict[str, AgeRanges] = {}
    for source, ranges in parsed:
        if ranges:
            ages[source.domain] = tuple(dict.fromkeys((*ages.get(source.domain, ()), *ranges)))
    boxes = read_boxes([source.folder for source, _ in parsed])
    again = recalibrate(bundle, given.out, parts, ages, boxes, threads=given.threads)
    print(f"{again.folder / DESCRIPTION_FILE}: {again.name} {again.digest[:12]}")


if __name__ == "__main__":
    main()
