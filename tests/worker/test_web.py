"""The minimal web process answers machines, and says when it is not ready and why."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from worker.site import Site
from worker.web import make_web


@pytest.mark.usefixtures("broker")
def test_ready_when_database_broker_and_store_answer_and_says_that_no_model_is_active(site: Site) -> None:
    answer = TestClient(make_web(site)).get("/readyz")
    assert answer.status_code == 200
    facts = answer.json()
    assert (facts["database"], facts["broker"], facts["store"]) == ("ok", "ok", "ok")
    assert facts["model"] is None
    assert "received and wait" in facts["model_note"]


def test_not_ready_without_a_broker_and_alive_all_the_same(site: Site) -> None:
    client = TestClient(make_web(site))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "broker does not answer" in answer.json()["broker"]
    assert client.get("/healthz").json() == {"status": "ok"}


def test_empty_worklist_and_ledger_have_the_names_of_the_contract(site: Site) -> None:
    client = TestClient(make_web(site))
    assert client.get("/worklist").json() == {"model": None, "items": []}
    book = client.get("/ledger").json()
    assert {"received", "done", "not_applicable", "failed", "pending", "deliveries", "unfinished"} <= set(book)
    assert book["deliveries"] == {"pending": 0, "sent": 0, "committed": 0, "failed": 0}


def test_database_that_is_away_is_answered_with_503(site: Site) -> None:
    client = TestClient(make_web(site))
    assert client.get("/worklist").status_code == 200
    site.database.dispose()
    database = site.settings.home / "cxr-triage.sqlite"
    for path in site.settings.home.glob("cxr-triage.sqlite*"):
        path.unlink()
    database.mkdir()
    answer = client.get("/worklist")
    assert answer.status_code == 503
    assert "unable to open" in answer.json()["error"]
