"""What Prometheus is told: the rows themselves, without anything of a patient, and without bursts that never were."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import delete, select

from db.analysis import lifecycle
from db.delivery import objects, outbox
from db.engine.session import Session
from db.intake.instances import record_instance
from db.intake.rejected_transfers import record_rejection
from db.model_registry import activation
from db.records import AnalysisResult, FindingRecord, NewInstance, StudyIdentity
from db.tables.gate import GateDecision
from db.tables.studies import Instance, Location
from db.views.metrics import Measures, measure
from dicom_io.network.status_codes import Status
from tests.db.conftest import MODEL, heatmap
from tests.db.conftest import new_instance as new_instance
from tests.peers.postgres import Postgres
from worker.config.settings import load_settings
from worker.installation import Site
from worker.monitoring.ledger import ledger_facts
from worker.monitoring.prometheus import SiteCollector
from worker.runtime.clock import now
from worker.web.app import make_web

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
LEASE = timedelta(minutes=2)


def scrape(site: Site, client: TestClient | None = None) -> Samples:
    answer = (client or TestClient(make_web(site))).get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def read(session: Session, analysis_id: int, *, finished: datetime, outside_domain: bool = False) -> None:
    """Claim an analysis and complete it at a given moment, with one heatmap for the destination ``pacs``."""
    claimed = lifecycle.claim(session, analysis_id, owner="w", now=finished, lease=LEASE, max_attempts=3)
    assert claimed is not None
    values: dict[str, Any] = {
        "engine": "openvino",
        "precision": "f32",
        "application_version": "1",
        "ood_score": 0.5,
        "flags": (),
        "outside_domain": outside_domain,
        "record": {},
        "findings": (FindingRecord("Mass", 0.7, 1.0, 0.5, True),),
        "maps": b"",
        "affine": (1.0,) * 6,
    }
    assert lifecycle.complete(session, claimed, AnalysisResult(**values), finished)
    objects.record(session, heatmap(claimed), finished)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def site(site: Site, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The same installation on either database."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        monkeypatch.setenv("CXR_TRIAGE_DATABASE_URL", server.database())
    opened = Site(load_settings(home=site.settings.home))
    yield opened
    opened.database.dispose()


@pytest.fixture
def busy(site: Site, new_instance: Callable[..., NewInstance]) -> Site:
    """Read in 0.4 s and sent 2 s later; read outside the domain in 20 s and unsent; waiting for 90 s; refused; lost."""
    moment = now() - timedelta(seconds=100)
    with site.database.write() as session:
        activation.activate(session, MODEL, moment)
        ids = [
            record_instance(session, new_instance(number, study=number, received_at=when)).analysis_id or 0
            for number, when in ((1, moment), (2, moment), (3, moment + timedelta(seconds=10)))
        ]
        record_instance(session, new_instance(4, study=4, accepted=False, received_at=moment))
        read(session, ids[0], finished=moment + timedelta(seconds=0.4))
        read(session, ids[1], finished=moment + timedelta(seconds=20), outside_domain=True)
        (first, *_rest) = outbox.claim_batch(session, "pacs", owner="d", now=now(), lease=LEASE, limit=1)
        outbox.mark_sent(session, first, moment + timedelta(seconds=2.4))
        for status in (Status.CANNOT_UNDERSTAND, 0xDEAD):
            record_rejection(session, when=moment, calling_ae="X", address="1", status=int(status), reason="")
    return site


def test_counts_are_the_ledgers(busy: Site) -> None:
    found, book = scrape(busy), ledger_facts(busy)
    states = {dict(labels)["state"]: value for (name, labels), value in found.items() if name == "cxr_triage_instances"}
    assert states == {"pending": 1, "running": 0, "done": 2, "not_applicable": 1, "failed": 0}
    assert sum(states.values()) == book["received"]
    assert (book["done"], book["not_applicable"], book["pending"]) == (2, 1, 1)
    assert found["cxr_triage_outside_domain_instances", ()] == 1
    assert found["cxr_triage_refused_instances", (("rule", "region"),)] == 1
    assert found["cxr_triage_rejections", (("status", "cannot_understand"),)] == 1
    assert found["cxr_triage_rejections", (("status", "other"),)] == 1
    assert found["cxr_triage_rejections", (("status", "out_of_resources"),)] == 0
    assert found["cxr_triage_deliveries", (("destination", "pacs"), ("state", "sent"))] == 1
    assert found["cxr_triage_deliveries", (("destination", "pacs"), ("state", "pending"))] == 1


def test_ages_are_those_of_the_oldest_that_wait(busy: Site) -> None:
    with busy.database.read() as session:
        arrived = session.scalars(select(Instance.received_at).order_by(Instance.id)).all()
    unread_since, undelivered_since = arrived[2], arrived[1] + timedelta(seconds=20)
    least = now()
    found = scrape(busy)
    most = now()
    unread = timedelta(seconds=found["cxr_triage_oldest_unread_seconds", ()])
    undelivered = timedelta(seconds=found["cxr_triage_oldest_undelivered_seconds", (("destination", "pacs"),)])
    rounding = timedelta(seconds=1)
    assert least - unread_since - rounding <= unread <= most - unread_since + rounding
    assert least - undelivered_since - rounding <= undelivered <= most - undelivered_since + rounding


@pytest.mark.parametrize(
    ("stage", "count", "total", "within"),
    [
        ("arrival_to_result", 2, 20.4, {"0.25": 0, "0.5": 1, "10.0": 1, "30.0": 2, "+Inf": 2}),
        ("result_to_sent", 1, 2.0, {"1.0": 0, "2.5": 1, "+Inf": 1}),
        ("arrival_to_sent", 1, 2.4, {"1.0": 0, "2.5": 1, "+Inf": 1}),
    ],
)
def test_durations_fall_into_buckets(
    busy: Site, stage: str, count: float, total: float, within: dict[str, float]
) -> None:
    found = scrape(busy)
    for bound, number in within.items():
        assert found["cxr_triage_stage_seconds_bucket", (("le", bound), ("stage", stage))] == number, bound
    assert found["cxr_triage_stage_seconds_gcount", (("stage", stage),)] == count
    assert found["cxr_triage_stage_seconds_gsum", (("stage", stage),)] == pytest.approx(total)


def test_durations_are_of_the_window_and_of_the_newest_rows_only(busy: Site) -> None:
    with busy.database.read() as session:
        none = measure(session, now() + timedelta(hours=2), timedelta(hours=1), 5000)
        one = measure(session, now(), timedelta(hours=1), 1)
    assert set(none.stages.values()) == {()}
    assert one.stages["arrival_to_result"] == pytest.approx((20.0,))


def test_counters_count_what_happens_while_watched_and_never_fall(
    busy: Site, new_instance: Callable[..., NewInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.monitoring.prometheus._REST", 0)
    client = TestClient(make_web(busy))
    assert scrape(busy, client)["cxr_triage_received_total", ()] == 0  # what was there before is nobody's burst
    with busy.database.write() as session:
        first = record_instance(session, new_instance(11, study=11, received_at=now()))
        refused = record_instance(session, new_instance(12, study=12, accepted=False, received_at=now()))
        assert first.analysis_id is not None
        read(session, first.analysis_id, finished=now())
    found = scrape(busy, client)
    assert found["cxr_triage_received_total", ()] == 2
    assert found["cxr_triage_finished_total", (("outcome", "done"),)] == 1
    assert found["cxr_triage_finished_total", (("outcome", "not_applicable"),)] == 1
    with busy.database.write() as session:  # as a site forgets it
        for table, key in ((Location, Location.instance_id), (GateDecision, GateDecision.instance_id)):
            session.execute(delete(table).where(key == refused.instance_id))
        session.execute(delete(Instance).where(Instance.id == refused.instance_id))
    found = scrape(busy, client)
    assert found["cxr_triage_instances", (("state", "not_applicable"),)] == 1
    assert found["cxr_triage_received_total", ()] == 2
    with busy.database.write() as session:
        record_instance(session, new_instance(13, study=13, received_at=now()))
    assert scrape(busy, client)["cxr_triage_received_total", ()] == 3


def test_slow_database_is_not_measured_at_every_scrape(busy: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, time = [], [0.0]

    def takes_a_minute(*arguments: Any) -> Measures:  # noqa: ANN401
        looks.append(time[0])
        time[0] += 60
        return measure(*arguments)

    monkeypatch.setattr("worker.monitoring.prometheus.measure", takes_a_minute)
    collector = SiteCollector(busy, clock=lambda: time[0])
    for time[0] in (0, 100, 1000, 1259, 1261, 2000):
        list(collector.collect())
    assert looks == [0, 1261], "measuring takes a twentieth of the time at most"


def test_model_is_named_and_absent_where_none_is_active(busy: Site, site: Site) -> None:
    labels = {name: dict(labels) for name, labels in scrape(busy) if name.endswith("_info")}
    expected = {"name": "first", "digest": "a" * 64, "preprocessing": "squash", "reads": "everything"}
    assert labels["cxr_triage_model_info"] == expected
    with busy.database.write() as session:
        activation.deactivate(session)
    assert not [name for name, _ in scrape(busy) if name == "cxr_triage_model_info"]


@pytest.mark.usefixtures("broker")
def test_parts_that_answer_are_up(site: Site) -> None:
    found = scrape(site)
    assert {dict(labels)["part"]: value for (name, labels), value in found.items() if name == "cxr_triage_up"} == {
        "database": 1,
        "broker": 1,
        "store": 1,
    }
    assert found["cxr_triage_queue_length", (("queue", "live"),)] == 0
    assert 0 < found["cxr_triage_store_free_bytes", ()] < found["cxr_triage_store_size_bytes", ()]


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_dead_parts_are_said_and_the_scrape_still_answers(site: Site) -> None:
    client = TestClient(make_web(site))
    assert scrape(site, client)["cxr_triage_up", (("part", "broker"),)] == 0
    site.database.dispose()
    for path in site.settings.home.glob("cxr-triage.sqlite*"):
        path.unlink()
    (site.settings.home / "cxr-triage.sqlite").mkdir()
    found = {key: value for key, value in scrape(Site(site.settings)).items() if key[0] == "cxr_triage_up"}
    assert found["cxr_triage_up", (("part", "database"),)] == 0
    assert found["cxr_triage_up", (("part", "store"),)] == 1


def test_configured_destination_is_there_before_its_first_object(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_TRIAGE_DESTINATIONS", '[{"name": "pacs", "ae_title": "P", "host": "h", "port": 1}]')
    found = scrape(Site(load_settings(home=site.settings.home)))
    assert found["cxr_triage_deliveries", (("destination", "pacs"), ("state", "failed"))] == 0
    assert found["cxr_triage_oldest_undelivered_seconds", (("destination", "pacs"),)] == 0


def test_nothing_of_a_patient_is_exported(site: Site, new_instance: Callable[..., NewInstance]) -> None:
    identity = StudyIdentity(
        study_instance_uid="1.2.777777",
        patient_id="SECRET-ID",
        patient_name="SECRET^NAME",
        patient_birth_date="19010203",
        accession_number="SECRET-ORDER",
        study_description="SECRET TEXT",
    )
    with site.database.write() as session:
        activation.activate(session, MODEL, now())
        instance = new_instance(1, calling_ae="SECRETAE", received_at=now())
        recorded = record_instance(session, replace(instance, study=identity))
        assert recorded.analysis_id is not None
        read(session, recorded.analysis_id, finished=now())
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        answer = TestClient(make_web(site)).get("/metrics", headers={"accept": accept})
        assert "cxr_triage_instances" in answer.text
        assert not re.search(r"SECRET|777777|19010203|2\.25\.|1\.2\.3", answer.text)


def test_openmetrics_is_spoken_where_asked_for(site: Site) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = TestClient(make_web(site)).get("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "# TYPE cxr_triage_stage_seconds gaugehistogram" in answer.text
    assert answer.text.endswith("# EOF\n")
