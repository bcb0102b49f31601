"""`evaluate` on DICOM files: patient, age, sex and view are the headers', and so is the refusal of patients seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from model.dataset.sources import Source, read_sources
from model.dataset.split import write_split
from model.publish.bundle_writer import renew_manifest_checksum
from tests.peers.radiographs import chest
from worker.cli.app import app
from worker.model_registry.training_images import read_facts

PATIENTS = 11


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of each patient in class folders; their names tell nobody."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(2 * PATIENTS):
        patient, label = number // 2, ("Normal", "Pneumonia")[number % 2]
        (folder / label).mkdir(exist_ok=True)
        chest(
            folder / label, number, PatientID=f"{4711 + patient}", PatientAge=f"0{30 + patient}Y",
            PatientBirthDate="",
            PatientSex="FM"[number % 2], ViewPosition=("PA", "AP")[number % 2],
        )  # fmt: skip
    return folder


def evaluate(bundle: Path, images: Path, home: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", str(bundle), str(images), "--home", str(home), "--json", *more])


def test_the_headers_tell_patient_age_sex_and_view(images: Path, bundle_folder: Path, tmp_path: Path) -> None:
    done = evaluate(bundle_folder, images, tmp_path / "home")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["images"], facts["patients"]) == (2 * PATIENTS, PATIENTS)
    assert facts["calibration"] == {"adults, by age": 2 * PATIENTS}
    assert facts["compared_with_training"] == "files and patients"


def test_images_of_patients_that_the_network_was_trained_on_are_refused(
    images: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    trained = shutil.copytree(bundle_folder, tmp_path / "trained")
    samples = read_sources([Source(images, "elsewhere")], read_facts)
    (trained / "split.csv").unlink()
    write_split(
        {"training": [each for each in samples if each.patient.endswith("4713") and each.sex == "M"]},
        trained / "split.csv",
    )
    text = (trained / "model.toml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith('"split.csv"')]
    (trained / "model.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    renew_manifest_checksum(trained)
    done = evaluate(trained, images, tmp_path / "home")
    assert done.exit_code != 0
    said = f"{done.output} {done.exception}"
    assert "1 of the 22 images are of the network's own training" in said
    assert "and 1 of the 22 images are other images of patients in the network's own training" in said
    assert "4713" not in said


def test_of_data_that_come_in_parts_one_part_is_measured(images: Path, bundle_folder: Path, tmp_path: Path) -> None:
    for part, label, number in (("Train", "Normal", 8), ("Train", "pneumonia", 8), ("test", "Normal", 3)):
        (tmp_path / "data" / part / label).mkdir(parents=True)
        source = sorted((images / label.capitalize()).iterdir())
        for path in source[:number] if part == "Train" else source[8:]:
            shutil.copy(path, tmp_path / "data" / part / label)
    shutil.copytree(images / "Pneumonia", tmp_path / "data" / "test" / "PNEUMONIA")
    home = tmp_path / "home"
    facts = json.loads(evaluate(bundle_folder, tmp_path / "data", home).stdout)
    assert (facts["images"], facts["all"]["Pneumonia"]["positives"]) == (PATIENTS + 3, PATIENTS)
    done = evaluate(bundle_folder, tmp_path / "data", home, "--part", "validation")
    assert done.exit_code == 1
    assert "the data come in parts (training 16, test 14), and none is the validation part" in str(done.exception)
