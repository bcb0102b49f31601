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


def samples_of(folder, text, write_png, *images):
    for index, name in enumerate(images):
        write_png(np.full((4, 4), 7 * index + 1, np.uint8), f"{folder.name}/{name}")
    (folder / "labels.csv").write_text(text)
    return read_sources([Source(folder, "x")])


@pytest.mark.parametrize("written", ["no finding", "NO FINDING", "No_Finding", " No  Finding ", "Normal"])
def test_no_finding_is_none_however_it_is_written(write_png, tmp_path, written):
    table = f"image index,Finding Labels\na.png,{written}\nb.png,Edema\n"
    samples = samples_of(tmp_path / "nih", table, write_png, "a.png", "b.png")
    assert [s.labels for s in samples] == [{"Edema": 0.0}, {"Edema": 1.0}]


def test_labels_that_differ_by_case_and_blanks_are_one_in_all_tables(write_png, tmp_path):
    table = (
        "Image Index,Finding Labels\na.png,pneumonia|Pleural_Thickening\nb.png,PNEUMONIA\nc.png,pleural thickening\n"
    )
    first = samples_of(tmp_path / "nih", table, write_png, "a.png", "b.png", "c.png")
    assert [s.labels for s in first] == [
        {"Pleural_Thickening": 1.0, "Pneumonia": 1.0},
        {"Pleural_Thickening": 0.0, "Pneumonia": 1.0},
        {"Pleural_Thickening": 1.0, "Pneumonia": 0.0},
    ]
    samples_of(tmp_path / "more", "path,PLEURAL THICKENING\nd.png,1\n", write_png, "d.png")
    both = read_sources(
        [Source(tmp_path / "nih", "x"), Source(tmp_path / "more", "y")], spellings=["pleural Thickening"]
    )
    assert both[-1].labels == {"pleural Thickening": 1.0}
    assert both[0].target("pleural Thickening") == 1.0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("Image Index,Finding Labels\na.png,no finding|Edema", "line 2: the row says no finding and Edema"),
        ("Image Index,Finding Labels\na.png,", "line 2: Finding Labels is empty; write No Finding"),
        ("path,Normal,Edema\na.png,1,0\nb.png,1,1", "line 3: the row says Normal and Edema: a contradiction"),
        ("Path,Frontal/Lateral,No Finding,Edema\na.png,Frontal,1.0,1.0", "line 2: the row says No Finding and Edema"),
        ("path,pneumonia,PNEUMONIA\na.png,1,0", "line 2: pneumonia is 1 and PNEUMONIA is 0, which are one label"),
        ("path,Edema\na.png,1\nb.png,0\na.png,0", r"line 2 and .*line 4 are of the same image, a.png, but say 1 and 0"),
        ("path,patient,Edema\na.png,1,1\na.png,2,1", "but give it the patient 1 and 2"),
        ("Image Index,Finding Labels\na.png,Edema\na.png,Mass", "list different findings"),
        ("path,age,Edema\na.png,58,5,1", "line 2: the row has 4 cells for 3 columns"),
        ("path,age,Edema\na.png,58", "line 2: the row has 2 cells for 3 columns"),
        ("path,Edema,Edema\na.png,1,0", "has the column Edema twice"),
        ("path,Edema\na.png,0.5", "line 2, column Edema: a label is '0.5'; allowed are 0, 1"),
        ("path,Edema\nz.png,1", "names no image that is in"),
        ("name,Edema\na.png,1", "has the columns name, Edema; expected are"),
    ],
)
def test_a_table_that_contradicts_itself_or_cannot_be_understood_is_refused_with_its_line(
    write_png, tmp_path, table, message
):
    with pytest.raises(DatasetInvalid, match=message):
        samples_of(tmp_path / "data", table + "\n", write_png, "a.png", "b.png")


def test_a_row_of_no_finding_knows_the_labels_that_it_leaves_empty_and_devices_are_none(write_png, tmp_path):
    table = "path,No Finding,Edema,Mass,Support Devices\na.png,1,,-1,1\nb.png,0,,0,\n"
    first, second = samples_of(tmp_path / "data", table, write_png, "a.png", "b.png")
    assert (first.target("Edema"), first.target("Support Devices")) == (0.0, 1.0)
    assert math.isnan(first.target("Mass")), "uncertain stays uncertain"
    assert math.isnan(second.target("Edema"))


@pytest.mark.parametrize(
    "row",
    [
        "A.PNG",
        "a",
        "a.jpg",
        r"C:\Users\x\data\a.png",
        "/home/y/set/a.png",
        r"\\server\share\a.png",
        "data/a.png",
        "./a.png",
    ],
)
def test_an_image_is_found_by_the_path_of_another_machine_and_without_its_suffix(write_png, tmp_path, row):
    (sample,) = samples_of(tmp_path / "data", f"path,Edema\n{row},1\n", write_png, "a.png", "deep/b.png")
    assert sample.path == tmp_path / "data" / "a.png"


def test_a_path_is_not_resolved_to_another_folders_image(write_png, tmp_path):
    with pytest.raises(DatasetInvalid, match="names no image"):
        samples_of(tmp_path / "data", "path,Edema\nx/y/a.png,1\n", write_png, "z/a.png")
    with pytest.raises(DatasetInvalid, match="which is 3 files"):
        samples_of(tmp_path / "data", "path,Edema\na,1\n", write_png, "a.png", "z/a.jpg")


def test_two_tables_of_the_same_images_are_joined(write_png, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mass.csv").write_text("path,Mass,age\na.png,0,40\n")
    (sample,) = samples_of(tmp_path / "data", "path,Edema\na.png,1\n", write_png, "a.png")
    assert (sample.labels, sample.age) == ({"Edema": 1.0, "Mass": 0.0}, 40.0)


def test_quoted_newlines_pandas_index_and_words_for_nothing_are_understood(write_png, tmp_path):
    table = (
        "Unnamed: 0,Image_ID,Subject ID,Edema,Mass,Patient Age,Gender,View Position\n"
        '0,a,"p\n1",NaN,1.0,40,F,pa\n\n1,b.png,p2,TRUE,n/a,,,\n'
    )
    first, second = samples_of(tmp_path / "data", table, write_png, "a.png", "b.png")
    assert (first.labels["Mass"], second.labels["Edema"]) == (1.0, 1.0)
    assert (first.patient, first.age, first.sex, first.view) == ("x:p\n1", 40.0, "F", "PA")
    assert math.isnan(first.labels["Edema"])
    assert math.isnan(second.labels["Mass"])
    assert first.labels.keys() == {"Edema", "Mass"}


def test_patients_are_those_of_folders_where_neither_table_nor_name_tells(write_png, tmp_path):
    for name in ("NORMAL/patient001/study1/view1.png", "TB/patient002/study1/view1.png", "TB/batch3/view1.png"):
        write_png(np.full((4, 4), len(name), np.uint8), f"data/{name}")
    samples = read_sources([Source(tmp_path / "data", "x")])
    assert [(s.patient, s.person) for s in samples] == [
        ("x:patient001", "patient001"),
        ("x:view1", ""),
        ("x:patient002", "patient002"),
    ]
