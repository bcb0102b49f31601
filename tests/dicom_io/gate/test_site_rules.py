"""A site's own gate rules: they add, relax and flag, never the rules of safety, quote no patient, and cannot hang."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dicom_io.gate.decision import RULES, GateResult, GateRules, decide, never_read, read_anyway
from dicom_io.gate.rules import RELAXABLE, check_site_rules
from dicom_io.gate.site_rules import site_rule
from dicom_io.header.instance_header import read_header, with_site_values
from tests.dicom_io.gate.test_decision import CHEST
from tests.dicom_io.images import code, dicom_file, image_file, item, sequence

PIXELS = np.zeros((600, 600), np.uint16)


def rules(*written: dict[str, Any]) -> GateRules:
    made = tuple(site_rule(**{"name": f"rule {number}", **each}) for number, each in enumerate(written))
    check_site_rules(made)
    return GateRules(site=made)


def decided(in_force: GateRules, **attributes: object) -> GateResult:
    return decide(read_header(image_file(PIXELS, **{**CHEST, **attributes}), in_force.tags), in_force)


HOLDS: list[tuple[dict[str, Any], dict[str, object], bool]] = [
    ({"tag": "StationName", "equals": "BED1"}, {"StationName": "bed1 "}, True),
    ({"tag": "StationName", "equals": "BED1"}, {"StationName": "BED12"}, False),
    ({"tag": "StationName", "equals": "BED1"}, {}, False),
    ({"tag": "StationName", "equals": ["BED1", "BED2"]}, {"StationName": "BED2"}, True),
    ({"tag": "(0008,1010)", "equals": "BED1"}, {"StationName": "BED1"}, True),
    ({"tag": "ImageType", "equals": "PRIMARY"}, {"ImageType": ["DERIVED", "PRIMARY"]}, True),
    ({"tag": "SeriesNumber", "equals": 7}, {"SeriesNumber": "007"}, True),
    ({"tag": "Rows", "equals": 600}, {}, True),
    ({"tag": "Rows", "equals": 601}, {}, False),
    ({"tag": "BitsStored", "matches": "^1[0-9]$"}, {"BitsStored": 12}, True),
    ({"tag": "KVP", "equals": 70.0}, {"KVP": "70"}, True),
    ({"tag": "SeriesDescription", "matches": "bed ?side"}, {"SeriesDescription": "AP BEDSIDE"}, True),
    ({"tag": "SeriesDescription", "matches": "^bedside$"}, {"SeriesDescription": "AP BEDSIDE"}, False),
    ({"tag": "StationName", "missing": True}, {}, True),
    ({"tag": "StationName", "missing": True}, {"StationName": ""}, True),
    ({"tag": "StationName", "missing": True}, {"StationName": "X"}, False),
    ({"tag": "StationName", "missing": False}, {"StationName": "X"}, True),
    ({"tag": "ViewCodeSequence", "missing": False}, {"ViewCodeSequence": code("399348003", "SCT")}, True),
    ({"tag": "ViewCodeSequence", "missing": True}, {}, True),
    (
        {"tag": "ViewCodeSequence[0].CodeValue", "equals": "399348003"},
        {"ViewCodeSequence": code("399348003", "SCT")},
        True,
    ),
    ({"tag": "ViewCodeSequence[1].CodeValue", "missing": True}, {"ViewCodeSequence": code("399348003", "SCT")}, True),
    (
        {"tag": "RequestAttributesSequence.ScheduledProcedureStepID", "equals": "B"},
        {"RequestAttributesSequence": sequence(item(ScheduledProcedureStepID="A"), item(ScheduledProcedureStepID="B"))},
        True,
    ),
    (
        {"tag": "RequestAttributesSequence[0].ScheduledProcedureStepID", "equals": "B"},
        {"RequestAttributesSequence": sequence(item(ScheduledProcedureStepID="A"), item(ScheduledProcedureStepID="B"))},
        False,
    ),
]


@pytest.mark.parametrize(("condition", "attributes", "holds"), HOLDS)
def test_condition_holds_just_where_the_header_says_so(
    condition: dict[str, Any], attributes: dict[str, object], holds: bool
) -> None:
    decision = decided(rules({"action": "refuse", **condition}), **attributes)
    assert decision.accepted is not holds, decision
    assert decision.rule == ("rule 0" if holds else "accepted")


@pytest.mark.parametrize("explicit", [True, False])
def test_private_attribute_is_found_in_whatever_block_its_creator_reserved(explicit: bool) -> None:
    from io import BytesIO

    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    dataset = pydicom.dcmread(BytesIO(image_file(PIXELS, **CHEST)), force=True)
    dataset.private_block(0x0019, "SOMEBODY ELSE", create=True).add_new(0x10, "LO", "NO")
    dataset.private_block(0x0019, "ACME 1.1", create=True).add_new(0x10, "LO", "PAEDIATRIC")
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=not explicit, little_endian=True)
    in_force = rules({"action": "flag", "tag": "(0019,10,ACME 1.1)", "equals": "paediatric"})
    decision = decide(read_header(buffer.getvalue(), in_force.tags), in_force)
    assert decision.flags[-1:] == ("rule 0",)
    assert decision.header_values["site (0019,10,ACME 1.1)"] == "has a value"


def test_rule_relaxes_what_it_names_and_nothing_else_and_says_so() -> None:
    in_force = rules(
        {"name": "bedside radiographs", "action": "read", "tag": "StationName", "equals": "BED1", "relaxes": ["size"]}
    )
    small = {"Rows": 400, "Columns": 400, "PixelData": bytes(400 * 400 * 2)}
    assert decided(in_force, **small).rule == "size"
    relaxed = decided(in_force, **small, StationName="BED1")
    assert relaxed.accepted
    assert relaxed.rule == "bedside radiographs"
    assert relaxed.flags[:1] == ("admitted by this site's rule: bedside radiographs",)
    assert "StationName is BED1" in relaxed.reason
    assert "Rows x Columns is 400 x 400" in relaxed.reason
    assert decided(in_force, **small, StationName="BED1", BodyPartExamined="HAND").rule == "region"


def test_refusal_of_a_site_wins_over_its_relaxing() -> None:
    in_force = rules(
        {"action": "read", "tag": "StationName", "equals": "BED1", "relaxes": ["size"]},
        {"action": "refuse", "tag": "StationName", "matches": "BED"},
    )
    assert not decided(in_force, StationName="BED1").accepted


@pytest.mark.parametrize("name", [rule.name for rule in RULES if not rule.relaxable])
def test_rules_of_safety_are_never_relaxed(name: str) -> None:
    with pytest.raises(ValueError, match=rf"relaxes '{name}', which is never relaxed; allowed: "):
        rules({"action": "read", "tag": "Modality", "equals": "CR", "relaxes": [name]})


def test_every_other_rule_can_be_relaxed() -> None:
    rules({"action": "read", "tag": "Modality", "equals": "CR", "relaxes": list(RELAXABLE)})


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tag": "StationNmae", "equals": "A"}, "'StationNmae' is not a DICOM keyword; did you mean StationName"),
    ({"tag": "(0008,10", "equals": "A"}, r"'\(0008,10' is not understood"),
    ({"tag": "(0019,1010)", "equals": "A"}, "is private: write its last two digits and its creator"),
    ({"tag": "(0018,10,ACME)", "equals": "A"}, "private"),
    ({"tag": "PixelData", "missing": True}, "'PixelData' is or follows the pixel data"),
    ({"tag": "TransferSyntaxUID", "equals": "1.2"}, "'TransferSyntaxUID' is not in the data set"),
    ({"tag": "RedPaletteColorLookupTableData", "equals": "A"}, "has binary data"),
    ({"tag": "ViewCodeSequence", "equals": "A"}, "is a sequence, which can only be missing or not"),
    ({"tag": "StationName.CodeValue", "equals": "A"}, "StationName is not a sequence"),
    ({"tag": "StationName", "equals": "A", "matches": "B"}, "has equals and matches: give exactly one"),
    ({"tag": "StationName"}, "has no condition: give exactly one"),
    ({"tag": "StationName", "equals": " "}, "equals is empty"),
    ({"tag": "StationName", "matches": "(a"}, r"pattern '\(a' is not understood \(missing \)"),
    ({"tag": "StationName", "matches": r"(a)\1"}, "no lookaround and no backreference"),
    ({"tag": "StationName", "matches": "a*"}, "matches every value"),
    ({"tag": "StationName", "equals": "A", "relaxes": ["size"]}, 'relaxes is only for action "read"'),
    ({"tag": "StationName", "equals": "A", "action": "read"}, "names in relaxes"),
    ({"tag": "StationName", "equals": "A", "action": "read", "relaxes": ["sise"]}, "'sise', which is no rule; allowed"),
    ({"tag": "StationName", "equals": "A", "name": "size"}, "'size': this name is in use"),
    ({"tag": "StationName", "equals": "A", "name": "<b>"}, "name '<b>': 1 to 64"),
]


@pytest.mark.parametrize(("written", "message"), WRONG)
def test_wrong_rule_is_refused_with_what_is_wrong_and_allowed(written: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rules({"action": "refuse", **written})


def test_pattern_that_would_take_for_ever_elsewhere_is_matched_at_once() -> None:
    in_force = rules({"action": "refuse", "tag": "SeriesDescription", "matches": "^(a+)+$"})
    assert decided(in_force, SeriesDescription="a" * 5000 + "b").rule == "rule 0", "judged by its first 1024 letters"
    assert decided(in_force, SeriesDescription="a" * 60 + "!").accepted


@pytest.mark.parametrize(
    ("tag", "attribute", "value"),
    [
        ("PatientID", "PatientID", "MRN4711"),
        ("PatientName", "PatientName", "Miller^Anna"),
        ("PatientBirthDate", "PatientBirthDate", "19610203"),
        ("AccessionNumber", "AccessionNumber", "ACC4711"),
        ("ReferringPhysicianName", "ReferringPhysicianName", "House^Greg"),
        ("SeriesDescription", "SeriesDescription", "Miller Anna chest"),
    ],
)
def test_no_patient_is_quoted(tag: str, attribute: str, value: str) -> None:
    condition = {"tag": tag, "matches": "M|A|H|1"}
    for action in ({"action": "refuse"}, {"action": "flag"}, {"action": "read", "relaxes": ["view"]}):
        decision = decided(rules({**condition, **action}), **{attribute: value, "ViewPosition": "LL"})
        assert value not in repr((decision.reason, decision.rule, decision.flags, dict(decision.header_values)))
        assert decision.header_values[f"site {tag}"] == "has a value"
    if tag != "SeriesDescription":  # even what the site itself has written: it may be a patient's
        written = decided(rules({"action": "refuse", "tag": tag, "equals": value}), **{attribute: value})
        assert written.rule == "rule 0"
        assert value not in written.reason
    assert value not in repr(
        read_header(image_file(PIXELS, **{**CHEST, attribute: value}), rules({"action": "flag", **condition}).tags)
    )


def test_coded_values_are_stored_with_the_decision() -> None:
    in_force = rules(
        {"action": "flag", "tag": "StationName", "equals": "BED1"},
        {"action": "flag", "tag": "PresentationLUTShape", "missing": True},
    )
    recorded = decided(in_force, StationName="BED<1>").header_values
    assert recorded["site StationName"] == "BED?1?"
    assert recorded["site PresentationLUTShape"] == "missing"


def test_header_read_without_the_rules_attributes_is_read_again() -> None:
    in_force = rules({"action": "refuse", "tag": "StationName", "equals": "BED1"})
    data = image_file(PIXELS, **{**CHEST, "StationName": "BED1"})
    without = read_header(data)
    with pytest.raises(ValueError, match="without the attributes of the site's rules: StationName"):
        decide(without, in_force)
    assert not decide(with_site_values(without, data, in_force.tags), in_force).accepted
    read = read_header(data, in_force.tags)
    assert with_site_values(read, data, in_force.tags) is read


def test_what_a_person_may_not_have_read() -> None:
    assert never_read(read_header(image_file(PIXELS, **CHEST))) is None
    assert never_read(read_header(image_file(PIXELS, **{**CHEST, "BodyPartExamined": "HAND"}))) is None
    assert never_read(read_header(image_file(PIXELS, **CHEST)), is_own=True) is not None
    assert never_read(read_header(dicom_file(**CHEST, Rows=600, Columns=600))) is not None
    ours = {"Manufacturer": "cxr-triage", "ManufacturerModelName": "cxr-triage"}
    assert never_read(read_header(image_file(PIXELS, **{**CHEST, **ours}))) is not None


def test_what_a_person_has_read_says_by_which_rule_it_was_refused() -> None:
    header = read_header(image_file(PIXELS, **{**CHEST, "BodyPartExamined": "HAND", "ViewPosition": ""}))
    made = read_anyway(header, GateRules(), "region")
    assert made.accepted
    assert made.rule == "read anyway"
    assert made.flags[0] == "read although refused: region"
    assert "view unknown" in made.flags
