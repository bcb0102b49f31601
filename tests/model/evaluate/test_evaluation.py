"""`evaluate`: a leak is refused, damaged files are listed, the page stands alone, maps are judged by boxes."""

import csv
import dataclasses
import hashlib
import re
import shutil

import cv2
import numpy as np
import pytest

from model.dataset.sources import DatasetInvalid, Source, read_sources
from model.dataset.split import write_split
from model.evaluate.evaluation import evaluate, select_evaluation_set
from model.evaluate.html_report import report_html
from model.evaluate.pointing_game import Box, point, point_all, read_boxes, summarise
from model.preprocessing.image_files import read_raster
from model.preprocessing.tensor import prepare

IDENTITY = np.array([[1.0, 0, 0], [0, 1.0, 0]])


@pytest.fixture
def collection(tmp_path):
    """Twelve images of six patients with a table, one of them damaged."""
    chance = np.random.default_rng(3)
    rows = ["Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position,bbox"]
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(24):
        name = f"{number // 2:08d}_{number % 2:03d}.png"
        cv2.imwrite(str(folder / name), (chance.random((96, 96)) * 255).astype(np.uint8))
        found = "Edema" if number % 3 == 0 else "No Finding"
        box = '"Edema:20,30,40,20"' if number % 3 == 0 else ""
        rows.append(f"{name},{found},{number // 2},{28 + number},{'MF'[number % 2]},{('PA', 'AP')[number % 2]},{box}")
    (folder / "00000003_001.png").write_bytes(b"no image")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return Source(folder, "here")


@pytest.fixture
def found(predictor, collection):
    chosen = select_evaluation_set(predictor.bundle, [collection], None, "test", False)
    return evaluate(predictor.bundle, predictor.engine, chosen, [collection], read_raster, worst=3)


def test_every_image_is_counted_and_the_damaged_one_is_named(found):
    assert found.report["images"] == 23
    assert found.report["patients"] == 12
    assert [entry["file"] for entry in found.report["left_out"]] == ["00000003_001.png"]
    cell = found.report["all"]["Edema"]
    assert sum(cell["confusion"].values()) == 23
    assert cell["positives"] == 8
    assert {"view: AP", "view: PA", "sex: M", "sex: F", "age: 18-39 years", "age: 40-64 years"} <= set(
        found.report["subgroups"]
    )
    assert found.report["pointing"]["Edema"]["boxes"] == 8


def test_the_misread_are_listed_the_furthest_from_the_threshold_first(found):
    def distance(entry):
        p, t = entry["probability"], entry["threshold"]
        return abs(np.log(p / (1 - p)) - np.log(t / (1 - t)))

    distances = [distance(entry) for entry in found.report["misread"]]
    assert distances
    assert np.all(np.diff(distances) < 0.05)  # up to the rounding of what is printed
    assert all((entry["probability"] >= entry["threshold"]) != entry["truth"] for entry in found.report["misread"])


def test_the_report_stands_alone_and_holds_the_figures(found):
    page = report_html(found, "1 March 2026")
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert not re.search(r"https?://", page)
    assert "<script" not in page
    cell = found.report["all"]["Edema"]
    assert f"{cell['auroc']:.3f}<small>{cell['auroc_interval'][0]:.3f}" in page
    assert page.count("<svg") == 3
    assert page.count('<img src="data:image/jpeg') == len(found.worst) == min(3, len(found.report["misread"]))


@pytest.fixture
def trained(predictor, collection, tmp_path):
    """Return a function that makes the demonstration bundle one that was trained on some of the collection."""
    folder = shutil.copytree(predictor.bundle.folder, tmp_path / "trained")
    for name in ("split.csv", "patients.key"):
        (folder / name).unlink(missing_ok=True)

    def make(chosen):
        write_split(
            {"training": [sample for sample in read_sources([collection]) if chosen(sample)]}, folder / "split.csv"
        )
        return dataclasses.replace(predictor.bundle, folder=folder)

    return make


def test_images_that_the_network_was_trained_on_are_an_error_unless_allowed_and_then_said(
    predictor, collection, trained
):
    bundle = trained(lambda sample: sample.path.name in ("00000002_000.png", "00000002_001.png"))
    with pytest.raises(DatasetInvalid, match=r"^2 of the 24 images are of the network's own training .*--allow-seen"):
        select_evaluation_set(bundle, [collection], None, "test", False)
    chosen = select_evaluation_set(bundle, [collection], None, "test", True)
    allowed = evaluate(bundle, predictor.engine, chosen, [collection], read_raster, worst=0)
    assert "own training" in allowed.report["warning"]
    assert "Seen in training." in report_html(allowed, "")


def test_other_images_of_patients_that_the_network_was_trained_on_are_an_error_too(collection, trained, tmp_path):
    bundle = trained(lambda sample: sample.path.name.endswith("_000.png") and sample.path.name < "00000004")
    others = tmp_path / "others"  # the same patients by another name of the collection, in files of other bytes
    shutil.copytree(collection.folder, others)
    for path in others.glob("*_000.png"):
        path.unlink()
    elsewhere = Source(others, "elsewhere")
    with pytest.raises(
        DatasetInvalid,
        match=r"^4 of the 12 images are other images of patients in the network's own training .*00000000_001\.png, of "
        r"a patient in its training part, by the patient's number.*--allow-seen",
    ):
        select_evaluation_set(bundle, [elsewhere], None, "test", False)
    assert "other images of patients" in select_evaluation_set(bundle, [elsewhere], None, "test", True).warning


def test_no_patient_can_be_read_from_a_split_without_its_key_and_what_was_not_compared_is_said(
    predictor, collection, trained
):
    bundle = trained(lambda sample: sample.path.name.endswith("_000.png"))
    split, key = bundle.folder / "split.csv", bundle.folder / "patients.key"
    assert key.stat().st_mode & 0o777 == 0o600
    column, digests = (row := split.read_text().splitlines())[0].split(",")[4], {line.split(",")[4] for line in row[1:]}
    assert len(digests) == 12
    guesses = {
        hashlib.sha256(f"{salt}{number}".encode()).hexdigest()[:16] for number in range(12) for salt in ("", column)
    }
    assert not digests & guesses
    with pytest.raises(DatasetInvalid, match="own training"):
        select_evaluation_set(bundle, [collection], None, "test", False)
    (collection.folder / "table.csv").write_text(
        "path,patient,Edema\n" + "".join(f"{n:08d}_001.png,{n},{n % 2}\n" for n in range(12))
    )
    secret = key.read_text()
    key.write_text("ab" * 32)
    with pytest.raises(DatasetInvalid, match=r"is not the key of split\.csv"):
        select_evaluation_set(bundle, [collection], None, "test", False)
    key.unlink()
    apart = select_evaluation_set(bundle, [collection], None, "test", False)
    assert (apart.warning, apart.compared) == (
        "", "files; patients cannot be, for patients.key stayed where the network was trained"
    )  # fmt: skip
    found = evaluate(bundle, predictor.engine, apart, [collection], read_raster, worst=0)
    assert "patients.key stayed where" in report_html(found, "")
    key.write_text(secret)
    with pytest.raises(DatasetInvalid, match=r"^12 of the 12 images are other images of patients"):
        select_evaluation_set(bundle, [collection], None, "test", False)


def test_data_that_know_none_of_the_labels_are_refused(predictor, tmp_path):
    for name in ("normal", "whale"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), np.full((64, 64), len(name), np.uint8))
    with pytest.raises(DatasetInvalid, match="the data have the labels whale; the model predicts Pneumonia"):
        select_evaluation_set(predictor.bundle, [Source(tmp_path, "x")], None, "test", False)


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
def test_a_map_made_by_hand_points_into_every_box_of_real_images_and_its_mirror_image_into_hardly_any(
    shared_data, demonstration
):
    """Boxes are in the image's own pixels, and images are not square: an axis swapped or turned would miss."""
    hits, mirrored, overlaps = [], [], []
    for name, boxes in read_boxes([shared_data / "nih"]).items():
        image = read_raster(shared_data / "nih" / name)
        trimmed = image[: image.shape[0] * 4 // 5]  # 1024 x 819
        affine = prepare(trimmed, demonstration.preprocessing).affine
        for box in boxes:
            centre = np.array([(box.left + box.width / 2) / 1024 * 28, (box.top + box.height / 2) / 819 * 28])
            if centre[1] >= 28 or box.top + box.height > 819:
                continue
            columns, rows = np.meshgrid(np.arange(28) + 0.5, np.arange(28) + 0.5)
            spread = np.array([box.width / 1024, box.height / 819]) * 28 * 0.6006
            spot = np.exp(-((columns - centre[0]) ** 2 / spread[0] ** 2 + (rows - centre[1]) ** 2 / spread[1] ** 2))
            found = point(spot.astype(np.float32), affine, 224, box)
            hits.append(found.hit)
            overlaps.append(found.overlap)
            mirrored.append(point(spot[:, ::-1].astype(np.float32), affine, 224, box).hit)
    assert len(hits) >= 10
    assert all(hits)
    # above half its peak each spot is the ellipse that the box holds
    assert overlaps == pytest.approx([np.pi / 4] * len(overlaps), abs=0.1)
    assert np.mean(mirrored) < 0.2


@pytest.mark.shared_data
def test_the_cards_pointing_figures_are_what_the_network_shows_on_the_boxes(shared_data, predictor):
    committed = predictor.bundle.metrics["pointing"]
    part_of = {image["file"]: image["part"] for image in committed["films"]}
    samples = {sample.path.name: sample for sample in read_sources([Source(shared_data / "nih", "adults")])}
    parts = {
        part: [samples[name] for name in part_of if part_of[name] == part]
        for part in ("training", "validation", "test")
    }
    rows = (predictor.bundle.folder / "split.csv").read_text().splitlines()
    own = {row["sha256"]: row["part"] for row in csv.DictReader(rows)}
    assert {name: own[samples[name].sha256[:16]] for name in part_of} == part_of
    again = point_all(predictor, parts, read_boxes([shared_data / "nih"]), read_raster)
    assert again["all"]["boxes"] == 12
    for measured, told in (
        (again["all"], committed["all"]),
        *((again["labels"][k], v) for k, v in committed["labels"].items()),
    ):
        for key, value in told.items():
            assert measured[key] == pytest.approx(value, abs=0.01), key
    card = predictor.bundle.card_path.read_text()
    assert f"| all | 12 | {committed['all']['pointing']:.2f} " in card
    assert "seen in training and tell nothing of new ones" in card


@pytest.mark.shared_data
def test_the_boxes_of_chest_x_ray_14_are_read(shared_data):
    boxes = read_boxes([shared_data / "nih"])
    assert len(boxes) == 11
    assert boxes["00011831_008.png"] == [Box("Pneumonia", 238, 341, 144, 233)]
    assert {box.label for found in boxes.values() for box in found} >= {"Infiltration", "Effusion"}
