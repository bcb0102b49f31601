"""`train` on DICOM files, in class folders and named by a table: what the worker's reader reads is what is learnt."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.bundle.bundle import Bundle, load_bundle
from model.dataset.sources import Source, read_sources
from tests.peers.radiographs import Coding, chest
from worker.cli.app import app
from worker.model_registry.training_images import read_facts

pytestmark = [pytest.mark.train, pytest.mark.timeout(600)]
PATIENTS = 9
"""Of each collection, with two images each."""


@dataclass(frozen=True)
class Trained:
    folders: Path
    tabled: Path
    bundle: Bundle
    said: str


def image(folder: Path, number: int, **attributes: object) -> Path:
    """An image of the patient `number // 2`: no two show the same, and their names tell nobody."""
    codings: tuple[Coding, ...] = ("uncompressed", "rle", "jpeg2000")
    patient = number // 2
    return chest(
        folder, 20 * number, coding=codings[number % 3], polarity=("MONOCHROME1", "MONOCHROME2")[patient % 2],
        **{"PatientID": f"{4700 + patient}", "PatientAge": f"0{30 + patient}Y", "PatientBirthDate": "",
           "PatientSex": "FM"[patient % 2],
           "ViewPosition": "PA", **attributes},
    ).path  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("dicom")
    for number in range(2 * PATIENTS):
        image(folder / "folders" / ("NORMAL", "PNEUMONIA")[number % 2], number)
    first = sorted((folder / "folders" / "PNEUMONIA").iterdir())[0]
    shutil.copy(first, folder / "folders" / "PNEUMONIA" / "again.dcm")
    (folder / "folders" / "NORMAL" / "no.dcm").write_bytes(b"this is no DICOM file" * 50)
    cut = image(folder / "folders" / "NORMAL", 2 * PATIENTS)
    cut.write_bytes(cut.read_bytes()[:300_000])
    image(folder / "folders" / "NORMAL", 2 * PATIENTS + 1, ViewPosition="LL")

    rows = ["path,Pneumonia,patient,age"]
    for number in range(2 * PATIENTS + 4, 4 * PATIENTS + 4):
        path = image(folder / "tabled" / "images", number)
        told = "another,61" if number == 2 * PATIENTS + 4 else ","  # of one image the table itself says whose it is
        rows.append(f"images/{path.name},{number % 2},{told}")
    rows.append("images/gone.dcm,1,,")
    (folder / "tabled" / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    sources = [f"one={folder / 'folders'}", f"two={folder / 'tabled'}"]
    options = ["--architecture", "tiny", "--label", "Pneumonia", "--epochs", "1", "--batch", "8", "--view", "PA"]
    done = CliRunner().invoke(app, ["train", *sources, "--out", str(folder / "out"), *options, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["name"] == "out"
    return Trained(folder / "folders", folder / "tabled", load_bundle(folder / "out"), done.stderr)


def test_damaged_missing_and_duplicate_files_are_listed_and_cost_nothing_else(trained: Trained) -> None:
    with (trained.bundle.folder / "problems.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {(row["problem"], Path(row["file"]).name) for row in rows}
    cut = f"chest-{40 * PATIENTS:03}-uncompressed-MONOCHROME2.dcm"
    assert found == {
        ("damaged", "no.dcm"), ("damaged", cut), ("missing", "gone.dcm"),
        ("duplicate", "chest-020-rle-MONOCHROME1.dcm"),
    }  # fmt: skip
    reasons = {row["problem"]: row["reason"] for row in rows if Path(row["file"]).name != cut}
    assert reasons["damaged"].endswith("no.dcm is neither DICOM, PNG nor JPEG (1050 bytes)")
    assert "which is 1966080 bytes" in next(row["reason"] for row in rows if Path(row["file"]).name == cut)
    assert "2 left out because they cannot be read" in trained.said


def test_each_image_that_can_be_read_is_in_one_part_with_all_of_its_patient(trained: Trained) -> None:
    entries = trained.bundle.description["provenance"]["data"]
    images = {name: sum(e["images"] for e in entries if e["domain"] == name) for name in ("one", "two")}
    patients = {name: sum(e["patients"] for e in entries if e["domain"] == name) for name in ("one", "two")}
    assert images == {"one": 2 * PATIENTS + 1, "two": 2 * PATIENTS}
    assert patients == {"one": PATIENTS, "two": PATIENTS + 1}, "the headers say whose each image is, or the table"
    with (trained.bundle.folder / "split.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (column,) = [name for name in rows[0] if name.startswith("patient_")]
    parts: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        assert row[column], "known by its header, not by its name"
        parts.setdefault((row["domain"], row[column]), set()).add(row["part"])
    assert len(parts) == 2 * PATIENTS + 1
    assert {len(of) for of in parts.values()} == {1}
    assert "4700" not in (trained.bundle.folder / "split.csv").read_text(encoding="utf-8")


def test_patient_age_sex_and_view_come_from_the_header_unless_the_table_says_them(trained: Trained) -> None:
    samples = read_sources([Source(trained.folders, "one"), Source(trained.tabled, "two")], read_facts)
    others = [(sample.path.name, sample.view) for sample in samples if sample.view != "PA"]
    assert others == [(f"chest-{20 * (2 * PATIENTS + 1)}-rle-MONOCHROME2.dcm", "LATERAL"), ("no.dcm", None)]
    by_patient = {sample.patient: sample for sample in samples}
    assert (by_patient["one:4703"].age, by_patient["one:4703"].sex) == (33, "M")
    assert (by_patient["two:another"].age, by_patient["two:another"].sex) == (61, "M")


def test_what_was_measured_in_training_is_what_evaluate_measures(trained: Trained, tmp_path: Path) -> None:
    """Both read the same images to the same tensors, so the mean square error of the probabilities is the same."""
    own = trained.bundle
    sources = [f"one={trained.folders}", f"two={trained.tabled}"]
    split = str(own.folder / "split.csv")
    arguments = ["evaluate", str(own.folder), *sources, "--split", split, "--home", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    cells = [domain["Pneumonia"] for domain in own.metrics["test"]["domains"].values()]
    images = sum(cell["images"] for cell in cells)
    assert facts["images"] == images > 3
    expected = sum(cell["brier"] * cell["images"] for cell in cells) / images
    assert facts["all"]["Pneumonia"]["brier"] == pytest.approx(expected, abs=1e-4)
