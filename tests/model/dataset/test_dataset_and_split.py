"""Training data: which labels are known, which patient an image belongs to, and that no part leaks into another."""

import math
from dataclasses import replace

import numpy as np
import pytest

from model.dataset.sources import DatasetInvalid, Sample, Source, known_labels, limited, read_sources
from model.dataset.split import PARTS, check_leaks, read_split, split_by_patient, write_split


@pytest.fixture
def folders(write_png, tmp_path):
    """A folder of classes and one with a table, as the two collections are laid out."""
    number = 0

    def image(name):
        nonlocal number
        number += 1
        write_png(np.full((4, 4), number, np.uint8), name)

    for name in ("IM-0001-0001", "IM-0001-0002", "NORMAL2-IM-0001-0001"):
        image(f"children/NORMAL/{name}.png")
    for name in ("person1_bacteria_1", "person1_virus_9", "person22_virus_3"):
        image(f"children/PNEUMONIA/{name}.png")
    rows = ["Image Index,Finding Labels,Patient ID,Patient Age,View Position"]
    for name, labels, patient, age in [
        ("00000005_000.png", "Pneumonia|Effusion", "5", "058Y"),
        ("00000005_001.png", "No Finding", "00000005", "59"),
        ("00000007_000.png", "Effusion", "7", "414"),
        ("00000009_000.png", "Edema", "9", ""),
    ]:
        image(f"adults/{name}")
        rows.append(f"{name},{labels},{patient},{age},PA")
    rows.append("99999999_000.png,Edema,3,40,AP")
    (tmp_path / "adults" / "table.csv").write_text("\n".join(rows) + "\n")
    return [Source(tmp_path / "children", "children"), Source(tmp_path / "adults", "adults")]


def test_class_folders_know_their_classes_and_nothing_else(folders):
    samples = {s.path.stem: s for s in read_sources(folders) if s.domain == "children"}
    assert samples["IM-0001-0001"].target("Pneumonia") == 0.0
    assert samples["person22_virus_3"].target("Pneumonia") == 1.0
    assert math.isnan(samples["IM-0001-0001"].target("Effusion"))


def test_class_folders_name_labels_as_they_are_written_unless_the_name_is_known(write_png, tmp_path):
    for number, name in enumerate(("NORMAL", "COVID", "TB", "PNEUMONIA", "Fibrosis-late")):
        write_png(np.full((4, 4), number, np.uint8), f"data/{name}/1.png")
    assert set(known_labels(read_sources([Source(tmp_path / "data", "x")]))) == {
        "COVID", "TB", "Pneumonia", "Fibrosis-late",
    }  # fmt: skip


def test_a_table_knows_every_label_it_mentions_for_each_of_its_images(folders):
    samples = {s.path.stem: s for s in read_sources(folders) if s.domain == "adults"}
    assert samples["00000005_000"].labels == {"Edema": 0.0, "Effusion": 1.0, "Pneumonia": 1.0}
    assert samples["00000005_001"].labels == {"Edema": 0.0, "Effusion": 0.0, "Pneumonia": 0.0}
    assert "99999999_000" not in samples


def test_patients_ages_and_views_are_read_as_the_collections_write_them(folders):
    samples = {s.path.stem: s for s in read_sources(folders)}
    assert samples["IM-0001-0001"].patient == samples["IM-0001-0002"].patient == "children:IM-0001"
    assert samples["NORMAL2-IM-0001-0001"].patient == "children:NORMAL2-IM-0001"
    assert samples["person1_bacteria_1"].patient == samples["person1_virus_9"].patient
    assert samples["00000005_000"].patient == samples["00000005_001"].patient == "adults:5"
    ages = [samples[name].age for name in ("00000005_000", "00000005_001", "00000007_000", "00000009_000")]
    assert ages == [58.0, 59.0, None, None]
    assert samples["00000007_000"].view == "PA"


def test_labels_are_listed_most_frequent_first(folders):
    samples = read_sources(folders)
    assert known_labels(samples) == ("Pneumonia", "Effusion", "Edema")
    assert known_labels(samples, minimum_positives=2) == ("Pneumonia", "Effusion")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ([], "nor at least two class folders"),
        (["NORMAL/"], "nor at least two class folders"),
        (["NORMAL/", "PNEUMONIA/"], "hold no PNG"),
    ],
)
def test_a_folder_of_neither_form_is_refused_with_what_is_expected(tmp_path, layout, message):
    for name in layout:
        (tmp_path / name).mkdir()
    with pytest.raises(DatasetInvalid, match=message):
        read_sources([Source(tmp_path, "x")])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DatasetInvalid, match="none does not exist"):
        read_sources([Source.parse(f"x={tmp_path}/none")])


def test_a_source_is_written_domain_equals_folder(tmp_path):
    assert Source.parse(f"adults={tmp_path}") == Source(tmp_path, "adults")
    assert Source.parse(str(tmp_path)).domain == tmp_path.name


def test_a_limit_keeps_every_source(folders):
    assert {s.domain for s in limited(read_sources(folders), 4)} == {"children", "adults"}
    with pytest.raises(DatasetInvalid, match="limit is 0"):
        limited(read_sources(folders), 0)


def many_samples(tmp_path):
    """600 images of 300 patients in two domains, a tenth of them byte-identical to another patient's."""
    samples = []
    for index in range(600):
        domain = "adults" if index % 3 == 0 else "children"
        patient = f"{domain}:{index // 6 * 3 + index % 3}"
        digest = f"duplicate{index % 20}" if index % 10 == 0 else f"unique{index}"
        labels = {"Pneumonia": float(index % 4 == 0)}
        if domain == "adults":
            labels["Edema"] = float(index % 15 == 0)
        samples.append(Sample(tmp_path / f"{index}.png", domain, patient, labels, digest.ljust(20, "-")))
    return samples


def test_no_patient_and_no_duplicate_is_in_two_parts(tmp_path):
    parts = split_by_patient(many_samples(tmp_path), seed=1)
    for key in ("patient", "sha256"):
        seen = [{getattr(sample, key) for sample in parts[part]} for part in PARTS]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert sum(map(len, parts.values())) == 600


def test_one_patient_in_two_domains_is_in_one_part(tmp_path):
    """Two collections of one hospital, one of them with leading zeros; unknown patients are no such."""
    samples = [
        Sample(tmp_path / f"{domain}{n}.png", domain, f"{domain}:{n:0{digits}}", {"TB": float(n % 2)}, f"{domain}{n}")
        for domain, digits in (("clinic", 1), ("ward", 8))
        for n in range(60)
    ]
    parts = split_by_patient(samples, seed=1)
    part_of = {sample.path: part for part, members in parts.items() for sample in members}
    assert all(part_of[tmp_path / f"clinic{n}.png"] == part_of[tmp_path / f"ward{n}.png"] for n in range(60))
    assert min(map(len, parts.values())) > 10
    with pytest.raises(DatasetInvalid, match=r"1 times the same patient is in two parts, such as clinic5.png"):
        check_leaks({"training": [samples[5]], "test": [samples[65]]})
    files = [replace(sample, patient_known=False) for sample in (samples[5], samples[65])]
    check_leaks({"training": files[:1], "test": files[1:]})


def test_parts_have_their_share_of_every_domain_and_label(tmp_path):
    samples = [s for s in many_samples(tmp_path) if s.sha256.startswith("unique")]
    parts = split_by_patient(samples, seed=1)
    for part, share in (("training", 0.7), ("validation", 0.15), ("test", 0.15)):
        for domain in ("adults", "children"):
            for value in (0.0, 1.0):
                cell = [s for s in samples if s.domain == domain and s.labels["Pneumonia"] == value]
                there = [s for s in parts[part] if s.domain == domain and s.labels["Pneumonia"] == value]
                assert len(there) / len(cell) == pytest.approx(share, abs=0.04)


def test_the_same_seed_gives_the_same_parts_and_another_seed_others(tmp_path):
    samples = many_samples(tmp_path)
    assert split_by_patient(samples, 5) == split_by_patient(samples, 5)
    assert split_by_patient(samples, 5) != split_by_patient(samples, 6)


def test_a_written_split_reads_back(tmp_path):
    samples = [s for s in many_samples(tmp_path) if s.sha256.startswith("unique")]
    parts = split_by_patient(samples, 5)
    write_split(parts, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", samples) == parts
    assert "adults:" not in (tmp_path / "split.csv").read_text(), "no patient is named"


def test_a_split_of_other_images_is_refused(tmp_path):
    samples = many_samples(tmp_path)
    write_split({"test": samples[:300]}, tmp_path / "split.csv")
    others = [s for s in samples[300:] if s.sha256.startswith("unique")]
    with pytest.raises(DatasetInvalid, match="lists none of the"):
        read_split(tmp_path / "split.csv", others)


@pytest.mark.shared_data
def test_the_collections_split_without_a_leak(shared_data):
    samples = read_sources(
        [
            Source(shared_data / "kermany", "children"),
            Source(shared_data / "nih", "adults"),
            Source(shared_data / "nih512", "adults"),
        ]
    )
    parts = split_by_patient(samples, seed=2026)
    for key in ("patient", "sha256"):
        seen = [{getattr(sample, key) for sample in parts[part]} for part in PARTS]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    adults = [sum(s.domain == "adults" for s in parts[part]) for part in PARTS]
    assert adults == pytest.approx([0.7 * 781, 0.15 * 781, 0.15 * 781], abs=8)
