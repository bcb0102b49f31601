"""Collections as they are published: parts that hold class folders, tables beside folders, leavings of archives."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from model.dataset.given_split import gives_split, split_as_given
from model.dataset.overview import overview
from model.dataset.part_names import part_of
from model.dataset.samples import DatasetInvalid, FileProblem, Sample, Source
from model.dataset.sources import read_sources
from model.dataset.split import check_leaks, read_split, write_split

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Path]


@pytest.fixture
def make(write_png: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes images, each with other pixels, and gives the folder."""
    drawn = random.Random(0)

    def of(*names: str) -> Path:
        for name in names:
            write_png(np.array([[drawn.randrange(256) for _ in range(6)] for _ in range(6)], np.uint8), f"data/{name}")
        return tmp_path / "data"

    return of


def read(folder: Path, problems: list[FileProblem] | None = None, notices: list[str] | None = None) -> list[Sample]:
    return read_sources([Source.parse(str(folder))], problems=problems, notices=notices)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Validation", "Testing"),
        ("TRAINING", "valid", "holdout"),
        ("train_set", "dev", "Test Set"),
        ("train-images", "tuning", "hold-out"),
    ],
)
def test_folders_named_like_parts_are_a_split_and_no_classes(make: Make, train: str, val: str, test: str) -> None:
    folder = make(
        f"{train}/NORMAL/1.png", f"{train}/PNEUMONIA/1.png", f"{val}/NORMAL/2.png", f"{val}/PNEUMONIA/2.png",
        f"{test}/NORMAL/1.png", f"{test}/PNEUMONIA/3.png",
    )  # fmt: skip
    samples = read(folder)
    assert {label for sample in samples for label in sample.labels} == {"Pneumonia"}
    assert {(s.part, s.target("Pneumonia")) for s in samples} == {
        (part, value) for part in ("training", "validation", "test") for value in (0.0, 1.0)
    }


def test_parts_within_each_class_are_a_split_too(make: Make) -> None:
    samples = read(make("NORMAL/train/1.png", "NORMAL/test/2.png", "PNEUMONIA/train/1.png", "PNEUMONIA/test/2.png"))
    assert [(s.part, s.target("Pneumonia")) for s in samples] == [
        ("test", 0.0), ("training", 0.0), ("test", 1.0), ("training", 1.0),
    ]  # fmt: skip


def test_a_class_that_a_part_lacks_is_absent_there_and_not_unknown(make: Make) -> None:
    samples = read(make("train/NORMAL/1.png", "train/TB/2.png", "train/COVID/3.png", "test/NORMAL/4.png"))
    assert [s.labels for s in samples if s.part == "test"] == [{"COVID": 0.0, "TB": 0.0}]


def test_an_archive_is_read_with_what_it_leaves_behind(make: Make) -> None:
    """Kermany's archive: a wrapper, macOS' folder, hidden files, and the parts once more."""
    folder = make(
        "chest_xray/train/NORMAL/1.png", "chest_xray/train/PNEUMONIA/2.png", "chest_xray/test/NORMAL/3.png",
        "chest_xray/test/PNEUMONIA/4.png", "chest_xray/train/NORMAL/._1.png", "__MACOSX/chest_xray/train/NORMAL/1.png",
        "chest_xray/chest_xray/train/NORMAL/1.png", "chest_xray/__MACOSX/train/NORMAL/1.png",
        "chest_xray/test/NORMAL/.ipynb_checkpoints/3.png",
    )  # fmt: skip
    notices: list[str] = []
    samples = read(folder, notices=notices)
    assert [str(s.path.relative_to(folder)) for s in samples] == [
        "chest_xray/test/NORMAL/3.png", "chest_xray/test/PNEUMONIA/4.png",
        "chest_xray/train/NORMAL/1.png", "chest_xray/train/PNEUMONIA/2.png",
    ]  # fmt: skip
    assert any("holds the parts once more" in notice for notice in notices)


def test_a_folder_beside_parts_that_is_none_is_refused(make: Make) -> None:
    with pytest.raises(DatasetInvalid, match=r"parts of a split \(test, train\) and beside them extra, which is none"):
        read(make("train/NORMAL/1.png", "train/TB/2.png", "test/NORMAL/3.png", "test/TB/4.png", "extra/NORMAL/5.png"))


def test_a_part_with_images_but_no_classes_is_refused(make: Make) -> None:
    with pytest.raises(DatasetInvalid, match="holds neither class folders nor a table"):
        read(make("train/NORMAL/1.png", "train/TB/2.png", "test/3.png"))


def test_collections_side_by_side_are_not_taken_for_classes(make: Make) -> None:
    with pytest.raises(DatasetInvalid, match="which of them are the classes cannot be known"):
        read(make("siteA/NORMAL/1.png", "siteA/TB/2.png", "siteB/NORMAL/3.png", "siteB/TB/4.png"))
    # the classes are outside where these have the known names
    folder = make("more/NORMAL/PA/1.png", "more/NORMAL/AP/2.png", "more/PNEUMONIA/PA/1.png", "more/PNEUMONIA/AP/2.png")
    assert {label for sample in read(folder / "more") for label in sample.labels} == {"Pneumonia"}


def test_collections_that_each_come_in_parts_are_given_one_by_one(make: Make) -> None:
    names = [f"{site}/{part}/{of}/1.png" for site in "ab" for part in ("train", "test") for of in ("NORMAL", "TB")]
    folder = make(*names)
    with pytest.raises(DatasetInvalid, match=r"cannot be known. Name parts .* give collections one by one, as a=.*/a$"):
        read(folder)
    samples = read_sources([Source(folder / "a", "a"), Source(folder / "b", "b")])
    assert [(s.domain, s.part) for s in samples] == [
        (d, p) for d in "ab" for p in ("test", "training") for _ in range(2)
    ]


def test_masks_beside_the_images_are_not_read(make: Make) -> None:
    """COVID-19 Radiography Database: each class holds images and masks."""
    folder = make("COVID/images/1.png", "COVID/masks/1.png", "Normal/images/2.png", "Normal/masks/2.png")
    assert [s.path.parent.name for s in read(folder)] == ["images", "images"]


def test_class_folders_that_differ_by_case_and_blanks_are_one_class(make: Make) -> None:
    assert [s.labels for s in read(make("../other/0_normal/1.png", "../other/1-TB/2.png").parent / "other")] == [
        {"1-TB": 0.0},
        {"1-TB": 1.0},
    ]
    folder = make("pneumonia/1.png", "PNEUMONIA/2.png", "no_finding/3.png", "Lung Mass/4.png", "lung_mass/5.png")
    present = {s.path.name: {name for name, value in s.labels.items() if value == 1.0} for s in read(folder)}
    assert present == {
        "1.png": {"Pneumonia"}, "2.png": {"Pneumonia"}, "3.png": set(), "4.png": {"Lung Mass"}, "5.png": {"Lung Mass"},
    }  # fmt: skip


def test_only_folders_of_no_finding_are_refused(make: Make) -> None:
    with pytest.raises(DatasetInvalid, match=r"every class folder .* is of no finding"):
        read(make("NORMAL/1.png", "no finding/2.png"))


def test_an_empty_class_folder_and_files_of_other_forms_are_named(make: Make) -> None:
    folder = make("NORMAL/1.png", "TB/2.png")
    (folder / "COVID").mkdir()
    (folder / "TB" / "3.tif").write_bytes(b"II*\0")
    problems: list[FileProblem] = []
    notices: list[str] = []
    read(folder, problems, notices)
    assert [(p.path.name, p.reason) for p in problems] == [
        ("3.tif", ".tif is not read; allowed are PNG, JPEG and DICOM")
    ]
    assert [n for n in notices if "COVID holds no PNG, JPEG or DICOM file" in n]


def test_symbolic_links_are_followed_and_circles_end(make: Make, tmp_path: Path) -> None:
    folder = make("NORMAL/1.png", "../elsewhere/deep/2.png")
    (folder / "TB").mkdir()
    (folder / "TB" / "linked").symlink_to(tmp_path / "elsewhere" / "deep")
    (folder / "TB" / "again").symlink_to(folder / "TB")
    assert [s.path.name for s in read(folder) if s.target("TB") == 1.0] == ["2.png"]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "id;size\n1.png;2\n", "Filename\n1.png\n"])
def test_a_table_of_no_known_form_beside_class_folders_is_refused_by_name(make: Make, text: str) -> None:
    folder = make("NORMAL/1.png", "TB/2.png")
    (folder / "labels.csv").write_text(text)
    with pytest.raises(DatasetInvalid, match=r"labels.csv has the columns .*; expected are those of ChestX-ray14"):
        read(folder)


def test_a_table_with_semicolons_is_read_as_spreadsheets_of_many_countries_write_it(make: Make) -> None:
    folder = make("NORMAL/1.png", "TB/2.png")
    (folder / "labels.csv").write_bytes(b"\xef\xbb\xbfpath;age;Edema\r\nNORMAL\\1.png;58,5;1,0\r\nTB/2.png;;0\r\n")
    samples = read(folder)
    assert [(s.path.name, s.age, s.labels) for s in samples] == [
        ("1.png", 58.5, {"Edema": 1.0}),
        ("2.png", None, {"Edema": 0.0}),
    ]


def test_boxes_and_own_files_beside_a_table_are_no_tables_of_labels(make: Make) -> None:
    folder = make("1.png", "2.png")
    (folder / "Data_Entry_2017.csv").write_text("Image Index,Finding Labels\n1.png,Edema\n")
    (folder / "BBox_List_2017.csv").write_text("Image Index,Finding Label,Bbox [x,y,w,h],,,\n1.png,Edema,1,2,3,4\n")
    (folder / "problems.csv").write_text("problem,file,other,reason\n")
    notices: list[str] = []
    assert len(read(folder, notices=notices)) == 1
    assert [n for n in notices if n.startswith("1 images in") and "2.png" in n]


def test_tables_named_like_parts_and_a_column_give_the_split(make: Make) -> None:
    folder = make("a.png", "b.png", "c.png")
    (folder / "train.csv").write_text("path,Edema\na.png,1\n")
    (folder / "valid.csv").write_text("path,Edema\nb.png,0\n")
    assert [s.part for s in read(folder)] == ["training", "validation"]
    (folder / "valid.csv").unlink()
    (folder / "train.csv").write_text("path,Edema,split\na.png,1,TRAIN\nb.png,0,Val\nc.png,0,test\n")
    assert [s.part for s in read(folder)] == ["training", "validation", "test"]
    (folder / "train.csv").write_text("path,Edema,split\na.png,1,first\n")
    with pytest.raises(DatasetInvalid, match=r"train.csv, line 2: the part of the split is 'first'; allowed are train"):
        read(folder)


def test_the_official_lists_of_chestxray14_are_its_split(make: Make) -> None:
    folder = make("images_001/1.png", "images_001/2.png", "images_002/3.png")
    (folder / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels\n1.png,Edema\n2.png,Mass\n3.png,No Finding\n"
    )
    (folder / "train_val_list.txt").write_text("1.png\r\n3.png\r\n")
    (folder / "test_list.txt").write_text("2.png\n")
    assert [(s.path.name, s.part) for s in read(folder)] == [
        ("1.png", "training"), ("2.png", "test"), ("3.png", "training"),
    ]  # fmt: skip


def test_parts_given_one_by_one_are_one_population(make: Make) -> None:
    folder = make("train/NORMAL/1.png", "train/TB/2.png", "test/NORMAL/3.png", "test/TB/4.png")
    samples = read_sources([Source.parse(str(folder / name)) for name in ("train", "test")])
    assert {s.domain for s in samples} == {"data"}
    assert [s.part for s in samples] == ["training"] * 2 + ["test"] * 2


def part(name: str, number: int, where: str, patient: str = "", value: float = 0.0) -> Sample:
    path, who = Path(f"{where}/{name}{number}.png"), f"x:{patient or name + str(number)}"
    return Sample(path, "x", who, {"TB": value}, str(path), part=where, patient_known=bool(patient))


def test_a_missing_part_is_taken_from_the_training_part_by_patient() -> None:
    training = [part("a", n, "training", f"p{n // 2}", float(n % 4 < 2)) for n in range(200)]
    test = [part("b", n, "test", value=float(n % 2)) for n in range(30)]
    assert gives_split([*training, *test])
    parts, leaks, notices = split_as_given([*training, *test], 1)
    assert not leaks
    assert {s.part for s in parts["test"]} == {"test"}
    assert len(parts["validation"]) == pytest.approx(200 * 0.15 / 0.85, abs=4)
    assert not {s.patient for s in parts["validation"]} & {s.patient for s in parts["training"]}
    assert any("the validation part, which the data lack, is 18% of their training part" in n for n in notices)


def test_images_of_patients_and_pictures_that_are_held_out_are_left_out_of_training() -> None:
    training = [part("a", n, "training", f"p{n}") for n in range(20)]
    validation = [part("v", n, "validation", f"v{n}") for n in range(4)] + [part("v", 9, "validation", "p1")]
    test = [part("t", n, "test", f"t{n}") for n in range(4)] + [part("t", 9, "test", "p0"), part("t", 8, "test", "v0")]
    parts, leaks, notices = split_as_given([*training, *validation, *test], 1)
    assert [s.patient for s in parts["training"]] == [f"x:p{n}" for n in range(2, 20)]
    assert parts["test"] == test
    assert [(leak.kind, str(leak.path)) for leak in leaks] == [
        ("leak", "training/a0.png"), ("leak", "training/a1.png"), ("leak", "validation/v0.png"),
    ]  # fmt: skip
    assert "1 image is left out of the validation part, since the test part has their patient or picture" in notices
    check_leaks(parts)


def test_the_same_file_name_in_two_parts_is_not_the_same_patient(tmp_path: Path) -> None:
    samples = [part("", n, where) for where in ("training", "validation", "test") for n in range(5)]
    parts, leaks, _ = split_as_given(samples, 1)
    assert not leaks
    assert [len(members) for members in parts.values()] == [5, 5, 5]
    write_split(parts, tmp_path / "split.csv")
    assert read_split(tmp_path / "split.csv", samples) == parts


def test_parts_without_one_to_train_on_are_refused() -> None:
    with pytest.raises(DatasetInvalid, match=r"the data come in parts \(validation, test\), but no training part"):
        split_as_given([part("a", 1, "validation"), part("a", 2, "test")], 1)


def test_the_overview_counts_what_is_known_of_each_label() -> None:
    samples = [part("a", n, "", f"p{n // 2}", [1.0, 0.0, math.nan, 1.0][n]) for n in range(4)]
    assert overview(samples).splitlines() == [
        "4 images of 2 patients; domains: x 4",
        "label  with  without  unknown",
        "TB        2        1        1",
        "ages: unknown; views: unknown 4",
    ]


@pytest.mark.parametrize(
    "name", ["NORMAL", "contrast", "valley", "detest", "protest", "trained", "latest", "evaluation"]
)
def test_other_names_are_no_parts(name: str) -> None:
    assert part_of(name) == ""
