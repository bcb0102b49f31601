"""The web process answers machines, says when it is not ready and why, and lets no page out without its headers."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from starlette.datastructures import Headers

from worker.config.settings import Web
from worker.installation import Site
from worker.web.app import make_web
from worker.web.security_headers import is_cross_site, is_local_name, is_loopback


@pytest.mark.usefixtures("broker")
def test_ready_when_database_broker_and_store_answer_and_says_that_no_model_is_active(site: Site) -> None:
    answer = TestClient(make_web(site)).get("/readyz")
    assert answer.status_code == 200
    facts = answer.json()
    assert (facts["database"], facts["broker"], facts["store"]) == ("ok", "ok", "ok")
    assert facts["model"] is None
    assert "received and wait" in facts["model_note"]


@pytest.mark.usefixtures("broker")
def test_probe_counts_nothing_however_long_the_archive_is(site: Site) -> None:
    asked: list[str] = []
    event.listen(
        site.database.engine, "before_cursor_execute", lambda _c, _u, statement, *_rest: asked.append(statement)
    )
    assert TestClient(make_web(site)).get("/readyz").status_code == 200
    assert asked
    assert [statement for statement in asked if "count(" in statement] == []


def test_not_ready_without_a_broker_and_alive_all_the_same(site: Site) -> None:
    client = TestClient(make_web(site))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "broker does not answer" in answer.json()["broker"]
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.usefixtures("broker")
def test_not_ready_where_no_image_would_find_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.store, "free_bytes", lambda: 4096)
    answer = TestClient(make_web(site)).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["store"].startswith("full: 4096 bytes free")


def test_empty_worklist_and_ledger_have_the_names_of_the_contract(site: Site) -> None:
    client = TestClient(make_web(site))
    assert client.get("/api/worklist").json() == {"model": None, "list": "open", "total": 0, "items": []}
    book = client.get("/api/ledger").json()
    assert {"received", "done", "not_applicable", "failed", "pending", "deliveries", "unfinished"} <= set(book)
    assert book["deliveries"] == {"pending": 0, "sent": 0, "committed": 0, "failed": 0, "superseded": 0}


@pytest.mark.parametrize("limit", ["0", "-1", "1000000", "many"])
def test_limit_that_means_nothing_is_refused_with_its_name(site: Site, limit: str) -> None:
    answer = TestClient(make_web(site)).get(f"/api/worklist?limit={limit}")
    assert answer.status_code == 422
    assert "limit" in answer.text


def test_database_that_is_away_is_answered_with_503_to_machines_and_to_people(site: Site) -> None:
    client = TestClient(make_web(site))
    assert client.get("/api/worklist").status_code == 200
    site.database.dispose()
    database = site.settings.home / "cxr-triage.sqlite"
    for path in site.settings.home.glob("cxr-triage.sqlite*"):
        path.unlink()
    database.mkdir()
    answer = client.get("/api/worklist")
    assert answer.status_code == 503
    assert "unable to open" in answer.json()["error"]
    page = client.get("/")
    assert page.status_code == 503
    assert "The database does not answer" in page.text
    assert "No model is active" not in page.text, "that is not known now"
    assert "unable to open" in client.get("/system").text


def test_pages_say_plainly_that_no_model_is_active_and_that_nothing_has_arrived(site: Site) -> None:
    client = TestClient(make_web(site))
    for path in ("/", "/ledger", "/system", "/docs"):
        assert "No model is active" in client.get(path).text, path
    assert "No study has arrived yet" in client.get("/").text


@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("web", True)]
)
def test_system_page_warns_where_others_can_reach_pages_without_a_login(site: Site, host: str, warned: bool) -> None:
    settings = site.settings.model_copy(update={"web": Web(host=host)})
    page = TestClient(make_web(Site(settings))).get("/system").text
    assert ("without a login" in page) == warned


@pytest.mark.parametrize(
    ("asked", "status"), [("127.0.0.1:8080", 200), ("localhost", 200), ("[::1]:8080", 200), ("evil.example:8080", 421)]
)
def test_a_foreign_name_that_points_to_this_machine_is_not_answered(site: Site, asked: str, status: int) -> None:
    answer = TestClient(make_web(site)).get("/healthz", headers={"Host": asked})
    assert answer.status_code == status
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_name_is_answered_where_the_site_chose_to_serve_others(site: Site) -> None:
    settings = site.settings.model_copy(update={"web": Web(host="0.0.0.0")})
    answer = TestClient(make_web(Site(settings))).get("/healthz", headers={"Host": "triage.hospital.example"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("localhost", True),
        ("127.0.0.1:80", True),
        ("[::1]", True),
        ("web:8080", True),
        ("a.b", False),
        ("a.b.:1", False),
    ],
)
def test_local_names(name: str, local: bool) -> None:
    assert is_local_name(name) == local


def test_only_loopback_addresses_are_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "pacs")] == [False] * 4


def test_docs_draw_the_description_with_files_of_their_own_address(site: Site) -> None:
    client = TestClient(make_web(site))
    page = client.get("/docs")
    assert {"/healthz", "/readyz", "/api/worklist", "/api/ledger"} <= set(client.get("/openapi.json").json()["paths"])
    loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', page.text)
    assert {"/swagger/swagger-ui.css", "/swagger/swagger-ui-bundle.js", "/static/docs.js"} <= set(loaded)
    for address in loaded:
        assert address.startswith("/")
        assert client.get(address).status_code == 200, address
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "'unsafe" not in policy
    assert "data:" not in client.get("/").headers["content-security-policy"], "images in style sheets are for /docs"


@pytest.mark.parametrize("analysis", ["0", "-1", "99999999999999999999999"])
def test_row_number_that_no_database_has_is_refused_with_its_name(site: Site, analysis: str) -> None:
    answer = TestClient(make_web(site)).get(f"/images/{'0' * 64}/overlays/{analysis}/0-view.png")
    assert answer.status_code == 422
    assert "analysis_id" in answer.text


@pytest.mark.parametrize(
    ("headers", "cross"),
    [
        ({}, False),
        ({"host": "a:1", "origin": "http://a:1"}, False),
        ({"host": "a:1", "origin": "http://a:2"}, True),
        ({"host": "a", "origin": "null"}, True),
        ({"host": "inside", "origin": "https://outside", "sec-fetch-site": "same-origin"}, False),
        ({"host": "a", "origin": "http://a", "sec-fetch-site": "cross-site"}, True),
        ({"host": "a", "sec-fetch-site": "same-site"}, True),
    ],
)
def test_page_of_another_site_is_told_from_a_program_and_from_our_own_pages(
    headers: dict[str, str], cross: bool
) -> None:
    assert is_cross_site(Headers(headers)) is cross
