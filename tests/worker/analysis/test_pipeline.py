"""What one pass over an image says agrees with the numbers it stores."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from model.inference.predictor import Predictor
from worker.analysis.pipeline import read_picture


def test_finding_is_positive_only_if_its_stored_probability_reaches_its_stored_threshold(
    reader: Predictor, tmp_path: Path
) -> None:
    path = tmp_path / "grey.png"
    Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).save(path)
    alone = Predictor(replace(reader.bundle, groups=()), reader.engine)
    for steps, expected in ((0, True), (1, False)):  # a threshold that single precision cannot tell from the value
        thresholds = {
            finding.label: math.nextafter(finding.probability, 2.0) if steps else finding.probability
            for finding in read_picture(path, alone).findings
        }
        exact = replace(reader.bundle.everyone, thresholds=thresholds)
        strict = Predictor(replace(reader.bundle, everyone=exact, groups=()), reader.engine)
        findings = read_picture(path, strict).findings
        assert {finding.positive for finding in findings} == {expected}
