"""JPEG 2000 read at a lower resolution gives the probabilities and places of the whole image, on real radiographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid
from sqlalchemy import select

from db.tables.analyses import Analysis, LogitMaps
from model.inference.predictor import Predictor
from tests.dicom_io.images import image_file
from tests.peers.radiographs import sample
from tests.worker.analysis.test_runner import receive
from worker.analysis.pipeline import read_dicom
from worker.analysis.runner import Analyst
from worker.installation import Site
from worker.model_registry import bundles
from worker.objects.heatmap import draw
from worker.objects.request import ImageReading

MOVES = 0.01


def read_both(path: Path, reader: Predictor) -> tuple[ImageReading, ImageReading]:
    """At a lower resolution where that is enough, and whole."""
    lower, whole = (
        read_dicom(path, reader, age_years=50, view="PA", flags=(), reduced_resolution=reduced)
        for reduced in (True, False)
    )
    return lower, whole


def assert_same(lower: ImageReading, whole: ImageReading) -> None:
    assert whole.record["resolution"] == "whole"
    assert np.abs(lower.reading.probabilities - whole.reading.probabilities).max() < MOVES
    assert lower.affine == pytest.approx(whole.affine, abs=1e-9)
    assert [finding.positive for finding in lower.findings] == [finding.positive for finding in whole.findings]


def jpeg2000_file(folder: Path, pixels: np.ndarray, name: str) -> Path:
    frame = bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0))
    rows, columns = pixels.shape
    path = folder / f"{name}.dcm"
    path.write_bytes(image_file(frame, uid.JPEG2000Lossless, Rows=rows, Columns=columns, BitsAllocated=8, BitsStored=8))
    return path


def test_the_real_image_reads_the_same_at_half_its_size_and_its_heatmap_lies_the_same(reader: Predictor) -> None:
    lower, whole = read_both(sample("RG1_J2KR"), reader)
    assert lower.record["resolution"] == "1/2 of 1955 x 1841"
    assert_same(lower, whole)
    pictures = [draw(read, 0, reader.bundle)[0].astype(int) for read in (lower, whole)]
    assert pictures[0].shape == pictures[1].shape
    assert np.abs(pictures[0] - pictures[1]).mean() < 2  # of 255
    # the same heat in the same place: what is coloured in one is coloured in the other
    heat = [np.ptp(picture[:900], axis=2) for picture in pictures]
    assert np.abs(heat[0] - heat[1]).mean() < 1


@pytest.mark.shared_data
def test_the_lossy_real_image_reads_the_same_at_half_its_size(reader: Predictor, shared_data: Path) -> None:
    lower, whole = read_both(shared_data / "dicom" / "wg04_RG1_chest_J2KI.dcm", reader)
    assert lower.record["resolution"] == "1/2 of 1955 x 1841"
    assert_same(lower, whole)


@pytest.mark.shared_data
@pytest.mark.parametrize("number", [0, 40, 80, 120])
def test_real_radiographs_read_the_same(reader: Predictor, shared_data: Path, tmp_path: Path, number: int) -> None:
    image = sorted((shared_data / "nih").glob("*.png"))[number]
    pixels = np.asarray(Image.open(image).convert("L"))
    native, _whole = read_both(jpeg2000_file(tmp_path, pixels, "native"), reader)
    assert native.record["resolution"] == "whole"  # half of 1024 would not be enough
    enlarged = cv2.resize(pixels, (2 * pixels.shape[1] - 1, 2 * pixels.shape[0] - 1), interpolation=cv2.INTER_CUBIC)
    lower, whole = read_both(jpeg2000_file(tmp_path, enlarged, "enlarged"), reader)
    assert lower.record["resolution"] == f"1/2 of {enlarged.shape[0]} x {enlarged.shape[1]}"
    assert_same(lower, whole)


@pytest.mark.parametrize(("reduced", "resolution"), [(False, "whole"), (True, "1/2 of 1955 x 1841")])
def test_the_setting_turns_it_off_and_the_result_says_which(
    site: Site, bundle_folder: Path, reduced: bool, resolution: str
) -> None:
    reading = site.settings.reading.model_copy(update={"reduced_resolution": reduced})
    site = Site(site.settings.model_copy(update={"reading": reading}))
    bundles.activate(site, str(bundle_folder))
    (analysis_id,) = receive(site, sample("RG1_J2KR").read_bytes())
    assert Analyst(site.settings, site.database, site.store).analyse(analysis_id) == "done"
    with site.database.read() as session:
        assert session.get_one(Analysis, analysis_id).record["resolution"] == resolution
        # where the maps lie is said of the whole image, which is what the pages draw them on
        assert session.scalars(select(LogitMaps)).one().affine[0] == pytest.approx(1841 / 224)
