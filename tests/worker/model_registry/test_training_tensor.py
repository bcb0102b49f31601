"""Training and evaluation see the tensor that the worker sees: of deep pictures, DICOM, and JPEG 2000 read smaller."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from model.dataset.image_inspection import inspect_images
from model.dataset.samples import Sample
from model.inference.predictor import Predictor
from model.preprocessing.tensor import normalise, prepare
from model.train.batches import cached
from tests.peers.radiographs import sample
from worker.analysis.pipeline import read_dicom, read_picture
from worker.model_registry.training_images import reading_as_the_worker

ROUNDED = 0.5 / 65535
"""What a square of 16 bits is off at most; the tensor's range is 1 / std times that."""


@pytest.fixture
def deep_png(tmp_path: Path) -> Path:
    """A picture of 16 bits whose gray levels lie between those of 8."""
    ramp = np.linspace(20000, 24000, 300 * 260).reshape(300, 260)
    cv2.imwrite(str(tmp_path / "deep.png"), ramp.astype(np.uint16))
    return tmp_path / "deep.png"


@pytest.mark.parametrize("kind", ["deep PNG", "DICOM", "JPEG 2000"])
def test_training_and_evaluation_see_the_workers_tensor(
    reader: Predictor, deep_png: Path, kind: str, tmp_path: Path
) -> None:
    path = {"deep PNG": deep_png, "DICOM": sample("RG1_UNCR"), "JPEG 2000": sample("RG1_J2KR")}[kind]
    spec = reader.bundle.preprocessing
    if kind == "deep PNG":
        served = read_picture(path, reader).prepared.tensor
    else:
        read = read_dicom(path, reader, age_years=50, view="PA", flags=())
        assert (read.record.get("resolution") == "1/2 of 1955 x 1841") == (kind == "JPEG 2000")
        served = read.prepared.tensor
    read_image = reading_as_the_worker(spec)
    found = inspect_images([Sample(path, "x", "p", {"A": 1.0}, "0")], spec, read_image, tmp_path / "squares.npy")
    learnt = normalise(cached(found, found.samples, ("A",)).images(np.array([0])), spec)[0]
    assert np.array_equal(prepare(read_image(path), spec).tensor, served), "evaluation, calibration and thresholds"
    assert np.abs(learnt - served).max() <= ROUNDED / min(spec.std) + 1e-6
    assert learnt.dtype == served.dtype == np.float32
