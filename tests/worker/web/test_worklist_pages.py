"""The open list by priority, the earlier studies, and what a LOW study was looked at for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, update

from db.tables.analyses import LogitMaps
from db.tables.studies import Study
from tests.db.conftest import new_instance as new_instance
from tests.worker.cli.test_worklist import LABELS
from tests.worker.cli.test_worklist import listed as listed
from worker.installation import Site
from worker.runtime.clock import now
from worker.web.app import make_web

REFUSED, HIGH, LOW = "1.2.1", "1.2.2", "1.2.3"


@pytest.fixture
def browser(listed: Site) -> Iterator[TestClient]:
    with listed.database.write() as session:
        session.execute(delete(LogitMaps))  # which nobody made
    with TestClient(make_web(listed), base_url="http://127.0.0.1") as client:
        yield client


def rows(page: str) -> list[str]:
    return [uid for uid in re.findall(r'<tr data-key="([^"]*)"', page) if uid]


def test_one_priority_alone_is_shown_beside_the_counts_of_all(browser: TestClient) -> None:
    assert rows(browser.get("/").text) == [HIGH, REFUSED, LOW]
    for name, uid in (("HIGH", HIGH), ("MEDIUM", REFUSED), ("LOW", LOW)):
        page = browser.get(f"/?priority={name}").text
        assert rows(page) == [uid]
        assert len(re.findall(r"</svg>(HIGH|MEDIUM|LOW)</span> 1</a>", page)) == 3
    assert browser.get("/?priority=URGENT").status_code == 422


def test_low_says_what_was_looked_for_on_list_and_page_and_nothing_else_does(browser: TestClient) -> None:
    words = f'<span class="word">looked for:</span> {", ".join(LABELS)}; nothing else'
    assert browser.get("/").text.count("looked for:") == 1
    for uid in (REFUSED, HIGH, LOW):
        assert (words in browser.get(f"/studies/{uid}").text) == (uid == LOW)
        assert (words in browser.get("/").text.split(f'<tr data-key="{uid}"')[1].split("</tr>")[0]) == (uid == LOW)


def test_study_that_left_the_open_list_is_among_the_earlier_ones(browser: TestClient, listed: Site) -> None:
    with listed.database.write() as session:
        old = update(Study).where(Study.study_instance_uid == HIGH).values(latest_at=now() - timedelta(hours=49))
        session.execute(old)
    assert rows(browser.get("/").text) == [REFUSED, LOW]
    assert rows(browser.get("/earlier").text) == [HIGH]
    assert "no longer on the open list" in browser.get(f"/studies/{HIGH}").text
    assert "no longer on the open list" not in browser.get(f"/studies/{LOW}").text
    facts = browser.get("/api/worklist?list=earlier").json()
    assert [(item["study_instance_uid"], item["open"]) for item in facts["items"]] == [(HIGH, False)]
    assert (facts["list"], browser.get("/api/worklist").json()["total"]) == ("earlier", 2)


def test_patient_is_found_by_a_posted_form_that_no_address_shows(browser: TestClient) -> None:
    found = browser.post("/earlier", data={"patient_id": f"  PAT2{'7' * 60} ", "study_date": ""})
    assert rows(found.text) == [HIGH]
    assert str(found.url).endswith("/earlier")
    assert "data-poll" not in found.text, "asked again by its address, it would be another list"
    assert rows(browser.post("/earlier", data={"accession_number": "ACC3", "priority": "LOW"}).text) == [LOW]
    assert "No study has just these values." in browser.post("/earlier", data={"patient_id": "<b>"}).text
    assert browser.post("/earlier", data={}, follow_redirects=False).headers["location"] == "/earlier"
    assert (
        browser.post("/earlier", data={"patient_id": "x"}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    )


def test_place_in_the_earlier_ones_is_a_time_with_a_zone_or_the_beginning(browser: TestClient) -> None:
    for query in ("at=2026-03-01T12:00:00%2B00:00&number=5", "at=2026-03-01T12:00:00", ""):
        assert browser.get(f"/earlier?{query}").status_code == 200
    assert browser.get("/earlier?at=yesterday").status_code == 422


@pytest.mark.parametrize(
    "address", ["at=2026-03-01T00:00:00Z&number=9223372036854775808", "at=0001-01-01T00:00:00%2B14:00"]
)
def test_an_address_that_no_page_has_is_no_defect(browser: TestClient, address: str) -> None:
    assert browser.get(f"/earlier?{address}").status_code in (200, 422)
