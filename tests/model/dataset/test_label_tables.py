"""Tables of labels: each form means what its authors say, and what is uncertain means what was asked."""

import math

import numpy as np
import pytest

from model.dataset.sources import DatasetInvalid, ImageMetadata, Source, read_sources
from model.dataset.split import split_by_patient

CHEXPERT = """Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Cardiomegaly
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,-1.0
CheXpert-v1.0-small/train/patient00001/study1/view2_lateral.jpg,Female,68,Lateral,,,1.0,0.0
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Male,87,Frontal,PA,,-1.0,1.0
"""


@pytest.fixture
def chexpert(write_png, tmp_path):
    folder = tmp_path / "CheXpert-v1.0-small"
    for index, line in enumerate(CHEXPERT.splitlines()[1:]):
        name = line.split(",")[0]
        write_png(np.full((4, 4), 10 * index + 5, np.uint8), name.replace(".jpg", ".png"))
    (folder / "train.csv").write_text(CHEXPERT.replace(".jpg", ".png"))
    return folder


def test_chexperts_empty_cells_are_absent_and_its_paths_begin_with_its_own_folder(chexpert):
    first, second, third = read_sources([Source(chexpert, "chexpert")])
    assert first.labels.keys() == {"Edema", "Cardiomegaly"}, "No Finding is no finding"
    assert (first.labels["Edema"], second.labels["Edema"], second.labels["Cardiomegaly"]) == (0.0, 1.0, 0.0)
    assert (first.patient, third.patient) == ("chexpert:patient00001", "chexpert:patient00002")
    assert [s.view for s in (first, second, third)] == ["AP", "LATERAL", "PA"]
    assert [(s.sex, s.age) for s in (first, third)] == [("F", 68.0), ("M", 87.0)]


@pytest.mark.parametrize(("policy", "value"), [("ignore", math.nan), ("zero", 0.0), ("one", 1.0)])
def test_what_is_uncertain_counts_as_the_policy_says(chexpert, policy, value):
    first, _, third = read_sources([Source(chexpert, "chexpert", uncertain=policy)])
    got = [first.target("Cardiomegaly"), third.target("Edema")]
    assert np.array_equal(got, [value, value], equal_nan=True)


def test_a_policy_that_does_not_exist_is_refused_with_those_that_do(tmp_path):
    with pytest.raises(DatasetInvalid, match="'maybe'; allowed are ignore, zero, one"):
        Source(tmp_path, "x", uncertain="maybe")


@pytest.fixture
def plain(write_png, tmp_path):
    for index, name in enumerate(("a.png", "deep/b.png", "c.png", "d.png")):
        write_png(np.full((4, 4), index, np.uint8), f"plain/{name}")
    (tmp_path / "plain" / "labels.csv").write_text(
        "path,patient,age,sex,view,Edema,Mass\n"
        "a.png,p1,034Y,f,pa,1,0\ndeep/b.png,p1,35,F,,,1\nc.png,,,,,0,\nd.png,p3,999,X,AP,-1,0\ngone.png,p4,1,M,AP,1,1\n"
    )
    return tmp_path / "plain"


def test_a_plain_tables_empty_cells_are_unknown(plain):
    problems = []
    samples = {s.path.name: s for s in read_sources([Source(plain, "plain")], problems=problems)}
    assert samples["a.png"].labels == {"Edema": 1.0, "Mass": 0.0}
    assert math.isnan(samples["b.png"].target("Edema"))
    assert math.isnan(samples["c.png"].target("Mass"))
    assert math.isnan(samples["d.png"].target("Edema")), "uncertain, and ignored by default"
    assert (samples["a.png"].patient, samples["b.png"].patient, samples["c.png"].patient) == (
        "plain:p1",
        "plain:p1",
        "plain:c",
    )
    assert (samples["a.png"].age, samples["a.png"].sex, samples["a.png"].view) == (34.0, "F", "PA")
    assert (samples["d.png"].age, samples["d.png"].sex) == (None, None), "what cannot be is unknown"
    assert [(p.kind, p.path.name) for p in problems] == [("missing", "gone.png")]


def test_a_table_can_be_named_itself(plain):
    assert Source.parse(str(plain / "labels.csv")).domain == "plain"
    assert len(read_sources([Source.parse(f"x={plain}/labels.csv")])) == 4


def test_a_cell_that_is_no_label_is_refused_with_its_place(plain):
    table = plain / "labels.csv"
    table.write_text(table.read_text().replace("p1,35,F,,,1", "p1,35,F,,,yes"))
    with pytest.raises(DatasetInvalid, match=r"labels.csv, line 3, column Mass: a label is 'yes'; allowed are 0, 1"):
        read_sources([Source(plain, "x")])


def test_a_csv_that_is_no_table_of_labels_is_refused_with_the_forms(plain):
    (plain / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetInvalid, match=r"columns a, b; expected are those of ChestX-ray14"):
        read_sources([Source(plain / "other.csv", "x")])


def test_labels_of_another_table_of_the_same_domain_are_unknown_and_not_absent(plain, write_png, tmp_path):
    write_png(np.full((4, 4), 99, np.uint8), "more/e.png")
    (tmp_path / "more" / "labels.csv").write_text("path,Nodule\ne.png,1\n")
    samples = read_sources([Source(plain, "x"), Source(tmp_path / "more", "x")])
    assert math.isnan(samples[0].target("Nodule"))
    assert math.isnan(samples[-1].target("Edema"))


def test_what_a_file_says_of_its_patient_keeps_class_folders_from_leaking(write_png, tmp_path):
    for name in ("NORMAL", "MASS"):
        for index in range(20):
            write_png(np.full((4, 4), index + 100 * (name == "MASS"), np.uint8), f"data/{name}/{name}{index}.png")

    def facts(path):
        return ImageMetadata(
            patient=f"mrn{int(''.join(filter(str.isdigit, path.stem))) // 4}", age=40.0, view="PA", sex="M"
        )

    samples = read_sources([Source(tmp_path / "data", "x")], facts)
    assert (samples[0].age, samples[0].view, samples[0].sex) == (40.0, "PA", "M")
    parts = split_by_patient(samples, 1)
    patients = [{sample.patient for sample in members} for members in parts.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 5


def test_a_table_in_another_encoding_is_refused_by_that_name_and_not_passed_over(plain):
    text = (plain / "labels.csv").read_text()
    for encoded in (text.replace("Mass", "Verd\xe4chtig").encode("latin-1"), text.encode("utf-16")):
        (plain / "labels.csv").write_bytes(encoded)
        with pytest.raises(DatasetInvalid, match=r"labels.csv is not encoded in UTF-8"):
            read_sources([Source(plain, "plain")])
    late = text + "".join(f"n{n}.png,p,1,F,PA,0,0\n" for n in range(2000)) + "\xe4.png,p,1,F,PA,0,0\n"
    (plain / "labels.csv").write_bytes(late.encode("latin-1"))
    with pytest.raises(DatasetInvalid, match=r"labels.csv is not encoded in UTF-8"):
        read_sources([Source(plain, "plain")])


def test_a_bare_name_of_two_files_is_refused_naming_both(plain, write_png):
    write_png(np.full((4, 4), 77, np.uint8), "plain/other/b.png")
    (plain / "labels.csv").write_text("path,Edema\nb.png,1\na.png,0\n")
    with pytest.raises(DatasetInvalid, match=r"names b.png, which is 2 files: .*deep/b.png and .*other/b.png"):
        read_sources([Source(plain, "plain")])
    (plain / "labels.csv").write_text("path,Edema\nother/b.png,1\na.png,0\n")
    assert {s.path.parent.name for s in read_sources([Source(plain, "plain")])} == {"other", "plain"}
