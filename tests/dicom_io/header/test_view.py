"""The view: every attribute that names one, in the spellings and languages of modalities, and how they are weighed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes

from dicom_io.header.instance_header import InstanceHeader, read_header
from dicom_io.header.radiograph_words import SPECIAL_VIEWS, view_term
from tests.dicom_io.images import code, dicom_file, item, sequence


def header(**attributes: object) -> InstanceHeader:
    return read_header(dicom_file(**attributes))


# what modalities write -> the view, the same in ViewPosition and in a description of the series
SPELLINGS = {
    "LATERAL": """
        LL|RL|LAT|LATERAL|LLAT|RLAT|LT LAT|RT LAT|LEFT LATERAL|LAT LEFT|R LAT|L-LAT|LAT_L|LATERAL_LEFT|LEFTLATERAL|
        CHESTLAT|CHEST LAT|PORTABLE LATERAL|SUPINE LATERAL|CROSS-TABLE LATERAL|XTABLE LAT|X-TABLE LATERAL|XTL|LAT2|
        DORSAL DECUBITUS LATERAL|Thorax seitlich|Thorax seitl.|seitliche Aufnahme|THORAX LATERALER STRAHLENGANG|PROFIL|
        Profil gauche|thorax de profil|PERFIL|Tórax perfil|LAT. IZQ.|LATERAL IZQUIERDA|latero-laterale|TORACE LL|
        RX TORACE L.L.|TORACE L-L|TORACE L/L|L. L.|LTLAT|RTLAT|
        Proiezione laterale|DWARS|X-thorax dwars|zijdelings|lateraal|sidebilde|boczne|боковая проекция|Πλάγια|胸部側面|
        胸部侧位|흉부 측면|胸部LAT
        """,
    "PA": """
        PA|P.A.|P-A|P/A|P A|pa|PA ERECT|PA2|CHESTPA|CHEST_PA|POSTERO_ANTERIOR|POSTERO-ANTERIOR|POSTEROANTERIOR|
        POSTERIOR ANTERIOR|Posterior-Anterior|POST-ANT|Thorax p.a.|postéro-antérieur|póstero-anterior|postero-anteriore|
        dorsoventral|achter-voorwaarts|PORTABLE PA|胸部后前位|胸部PA|胸部P-A|ＰＡ|PA BILATERAL LUNG|FRONTAL PA
        """,
    "AP": """
        AP|A.P.|A-P|A/P|ap|AP SUPINE|SUPINE AP|APSUPINE|AP PORTABLE|AP PORT|ANTERO-POSTERIOR|ANTEROPOSTERIOR|
        ANTERO POSTERIOR|ANTERIOR/POSTERIOR|ANT POST|Thorax a.p. liegend|antéro-postérieur|ântero-posterior|
        antero-posteriore|ventrodorsal|voor-achterwaarts|PORTABLE|PORT CHEST|PORTATIL|SUPINE|liegend|Bettaufnahme|
        au lit|al letto|decúbito supino|AP decúbito dorsal|ポータブル
        """,
    "LLO": "LLO",
    "LAO": "LAO|LAO 45",
    "OBLIQUE": "OBLIQUE|AP OBLIQUE|RIGHT ANTERIOR OBLIQUE|lateral oblique|schräg|OBLICUA|obliqua",
    "LLD": "LLD|AP LLD",
    "DECUBITUS": "LEFT LATERAL DECUBITUS|RT LAT DECUB|decubito lateral izquierdo|Seitenlage|BILATERAL DECUBITUS",
    "LORDOTIC": "LORDOTIC|AP LORDOTIC|lordotisch",
    "": """
        FRONTAL|DE FACE|PA/AP|PA AND LAT|PA/LAT|PALAT|AP & LATERAL|p.a. und seitlich|face et profil|PA Y LATERAL|
         PA e L.L.|P.A. + L-L|胸部正侧位|胸部正側位|R.L.L.|L.L.L.|
         LATERALITY UNKNOWN|BILATERAL|UNILATERAL|LATER|PAIN|PALATE|PATIENT|APEX|CHEST|STEHEND|UPRIGHT|1|X|L|正面|
         CHEST PORT-A-CATH|Port à Cath|PORT CATHETER
        """,
}


@pytest.mark.parametrize(
    ("written", "expected"),
    [(each.strip(), term) for term, listed in SPELLINGS.items() for each in listed.split("|")],
)
@pytest.mark.parametrize("keyword", ["ViewPosition", "SeriesDescription"])
def test_view_is_known_in_every_spelling(keyword: str, written: str, expected: str) -> None:
    found = header(SpecificCharacterSet="ISO_IR 192", **{keyword: ("LO", written.encode())})
    assert (found.view or "", found.view_source) == (expected, keyword if expected else "")


# Patient Orientation -> the view where nothing else names one
ORIENTATIONS: list[tuple[list[str] | str, str | None]] = [
    (["A", "F"], "LATERAL"),
    (["P", "F"], "LATERAL"),
    (["P", "H"], "LATERAL"),
    (["F", "A"], "LATERAL"),
    (["a", "f"], "LATERAL"),
    (["A", "FH"], "LATERAL"),
    (["AL", "F"], "LATERAL"),
    (["P", "FL"], "LATERAL"),
    ("AF", "LATERAL"),
    ("P/F", "LATERAL"),
    (["LA", "F"], "OBLIQUE"),
    (["L", "A"], "AXIAL"),
    (["L", "F"], None),
    (["R", "H"], None),
    (["L", "FR"], None),
    (["F", "L"], None),
    (["L", "FP"], None),
    (["L"], None),
    (["A"], None),
    (["A", ""], None),
    (["A", "P"], None),
    (["F", "F"], None),
    (["LE", "CD"], None),
    (["A", "F", "L"], None),
    ("", None),
]


@pytest.mark.parametrize(("orientation", "expected"), ORIENTATIONS)
def test_plane_of_patient_orientation_is_a_statement_of_the_view(
    orientation: list[str] | str, expected: str | None
) -> None:
    assert header(PatientOrientation=orientation).view == expected


CODES: list[tuple[str, str, str, str | None]] = [
    ("272479007", "SCT", "", "PA"),
    ("399348003", "SCT", "", "AP"),
    ("R-10206", "SNM3", "", "AP"),
    ("R-40888", "99SDM", "", "PA"),
    ("399173006", "SCT", "", "LATERAL"),
    ("R-10232", "SRT", "", "LATERAL"),
    ("30730003", "SCT", "", "LATERAL"),
    ("399135007", "SCT", "", "OBLIQUE"),
    ("399033003", "SCT", "", None),
    ("399173006", "SCT", "PA", "LATERAL"),  # what an item calls a known code does not count
    ("1234", "99LOCAL", "Thorax seitlich", "LATERAL"),
    ("1234", "99LOCAL", "view 1234", None),
    ("399173006", "", "", None),
]


@pytest.mark.parametrize(("value", "scheme", "meaning", "expected"), CODES)
def test_view_code_counts_by_the_standard_and_a_local_one_by_its_words(
    value: str, scheme: str, meaning: str, expected: str | None
) -> None:
    assert header(ViewCodeSequence=code(value, scheme, meaning)).view == expected


def test_each_view_code_of_the_standard_with_lateral_or_oblique_in_its_name_is_never_a_plain_frontal_view() -> None:
    for concept in codes.cid4010.concepts.values():
        view = header(ViewCodeSequence=code(concept.value, concept.scheme_designator, "PA")).view
        if {"lateral", "oblique", "axial", "Sagittal"} & set(concept.meaning.replace("-", " ").split()):
            assert view in {"LATERAL", *SPECIAL_VIEWS}, concept.meaning


def test_each_item_of_a_code_sequence_is_a_statement() -> None:
    both = sequence(*code("272479007", "SCT"), *code("399173006", "SCT"))
    found = header(ViewCodeSequence=both)
    assert (found.view, found.view_contradictory) == ("LATERAL", True)


def test_modifiers_of_view_and_position_make_a_special_view() -> None:
    position = item(CodeValue="102538003", CodingSchemeDesignator="SCT", CodeMeaning="recumbent")
    position.PatientOrientationModifierCodeSequence = code("102536004", "SCT", "left lateral decubitus")
    frontal = code("399348003", "SCT", "antero-posterior")
    assert header(ViewCodeSequence=frontal, PatientOrientationCodeSequence=sequence(position)).view == "DECUBITUS"
    position.PatientOrientationModifierCodeSequence = code("40199007", "SCT", "supine")
    assert header(ViewCodeSequence=frontal, PatientOrientationCodeSequence=sequence(position)).view == "AP"
    frontal[0].ViewModifierCodeSequence = code("111069", "DCM", "Crosstable")
    assert header(ViewCodeSequence=frontal).view == "CROSSTABLE"


LAT = code("399173006", "SCT")
# attributes -> view, its source, whether they contradict each other
TOGETHER: list[tuple[dict[str, object], tuple[str | None, str, bool]]] = [
    ({"ViewPosition": "PA", "PatientOrientation": ["A", "F"]}, ("LATERAL", "PatientOrientation", True)),
    ({"ViewPosition": "PA", "ViewCodeSequence": LAT}, ("LATERAL", "ViewCodeSequence", True)),
    ({"ViewPosition": "LL", "SeriesDescription": "CHEST PA"}, ("LATERAL", "ViewPosition", True)),
    ({"ViewPosition": "PA", "SeriesDescription": "LAT"}, ("LATERAL", "SeriesDescription", True)),
    ({"ViewPosition": "PA", "ProtocolName": "Thorax seitlich"}, ("LATERAL", "ProtocolName", True)),
    ({"BodyPartExamined": "CHEST LAT"}, ("LATERAL", "BodyPartExamined", False)),
    ({"PerformedProtocolCodeSequence": code("X", "9", "lat")}, ("LATERAL", "PerformedProtocolCodeSequence", False)),
    ({"PatientOrientation": ["L", "F"], "ViewPosition": "LL"}, ("LATERAL", "ViewPosition", True)),
    ({"SeriesDescription": "PA AND LAT", "PatientOrientation": ["A", "F"]}, ("LATERAL", "PatientOrientation", False)),
    ({"SeriesDescription": "PA AND LAT", "ViewPosition": "PA"}, ("PA", "ViewPosition", False)),
    ({"ViewPosition": "AP", "ViewCodeSequence": code("272479007", "SCT")}, (None, "", True)),
    ({"ViewPosition": "PA", "SeriesDescription": "CHEST PORTABLE"}, ("PA", "ViewPosition", False)),
    ({"ViewPosition": "AP", "SeriesDescription": "LEFT LATERAL DECUBITUS"}, ("DECUBITUS", "SeriesDescription", False)),
    ({"StudyDescription": "CHEST LATERAL"}, ("LATERAL", "StudyDescription", False)),
    ({"StudyDescription": "CHEST LATERAL", "ViewPosition": "PA"}, ("PA", "ViewPosition", False)),
    ({"StudyDescription": "CHEST LATERAL", "PatientOrientation": ["L", "F"]}, (None, "", False)),
    ({"StudyDescription": "CHEST 2 VIEWS PA/LAT"}, (None, "", False)),
    ({"StudyDescription": "CHEST DECUBITUS"}, ("DECUBITUS", "StudyDescription", False)),
    ({"StudyDescription": "CHEST PA"}, (None, "", False)),
]


@pytest.mark.parametrize(("attributes", "expected"), TOGETHER)
def test_all_attributes_are_weighed_together(
    attributes: dict[str, object], expected: tuple[str | None, str, bool]
) -> None:
    found = header(**attributes)
    assert (found.view, found.view_source, found.view_contradictory) == expected


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_names_a_known_view_or_none(text: str) -> None:
    assert view_term(text) in {None, "LATERAL", "PA", "AP", "FRONTAL", "BEDSIDE", *SPECIAL_VIEWS}
    if text.isascii() and not any(letter.isalpha() for letter in text):
        assert view_term(f"{text} LATERAL {text}") == "LATERAL"


def test_long_or_hostile_text_is_judged_in_no_time() -> None:
    assert header(SeriesDescription=("LO", b"PALAT" * 13000)).view is None
    assert header(SeriesDescription=("LO", b"A-" * 20000 + b"P")).view is None
