"""The worklist on a terminal: reasons and findings have room at any width, and LOW says what was looked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from db.analysis import lifecycle
from db.intake.instances import record_instance
from db.model_registry import activation
from db.records import FindingRecord, NewInstance, StudyIdentity
from tests.db.analysis.test_lifecycle import LEASE, result
from tests.db.conftest import MODEL
from tests.db.conftest import new_instance as new_instance
from worker.cli.app import app
from worker.installation import Site
from worker.runtime.clock import now
from worker.worklist.priority import rank_study, triage_for

REASON = "view LL is lateral, and this model was made for frontal chest radiographs (PA, AP)"
FLAG = "outside training domain: age 3, trained on 18-100"
LABELS = ("Atelectasis", "Cardiomegaly", "Pleural_Thickening", "Pneumothorax")


def run(site: Site, width: int, *words: str) -> str:
    done = CliRunner().invoke(
        app, ["worklist", *words, "--home", str(site.settings.home)], env={"COLUMNS": str(width), "TERM": "dumb"}
    )
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def listed(site: Site, new_instance: Callable[..., NewInstance]) -> Site:
    """One refused study, one with a flag and two findings, one that is LOW; IDs as long as DICOM lets them be."""
    images = [(False, ()), (True, (0.9, 0.8)), (True, (0.1, 0.2))]
    with site.database.write() as session:
        activation.activate(session, MODEL, now())
        for number, (accepted, high) in enumerate(images, 1):
            new = new_instance(number, accepted=accepted, received_at=now() - timedelta(minutes=number))
            study = StudyIdentity(f"1.2.{number}", patient_id=f"PAT{number}{'7' * 60}", accession_number=f"ACC{number}")
            decision = replace(new.decision, reason="" if accepted else REASON)
            triage = triage_for(None, new.received_at, 8)
            recorded = record_instance(session, replace(new, study=study, decision=decision, triage=triage))
            if recorded.analysis_id is None:
                continue
            claimed = lifecycle.claim(session, recorded.analysis_id, owner="me", now=now(), lease=LEASE, max_attempts=3)
            assert claimed is not None
            values = (*high, *(0.1,) * (len(LABELS) - len(high)))
            findings = tuple(FindingRecord(each, p, 0.0, 0.5, p >= 0.5) for each, p in zip(LABELS, values, strict=True))
            flags = (FLAG,) if number == 2 else ()
            lifecycle.complete(session, claimed, replace(result(), findings=findings, flags=flags), now())
            rank_study(session, claimed.study_id, 8)
    return site


@pytest.mark.parametrize("width", [80, 100, 160])
def test_reasons_and_findings_get_half_of_a_terminal_and_more(listed: Site, width: int) -> None:
    lines = run(listed, width).splitlines()
    assert max(map(len, lines[:-1])) <= width
    column = lines[0].index("flags, then findings")
    assert width - column >= width * 0.5
    text = " ".join(" ".join(line[column:] for line in lines[1:-1]).split())
    looked = f"looked for: {', '.join(LABELS)}; nothing else"
    assert all(words in text for words in (REASON, f"! {FLAG}", "Atelectasis 0.90, Cardiomegaly 0.80", looked))
    # of a sentence of 82 characters no line holds a single word
    assert len([line for line in lines if any(word in line[column:] for word in ("lateral", "frontal"))]) <= 2
    assert lines[-1] == "3 studies of the last 48 h; earlier ones: --earlier. AI results: not for diagnosis"


def test_columns_are_dropped_on_a_narrow_terminal_and_nothing_that_they_say_is(listed: Site) -> None:
    heads = {width: run(listed, width).splitlines()[0].split("flags")[0].split() for width in (80, 100, 160)}
    assert heads == {
        80: ["priority", "waiting", "patient,", "accession"],
        100: ["priority", "waiting", "patient,", "accession"],
        160: ["priority", "waiting", "state", "patient", "accession"],
    }
    assert "not applicable: view LL" in " ".join(run(listed, 80).split())
    assert all(f"ACC{number}" in run(listed, 80) for number in (1, 2, 3))


def test_low_names_what_was_looked_for_in_json_too(listed: Site) -> None:
    facts: dict[str, Any] = json.loads(run(listed, 80, "--json", "--priority", "LOW"))
    (item,) = facts["items"]
    assert (facts["list"], facts["total"], item["open"], item["looked_for"]) == ("open", 1, True, list(LABELS))


def test_study_is_found_by_its_accession_number(listed: Site) -> None:
    facts = json.loads(run(listed, 80, "--json", "--accession", "ACC2"))
    assert (facts["list"], [item["accession_number"] for item in facts["items"]]) == ("found", ["ACC2"])
    assert (
        run(listed, 80, "--earlier") == "0 studies of which nothing was heard for 48 h. AI results: not for diagnosis\n"
    )
