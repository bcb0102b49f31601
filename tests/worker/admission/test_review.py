"""A person has a refused image read, and new rules are applied: audited, flagged, and never what may not be read."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from typer.testing import CliRunner

from db.tables.delivery import MadeObject
from db.tables.gate import GateDecision
from db.tables.studies import Instance
from dicom_io.header.instance_header import read_header
from dicom_io.network.status_codes import Status
from dicom_io.receive.listener import Received
from worker.admission.review import CannotBeReadAnyway, apply_rules, have_read
from worker.analysis.runner import Analyst
from worker.cli.app import app
from worker.config.gate_rules import Gate, GateRule
from worker.installation import Site
from worker.intake.intake import Intake
from worker.model_registry import bundles
from worker.monitoring.ledger import ledger_facts
from worker.web.app import make_web
from worker.worklist.listing import worklist_facts


@pytest.fixture
def sited(site: Site, bundle_folder: Path) -> Site:
    bundles.activate(site, str(bundle_folder))
    return site


def receive(site: Site, data: bytes) -> str:
    facts = read_header(data)
    intake = Intake(site, lambda _id: None)
    assert intake.receive(Received(data, facts, "MODALITY", "CXRTRIAGE", "127.0.0.1", "1")) == Status.SUCCESS
    return facts.sop_instance_uid


def hand(images: Path) -> bytes:
    return (images / "RG3_UNCR.dcm").read_bytes()


def chest(images: Path, **changes: str) -> bytes:
    dataset = pydicom.dcmread(images / "RG1_UNCR.dcm")
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def with_rules(site: Site, *rules: GateRule) -> Site:
    return Site(site.settings.model_copy(update={"gate": Gate(rules=rules)}))


def test_refused_image_is_read_by_ones_word_and_every_face_says_so(sited: Site, images: Path) -> None:
    uid = receive(sited, hand(images))
    rule = worklist_facts(sited)["items"][0]["reason"]
    made = have_read(sited, uid, by="Dr  Who\n", reason="the  patient's\tarm lies over the chest")
    assert made.analysis_id is not None
    assert Analyst(sited.settings, sited.database, sited.store).analyse(made.analysis_id) == "done"
    flag = f"read although refused: {made.refused_by}"
    (item,) = worklist_facts(sited)["items"]
    assert flag in item["flags"]
    assert item["findings"]
    assert ledger_facts(sited)["refused_by_rule"] == {}
    page = TestClient(make_web(sited), base_url="http://127.0.0.1").get(f"/studies/{item['study_instance_uid']}").text
    for words in (flag, "Dr Who", "the patient&#39;s arm lies over the chest", rule, "before, "):
        assert words in page, words
    assert "Analyse it anyway" not in page
    with sited.database.read() as session:
        rows = session.scalars(select(GateDecision).order_by(GateDecision.id)).all()
        assert session.scalars(select(MadeObject)).all(), "its heatmap carries the flag in its legend"
    assert [(row.accepted, row.current, row.decided_by) for row in rows] == [(False, False, ""), (True, True, "Dr Who")]


def test_what_may_never_be_read_and_words_that_say_nothing_are_refused(sited: Site, images: Path) -> None:
    ours = receive(sited, chest(images, Manufacturer="cxr-triage", ManufacturerModelName="cxr-triage"))
    with pytest.raises(CannotBeReadAnyway, match="own objects"):
        have_read(sited, ours, by="Dr Who", reason="curious")
    empty = pydicom.dcmread(BytesIO(hand(images)))
    empty.SOPInstanceUID = empty.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    del empty.PixelData
    buffer = BytesIO()
    empty.save_as(buffer)
    with pytest.raises(CannotBeReadAnyway, match="PixelData is missing"):
        have_read(sited, receive(sited, buffer.getvalue()), by="Dr Who", reason="curious")
    with pytest.raises(CannotBeReadAnyway, match="no image with SOP Instance UID"):
        have_read(sited, "1.2.3", by="Dr Who", reason="curious")
    uid = receive(sited, hand(images))
    for by, reason in (("", "why"), ("me", " \n"), ("x" * 101, "why"), ("me", "y" * 501)):
        with pytest.raises(CannotBeReadAnyway, match="is needed, of 1 to"):
            have_read(sited, uid, by=by, reason=reason)
    have_read(sited, uid, by="me", reason="why")
    with pytest.raises(CannotBeReadAnyway, match="is not refused: read although refused"):
        have_read(sited, uid, by="me", reason="again")


def test_form_of_the_page_is_answered_and_a_foreign_pages_is_not(sited: Site, images: Path) -> None:
    uid = receive(sited, hand(images))
    (item,) = worklist_facts(sited)["items"]
    browser = TestClient(make_web(sited), base_url="http://127.0.0.1:8080", follow_redirects=False)
    study = f"/studies/{item['study_instance_uid']}"
    assert f'action="{study}/read-anyway"' in browser.get(study).text
    form = {"sop_instance_uid": uid, "by": "Dr Who", "reason": "asked by the ward"}

    def post(headers: dict[str, str], **changes: str) -> int:
        return browser.post(f"{study}/read-anyway", data={**form, **changes}, headers=headers).status_code

    foreign = [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8080"},
    ]
    assert [post(headers) for headers in foreign] == [403] * len(foreign)
    assert worklist_facts(sited)["items"][0]["state"] == "not_applicable"
    own = {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}
    assert post(own, reason="") == 409
    assert post(own, by="") == 409
    assert post(own, reason="x" * 20_000) == 409
    assert post({"Origin": "http://127.0.0.1:8080"}) == 303
    assert post(own) == 409, "it is read already"
    assert worklist_facts(sited)["items"][0]["state"] == "pending"
    with sited.database.read() as session:
        decided_by = session.scalars(select(GateDecision.decided_by).where(GateDecision.current.is_(True))).one()
    assert decided_by == "Dr Who, at testclient"


def test_new_rules_are_applied_to_what_others_refused(sited: Site, images: Path) -> None:
    uid = receive(sited, hand(images))
    read = receive(sited, chest(images))
    station = GateRule(name="all of this modality", action="read", tag="Modality", equals="CR", relaxes=("region",))
    relaxed = with_rules(sited, station)
    assert [each.decision is not None and each.decision.accepted for each in apply_rules(relaxed, dry_run=True)] == [
        True
    ]
    assert ledger_facts(sited)["not_applicable"] == 1, "a dry run changes nothing"
    (admitted,) = apply_rules(relaxed)
    assert (admitted.sop_instance_uid, admitted.rule_before) == (uid, "region")
    assert admitted.decision is not None
    assert admitted.decision.rule == "all of this modality"
    assert list(apply_rules(relaxed)) == []
    assert ledger_facts(relaxed)["pending"] == 2
    strict = with_rules(sited, GateRule(name="none of these", action="refuse", tag="Modality", equals="CR"))
    assert list(apply_rules(strict)) == [], "what was accepted stays accepted"
    assert read != uid


def test_image_decided_again_has_the_age_and_view_that_todays_program_reads(sited: Site, images: Path) -> None:
    uid = receive(
        sited, chest(images, BodyPartExamined="KNEE", PatientAge="050Y", PatientBirthDate="", ViewPosition="A-P")
    )
    with sited.database.write() as session:
        session.execute(update(Instance).values(age_years=0.0, view="A-P"))  # as an earlier version understood them
    have_read(sited, uid, by="Dr Who", reason="it is a chest")
    with sited.database.read() as session:
        assert session.execute(select(Instance.age_years, Instance.view)).one() == (50.0, "AP")


def test_site_rule_decides_about_what_is_received_and_is_counted(sited: Site, images: Path) -> None:
    strict = with_rules(sited, GateRule(name="no test patients", action="refuse", tag="PatientID", matches="^TEST"))
    receive(strict, chest(images, PatientID="TEST17"))
    facts = ledger_facts(strict)
    assert facts["refused_by_rule"] == {"no test patients": 1}
    assert facts["refusals"] == {"PatientID matches the site's pattern: refused by this site's rule": 1}
    metrics = TestClient(make_web(strict), base_url="http://127.0.0.1").get("/metrics").text
    assert 'cxr_triage_refused_instances{rule="no test patients"} 1.0' in metrics
    former = TestClient(make_web(sited), base_url="http://127.0.0.1").get("/metrics").text
    assert 'cxr_triage_refused_instances{rule="former rule"} 1.0' in former
    with strict.database.read() as session:
        stored = session.scalars(select(GateDecision.facts)).one()
    assert stored["site PatientID"] == "has a value"


def test_commands_explain_list_and_have_read(sited: Site, images: Path, tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    config.write_text(
        '[[gate.rules]]\nname = "old unit"\naction = "read"\nrelaxes = ["region"]\n'
        'tag = "StationName"\nequals = "OLD"\n',
        encoding="utf-8",
    )
    uid = receive(sited, hand(images))
    where = ["--home", str(sited.settings.home), "--config", str(config), "--json"]

    def run(*words: str) -> dict[str, object]:
        done = CliRunner().invoke(app, [*words, *where])
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.stdout))

    explained = run("explain", str(images / "RG3_UNCR.dcm"))
    assert (explained["rule"], explained["read_anyway"]) == ("region", "")
    assert "site StationName" in dict(explained["facts"])  # type: ignore[call-overload]
    image = tmp_path / "old.dcm"
    image.write_bytes(chest(images, BodyPartExamined="HAND", StationName="OLD"))
    explained = run("explain", str(image))
    assert (explained["accepted"], explained["rule"]) == (True, "old unit")
    table = run("gate", "rules")["rules"]
    assert [line["refused"] for line in table if line["rule"] in ("region", "old unit")] == [1, 0]  # type: ignore[attr-defined]
    assert run("read-anyway", uid, "--by", "Dr Who", "--reason", "why not")["queued"] is True
    assert "Dr Who" in str(run("explain", str(images / "RG3_UNCR.dcm"))["read_anyway"])


def test_explain_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    import os

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = CliRunner().invoke(app, ["explain", str(pipe), "--home", str(tmp_path / "home")])
    assert done.exit_code == 2
    assert "is not a regular file" in re.sub(r"[\s│]+", " ", done.output)
