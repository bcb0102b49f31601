"""What judges an int8 network was not seen in its training, and no patient both sets its ranges and judges."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.bundle.bundle import Bundle
from model.dataset.sources import DatasetInvalid, Sample, Source, read_sources
from model.dataset.split import unseen, write_split
from model.evaluate.metrics import auroc
from model.quantize.acceptance import paired_interval
from model.quantize.images import choose_images
from tests.model.small_bundle import write_images, write_small_bundle


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """120 images of 40 patients, three a patient, every other patient's positive."""
    folder = write_images(tmp_path_factory.mktemp("images") / "images", 120)
    read = sorted(read_sources([Source(folder, "images")]), key=lambda sample: sample.path.name)
    return [replace(sample, patient=f"images:{index // 3}", patient_known=True) for index, sample in enumerate(read)]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_small_bundle(tmp_path / "small")


def patients(chosen: list[Sample]) -> set[str]:
    return {sample.patient for sample in chosen}


def test_neighbours_of_one_patient_never_set_the_ranges_and_judge(bundle: Bundle, samples: list[Sample]) -> None:
    images = choose_images(bundle, samples)
    assert not patients(images.ranging) & patients(images.judging)
    assert len(images.ranging) + len(images.judging) == 120
    assert images.compared == ""
    for chosen in (images.ranging, images.judging):
        assert 20 <= sum(sample.labels["Pneumonia"] for sample in chosen) <= 40


def test_training_images_set_the_ranges_and_only_others_judge(bundle: Bundle, samples: list[Sample]) -> None:
    write_split(
        {"training": samples[:60], "validation": samples[60:75], "test": samples[75:90]}, bundle.folder / "split.csv"
    )
    images = choose_images(bundle, samples)
    assert images.ranging == samples[:75]
    assert images.judging == samples[75:]
    assert images.compared == "files and patients"


def test_other_images_of_a_training_patient_do_not_judge(bundle: Bundle, samples: list[Sample]) -> None:
    first_of_each = [sample for index, sample in enumerate(samples[:75]) if index % 3 == 0]
    split_file = bundle.folder / "split.csv"
    write_split({"training": first_of_each, "validation": [], "test": samples[75:90]}, split_file)
    images = choose_images(bundle, samples)
    assert patients(images.judging) == patients(samples[75:])
    assert unseen(split_file, samples[1:3]) == ([], "files and patients")


def test_a_bundle_is_not_judged_on_what_it_was_trained_on(bundle: Bundle, samples: list[Sample]) -> None:
    write_split({"training": samples[:105], "validation": [], "test": samples[105:]}, bundle.folder / "split.csv")
    with pytest.raises(DatasetInvalid, match="120 images, 105 of them of the network's own training and validation"):
        choose_images(bundle, samples)


def test_the_interval_of_the_change_is_that_of_paired_resamples_of_patients() -> None:
    random = np.random.default_rng(1)
    targets = np.tile([0.0, 1.0], 100).astype(np.float32)
    before = targets * 0.3 + random.random(200)
    own = np.arange(200).astype(str)
    assert paired_interval(targets, before, before, own) == (0.0, 0.0)
    after = before + 0.4 * random.random(200)
    low, high = paired_interval(targets, before, after, own)
    assert low < auroc(targets, after) - auroc(targets, before) < high
    independent = np.hypot(0.04, 0.04) * 2 * 1.96  # the standard error of each AUROC is about 0.04
    assert high - low < independent / 2
    few_patients = (np.arange(200) // 20).astype(str)
    assert np.subtract(*paired_interval(targets, before, after, few_patients)) != np.subtract(low, high)
    unknown = np.where(np.arange(200) < 20, np.nan, targets).astype(np.float32)
    assert np.isfinite(paired_interval(unknown, before, after, own)).all()
