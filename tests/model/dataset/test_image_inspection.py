"""Inspection: damaged files are listed, the same picture is found whatever its encoding, and nothing leaks."""

import csv

import cv2
import numpy as np
import pytest

from model.dataset.image_inspection import find_duplicates, inspect_images, reopened, summary, write_problems
from model.dataset.sources import DatasetInvalid, Source, read_sources
from model.dataset.split import PARTS, check_leaks, check_unseen, read_split, split_by_patient, write_split
from model.preprocessing.image_files import read_raster
from model.preprocessing.tensor import Preprocessing, resample

SPEC = Preprocessing()


def chest(seed):
    """A picture with the large shapes of a radiograph and grain of its own, uint8 [300, 260]."""
    random = np.random.default_rng(seed)
    low = cv2.resize(random.random((7, 6), dtype=np.float32), (260, 300), interpolation=cv2.INTER_CUBIC)
    noise = random.normal(0, 0.03, low.shape)
    return np.clip(40 + 170 * low + 255 * noise, 0, 255).astype(np.uint8)


@pytest.fixture
def collection(tmp_path):
    """Two classes; one picture four times over in different encodings, a file that is cut off, one in colour."""
    for name in ("NORMAL", "MASS"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for seed in range(12):
        folder = "NORMAL" if seed % 2 else "MASS"
        cv2.imwrite(str(tmp_path / "data" / folder / f"p{seed}.png"), chest(seed))
    mass = tmp_path / "data" / "MASS"
    picture = chest(0)
    cv2.imwrite(str(mass / "q1.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])  # other bytes, the same pixels
    cv2.imwrite(str(mass / "q2.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    cv2.imwrite(str(tmp_path / "data" / "NORMAL" / "q3.png"), cv2.cvtColor(picture, cv2.COLOR_GRAY2BGRA))
    (mass / "cut.png").write_bytes((mass / "p2.png").read_bytes()[:3000])
    (mass / "empty.jpg").write_bytes(b"")
    cv2.imwrite(str(mass / "photo.png"), np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8))
    return Source(tmp_path / "data", "x")


def test_damaged_files_are_listed_with_their_reason_and_are_not_fatal(collection, tmp_path):
    found = inspect_images(read_sources([collection]), SPEC, read_raster)
    damaged = {p.path.name: p.reason for p in found.problems if p.kind == "damaged"}
    assert damaged.keys() == {"cut.png", "empty.jpg", "photo.png"}
    assert "in colour" in damaged["photo.png"]
    assert len(found.samples) == len(found.resized) == 15
    write_problems(found.problems, tmp_path / "problems.csv")
    with (tmp_path / "problems.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.problems)
    text = summary(found.problems)
    assert text.startswith("3 left out because they cannot be read; 3 are duplicates of another image")
    assert "have labels that contradict those of their duplicate" in text


def test_one_picture_in_four_encodings_is_one_group_and_its_contradicting_labels_are_said(collection):
    found = inspect_images(read_sources([collection]), SPEC, read_raster)
    duplicates = {s.path.name for s in found.samples if s.duplicate_group}
    assert duplicates == {"p0.png", "q1.png", "q2.jpg", "q3.png"}
    assert len({s.duplicate_group for s in found.samples if s.duplicate_group}) == 1
    assert {p.path.name for p in found.problems if p.kind == "contradiction"} == {"q3.png"}
    for seed in range(20):
        parts = split_by_patient(found.samples, seed)
        assert sum(any(s.duplicate_group for s in members) for members in parts.values()) == 1


def test_the_same_picture_at_another_size_is_found(tmp_path):
    large = cv2.resize(chest(3), (1040, 1200), interpolation=cv2.INTER_CUBIC)
    resized = [resample(image.astype(np.float32) / 255, SPEC)[0] for image in (chest(3), large, chest(4))]
    assert find_duplicates(np.rint(np.stack(resized) * 65535).astype(np.uint16)) == [(0, 1)]


def test_images_of_one_shade_are_not_taken_for_one_another():
    resized = np.stack([np.full((32, 32), 257 * level, np.uint16) for level in (10, 20, 10, 11)])
    assert find_duplicates(resized) == [(0, 2)]


@pytest.mark.shared_data
def test_no_two_patients_of_a_real_collection_are_taken_for_twins(shared_data):
    samples = read_sources([Source(shared_data / "nih512", "adults")])[:250]
    found = inspect_images(samples, SPEC, read_raster)
    assert len(found.samples) == 250
    assert not found.problems


def test_the_squares_are_what_the_tensor_function_makes_and_can_be_mapped_again(collection, tmp_path):
    samples = read_sources([collection])
    found = inspect_images(samples, SPEC, read_raster, tmp_path / "resized.npy")
    for row, sample in enumerate(found.samples):
        tensor = resample(read_raster(sample.path), SPEC)[0]
        assert np.abs(found.resized[row] / 65535 - tensor).max() <= 0.5 / 65535 + 1e-7
    again = reopened(samples, tmp_path / "resized.npy")
    assert np.array_equal(again.resized, found.resized)
    assert (again.samples, again.problems) == (found.samples, found.problems)
    assert any(sample.duplicate_group for sample in again.samples)
    assert list(again.rows_of(found.samples[3:5])) == [3, 4]


def test_sixteen_bits_gray_colour_channels_and_alpha_give_the_same_square(tmp_path):
    picture = chest(7)
    cv2.imwrite(str(tmp_path / "gray.png"), picture)
    cv2.imwrite(str(tmp_path / "deep.png"), picture.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "rgb.png"), cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
    cv2.imwrite(str(tmp_path / "rgba.png"), cv2.cvtColor(picture, cv2.COLOR_GRAY2BGRA))
    resized = [resample(read_raster(tmp_path / f"{n}.png"), SPEC)[0] for n in ("gray", "deep", "rgb", "rgba")]
    for square in resized[1:]:
        assert np.abs(square - resized[0]).max() < 1e-6


@pytest.fixture
def samples(collection):
    return list(inspect_images(read_sources([collection]), SPEC, read_raster).samples)


def test_a_split_that_divides_a_patient_a_file_or_a_picture_is_refused(samples, tmp_path):
    parts = {"training": samples[:5], "validation": [], "test": samples[5:]}
    with pytest.raises(DatasetInvalid, match="1 times the same image, re-encoded is in two parts"):
        check_leaks(parts)
    from dataclasses import replace

    plain = [replace(s, duplicate_group="", patient_known=True) for s in samples]
    for change, what in (({"patient": plain[0].patient}, "patient"), ({"sha256": plain[0].sha256}, "byte-identical")):
        leaking = {"training": plain[:5], "test": [*plain[5:], replace(plain[9], **change)]}
        with pytest.raises(DatasetInvalid, match=f"the same {what}.* is in two parts, such as p0.png"):
            check_leaks(leaking)


def test_a_foreign_split_file_that_leaks_is_refused_when_it_is_read(samples, tmp_path):
    parts = split_by_patient(samples, 1)
    path = tmp_path / "split.csv"
    write_split(parts, path)
    assert read_split(path, samples) == parts
    duplicates = [s for s in samples if s.duplicate_group]
    lines = path.read_text().splitlines()
    moved = next(i for i, line in enumerate(lines) if duplicates[0].sha256[:16] in line)
    part = lines[moved].split(",")[0]
    other = next(name for name in PARTS if name != part)
    path.write_text("\n".join([*lines[:moved], lines[moved].replace(part, other), *lines[moved + 1 :]]) + "\n")
    with pytest.raises(DatasetInvalid, match=r"split.csv leaks: the group \d+ is in the parts"):
        read_split(path, samples)
    without_groups = [",".join(line.split(",")[:3]) for line in path.read_text().splitlines()]
    path.write_text("\n".join(without_groups) + "\n")
    with pytest.raises(DatasetInvalid, match="re-encoded is in two parts"):
        read_split(path, samples)


def test_a_split_file_without_its_columns_is_refused_with_those_needed(samples, tmp_path):
    (tmp_path / "split.csv").write_text("image,set\na,b\n")
    with pytest.raises(DatasetInvalid, match="has the columns image, set; part, domain, sha256, group are needed"):
        read_split(tmp_path / "split.csv", samples)


def test_a_network_is_not_judged_on_what_it_was_trained_on(samples, tmp_path):
    parts = split_by_patient(samples, 1)
    write_split(parts, tmp_path / "split.csv")
    check_unseen(tmp_path / "split.csv", parts["test"])
    with pytest.raises(DatasetInvalid, match=r"1 of the \d+ images are of the network's own training"):
        check_unseen(tmp_path / "split.csv", [*parts["test"], parts["training"][0]])
