"""`evaluate`: a leak is refused, damaged files are listed, the page stands alone, maps are judged by boxes."""

import re

import cv2
import numpy as np
import pytest

from model.assessment import assess, choose_samples
from model.dataset import DatasetInvalid, Source
from model.localisation import Box, point, read_boxes, summarise
from model.raster import read_raster
from model.report import report_html

IDENTITY = np.array([[1.0, 0, 0], [0, 1.0, 0]])


@pytest.fixture
def collection(tmp_path):
    """Twelve films of six patients with a table, one of them damaged."""
    chance = np.random.default_rng(3)
    rows = ["Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position,bbox"]
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(24):
        name = f"{number // 2:08d}_{number % 2:03d}.png"
        cv2.imwrite(str(folder / name), (chance.random((96, 96)) * 255).astype(np.uint8))
        found = "Edema" if number % 3 == 0 else "No Finding"
        box = '"Edema:20,30,40,20"' if number % 3 == 0 else ""
        rows.append(f"{name},{found},{number // 2},{40 + number},{'MF'[number % 2]},{('PA', 'AP')[number % 2]},{box}")
    (folder / "00000003_001.png").write_bytes(b"no image")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return Source(folder, "here")


@pytest.fixture
def found(reader, collection):
    samples, problems, warning = choose_samples(reader.bundle, [collection], None, "test", False)
    return assess(reader.bundle, reader.engine, samples, problems, [collection], read_raster, worst=3, warning=warning)


def test_every_image_is_counted_and_the_damaged_one_is_named(found):
    assert found.facts["images"] == 23
    assert found.facts["patients"] == 12
    assert [entry["file"] for entry in found.facts["left_out"]] == ["00000003_001.png"]
    cell = found.facts["all"]["Edema"]
    assert sum(cell["confusion"].values()) == 23
    assert cell["positives"] == 8
    assert {"view: AP", "view: PA", "sex: M", "sex: F"} <= set(found.facts["subgroups"])
    assert found.facts["pointing"]["Edema"]["boxes"] == 8


def test_the_misread_are_listed_the_furthest_from_the_threshold_first(found):
    def distance(entry):
        p, t = entry["probability"], entry["threshold"]
        return abs(np.log(p / (1 - p)) - np.log(t / (1 - t)))

    distances = [distance(entry) for entry in found.facts["misread"]]
    assert distances
    assert np.all(np.diff(distances) < 0.05)  # up to the rounding of what is printed
    assert all((entry["probability"] >= entry["threshold"]) != entry["truth"] for entry in found.facts["misread"])


def test_the_report_stands_alone_and_holds_the_figures(found):
    page = report_html(found, "1 March 2026")
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert not re.search(r"https?://", page)
    assert "<script" not in page
    cell = found.facts["all"]["Edema"]
    assert f"{cell['auroc']:.3f}<small>{cell['auroc_interval'][0]:.3f}" in page
    assert page.count("<svg") == 3
    assert page.count('<img src="data:image/jpeg') == len(found.worst) == min(3, len(found.facts["misread"]))


def test_images_that_the_network_was_trained_on_are_an_error_unless_allowed_and_then_said(reader, collection, tmp_path):
    import dataclasses
    import hashlib
    import shutil

    folder = shutil.copytree(reader.bundle.folder, tmp_path / "trained")
    first = sorted(collection.folder.glob("*.png"))[0]
    digest = hashlib.sha256(first.read_bytes()).hexdigest()[:16]
    (folder / "split.csv").write_text(f"part,domain,sha256,group\ntraining,here,{digest},0\n")
    bundle = dataclasses.replace(reader.bundle, folder=folder)
    with pytest.raises(DatasetInvalid, match=r"1 of the 24 images are of the network's own training .*--allow-seen"):
        choose_samples(bundle, [collection], None, "test", False)
    samples, problems, warning = choose_samples(bundle, [collection], None, "test", True)
    allowed = assess(bundle, reader.engine, samples, problems, [collection], read_raster, worst=0, warning=warning)
    assert "own training" in allowed.facts["warning"]
    assert "Seen in training." in report_html(allowed, "")


def test_data_that_know_none_of_the_labels_are_refused(reader, tmp_path):
    for name in ("normal", "whale"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), np.full((64, 64), len(name), np.uint8))
    with pytest.raises(DatasetInvalid, match="the data know whale; the model answers Pneumonia"):
        choose_samples(reader.bundle, [Source(tmp_path, "x")], None, "test", False)


def test_a_map_points_into_the_box_where_its_peak_lies_and_nowhere_when_it_is_empty():
    spot = np.zeros((7, 7), np.float32)
    spot[1, 5] = 1.0
    inside = point(spot, IDENTITY, 70, Box("X", 50, 10, 12, 12))
    assert inside.hit and not inside.centre_hit
    assert inside.area == pytest.approx(144 / 4900)
    assert inside.overlap > 3 * inside.chance_overlap
    assert not point(spot, IDENTITY, 70, Box("X", 0, 50, 20, 20)).hit
    assert not point(np.zeros((7, 7), np.float32), IDENTITY, 70, Box("X", 0, 0, 20, 20)).hit
    assert point(spot, IDENTITY, 70, Box("X", 500, 500, 20, 20)) is None
    assert summarise([inside])["X"]["pointing"] == 1.0


def test_boxes_are_read_in_the_images_own_pixels_through_the_affine():
    spot = np.zeros((7, 7), np.float32)
    spot[1, 5] = 1.0
    tenfold = np.array([[10.0, 0, 0], [0, 10.0, 0]])
    assert point(spot, tenfold, 70, Box("X", 500, 100, 120, 120)).hit


@pytest.mark.shared_data
def test_the_boxes_of_chest_x_ray_14_are_read(shared_data):
    boxes = read_boxes([shared_data / "nih"])
    assert len(boxes) == 11
    assert boxes["00011831_008.png"] == [Box("Pneumonia", 238, 341, 144, 233)]
    assert {box.label for found in boxes.values() for box in found} >= {"Infiltration", "Effusion"}
