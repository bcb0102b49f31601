"""Every name in alerts and dashboard is one that `/metrics` exports, and the alerts fire when they should."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from db.intake.instances import record_instance
from db.model_registry import activation
from db.records import NewInstance
from tests.db.conftest import MODEL
from tests.db.conftest import new_instance as new_instance
from tests.deploy.texts import DEPLOY, compose, judge
from worker.config.settings import load_settings
from worker.installation import Site
from worker.runtime.clock import now
from worker.web.app import make_web

PROMTOOL = "apt-get install prometheus"
FOLDER = DEPLOY / "prometheus"
DASHBOARD = json.loads((DEPLOY / "grafana" / "cxr-triage.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
# labels that Prometheus itself adds
ADDED = {"instance", "job"}


def queries() -> list[str]:
    """Every expression that the alerts and the dashboard ask."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [variable["definition"] for variable in DASHBOARD["templating"]["list"]]
    return [rule["expr"] for rule in RULES] + panels + variables


@pytest.fixture
def exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_instance: Callable[..., NewInstance]
) -> dict[str, set[str]]:
    """What `/metrics` really exports: sample name -> labels, of a site with a model, a destination and a refusal."""
    monkeypatch.setenv("CXR_TRIAGE_DESTINATIONS", '[{"name": "pacs", "ae_title": "P", "host": "h", "port": 1}]')
    site = Site(load_settings(home=tmp_path))
    assert site.store.root.is_dir()  # made at its first use, as a listener does when it starts
    with site.database.write() as session:
        activation.activate(session, MODEL, now())
        record_instance(session, new_instance(1, accepted=False, received_at=now() - timedelta(seconds=5)))
    monkeypatch.setattr("worker.monitoring.prometheus.queue_lengths", lambda _settings: {"live": 0, "batch": 0})
    text = TestClient(make_web(site)).get("/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    (tmp_path / "metrics.txt").write_text(text, encoding="utf-8")
    site.database.dispose()
    return {sample.name: set(sample.labels) for sample in samples}


def test_every_metric_that_is_asked_for_is_exported_and_every_one_is_asked_for(exported: dict[str, set[str]]) -> None:
    asked = {name for query in queries() for name in re.findall(r"\bcxr_triage_\w+", query)}
    assert asked <= set(exported)
    assert {
        name.removesuffix("_gcount").removesuffix("_gsum").removesuffix("_bucket") for name in set(exported) - asked
    } <= {"cxr_triage_stage_seconds"}


def test_every_label_that_is_asked_for_is_exported(exported: dict[str, set[str]]) -> None:
    known = ADDED | {label for labels in exported.values() for label in labels}
    for query in queries():
        for name, selector in re.findall(r"\b(cxr_triage_\w+)\{([^}]*)\}", query):
            labels = set(re.findall(r"(\w+)\s*=?[=~!]", selector))
            assert labels <= exported[name] | ADDED, query
        for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
            assert {label.strip() for label in group.split(",")} <= known, query


def test_only_counters_are_rated(exported: dict[str, set[str]]) -> None:
    for query in queries():
        for name in re.findall(r"(?:rate|increase)\((cxr_triage_\w+)", query):
            assert name.endswith("_total"), query


@pytest.mark.peer
def test_prometheus_has_nothing_to_say_against_our_metrics(exported: dict[str, set[str]], tmp_path: Path) -> None:
    text = (tmp_path / "metrics.txt").read_text(encoding="utf-8")
    said = judge("promtool", "check", "metrics", install=PROMTOOL, typed=text, may_object=True)
    # the parts of a gauge histogram are gauges of their own in the older text format, and bear its names
    assert not [line for line in said.splitlines() if not re.search(r"_seconds_g?(sum|count)\b", line)]


@pytest.mark.peer
def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    said = judge("promtool", "check", "config", FOLDER / "prometheus.yml", install=PROMTOOL)
    assert f"{len(RULES)} rules found" in said


def test_every_alert_says_what_is_amiss_and_how_to_mend_it() -> None:
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "remedy"}, rule["alert"]
        assert rule["labels"]["severity"] in {"warning", "critical"}, rule["alert"]
        for command in re.findall(r"'cxr-triage (\w+)", rule["annotations"]["remedy"]):
            assert re.search(
                rf"^## `cxr-triage {command}\b", (DEPLOY.parent / "docs" / "cli.md").read_text(), re.MULTILINE
            )


UP = {"cxr_triage_up{part='database'}": "1x40", "cxr_triage_model_info{name='m'}": "1x40", "up": "1x40"}
CASES: list[tuple[str, dict[str, str], bool]] = [
    ("CxrTriageGone", {"up": "0x40"}, True),
    ("CxrTriageGone", UP, False),
    ("CxrTriagePartDown", {"cxr_triage_up{part='broker'}": "0x40"}, True),
    ("CxrTriageUnread", {"cxr_triage_oldest_unread_seconds": "0+60x40"}, True),
    ("CxrTriageUnread", {"cxr_triage_oldest_unread_seconds": "500x40"}, False),
    (
        "CxrTriageNoProgress",
        UP | {"cxr_triage_instances{state='pending'}": "3x40", "cxr_triage_finished_total{outcome='done'}": "7x40"},
        True,
    ),
    (
        "CxrTriageNoProgress",
        UP | {"cxr_triage_instances{state='pending'}": "3x40", "cxr_triage_finished_total{outcome='done'}": "7+1x40"},
        False,
    ),
    (
        "CxrTriageNoProgress",
        UP | {"cxr_triage_instances{state='pending'}": "0x40", "cxr_triage_finished_total{outcome='done'}": "7x40"},
        False,
    ),
    ("CxrTriageNoModel", {"cxr_triage_up{part='database'}": "1x40"}, True),
    ("CxrTriageNoModel", UP, False),
    ("CxrTriageFailedReadings", {"cxr_triage_finished_total{outcome='failed'}": "0x20 1x20"}, True),
    ("CxrTriageFailedReadings", {"cxr_triage_finished_total{outcome='failed'}": "5x40"}, False),
    ("CxrTriageUndelivered", {"cxr_triage_oldest_undelivered_seconds{destination='pacs'}": "0+60x40"}, True),
    ("CxrTriageUndelivered", {"cxr_triage_oldest_undelivered_seconds{destination='pacs'}": "900x40"}, False),
    ("CxrTriageFailedDeliveries", {"cxr_triage_deliveries{destination='pacs',state='failed'}": "0x20 2x20"}, True),
    ("CxrTriageFailedDeliveries", {"cxr_triage_deliveries{destination='pacs',state='sent'}": "9x40"}, False),
    ("CxrTriageCommitmentWaits", {"cxr_triage_oldest_commitment_seconds": "0+60x40"}, True),
    ("CxrTriageCommitmentWaits", {"cxr_triage_oldest_commitment_seconds": "900x40"}, False),
    ("CxrTriageRefusing", {"cxr_triage_refusing{limit='backlog'}": "1x40"}, True),
    ("CxrTriageRefusing", {"cxr_triage_refusing{limit='backlog'}": "0x40"}, False),
    ("CxrTriageRejections", {"cxr_triage_rejected_total{status='out_of_resources'}": "0+1x40"}, True),
    ("CxrTriageRejections", {"cxr_triage_rejected_total{status='out_of_resources'}": "0x20 2x20"}, False),
    ("CxrTriageDiskFilling", {"cxr_triage_store_free_bytes": "9e9x40", "cxr_triage_store_size_bytes": "1e12x40"}, True),
    (
        "CxrTriageDiskFilling",
        {"cxr_triage_store_free_bytes": "200e9-1e9x40", "cxr_triage_store_size_bytes": "1e12x40"},
        True,
    ),
    (
        "CxrTriageDiskFilling",
        {"cxr_triage_store_free_bytes": "200e9x40", "cxr_triage_store_size_bytes": "1e12x40"},
        False,
    ),
    ("CxrTriageDiskFull", {"cxr_triage_store_free_bytes": "1e9x40"}, True),
    ("CxrTriageDiskFull", {"cxr_triage_store_free_bytes": "11e9x40"}, False),
    (
        "CxrTriageSlow",
        {
            "cxr_triage_stage_seconds_bucket{stage='arrival_to_result',le='60'}": "10x40",
            "cxr_triage_stage_seconds_bucket{stage='arrival_to_result',le='300'}": "100x40",
            "cxr_triage_stage_seconds_bucket{stage='arrival_to_result',le='+Inf'}": "100x40",
        },
        True,
    ),
    (
        "CxrTriageSlow",
        {
            "cxr_triage_stage_seconds_bucket{stage='arrival_to_result',le='60'}": "100x40",
            "cxr_triage_stage_seconds_bucket{stage='arrival_to_result',le='+Inf'}": "100x40",
        },
        False,
    ),
]


def series(name: str, values: str) -> dict[str, str]:
    bare, _, labels = name.partition("{")
    inside = ",".join(part for part in ("instance='a'", "job='cxr-triage'", labels.rstrip("}")) if part)
    return {"series": f"{bare}{{{inside}}}", "values": values}


def test_every_alert_is_tried() -> None:
    assert {name for name, _, fires in CASES if fires} == {rule["alert"] for rule in RULES}


@pytest.mark.peer
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    """One run of promtool over all cases; each is its own site, watched for 40 minutes."""
    (tmp_path / "alerts.yml").write_text((FOLDER / "alerts.yml").read_text(encoding="utf-8"), encoding="utf-8")
    tests: list[dict[str, Any]] = []
    for number, (alert, values, fires) in enumerate(CASES):
        # whether it fires is asked of Prometheus' own series of alerts, whatever its annotations say
        asked = {"expr": f"count(ALERTS{{alertname='{alert}',alertstate='firing'}})", "eval_time": "40m"}
        expected = [{"labels": "{}", "value": 1}] if fires else []
        tests.append(
            {
                "name": f"{number} {alert} {'fires' if fires else 'is silent'}",
                "interval": "1m",
                "input_series": [series(name, value) for name, value in values.items()],
                "promql_expr_test": [{**asked, "exp_samples": expected}],
            }
        )
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in judge("promtool", "test", "rules", file, install=PROMTOOL)


def test_panels_are_told_apart_and_lie_beside_each_other() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["datasource"]["uid"] == _datasource()["uid"]


def test_grafana_finds_dashboard_and_data_where_compose_puts_them() -> None:
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/cxr-triage.yaml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2] for volume in compose()["services"]["grafana"]["volumes"])
    assert mounts["./grafana/cxr-triage.json"] == f"{provider['options']['path']}/cxr-triage.json"
    assert _datasource()["url"] == "http://prometheus:9090"


def test_prometheus_scrapes_the_web_process_of_compose() -> None:
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = configuration["scrape_configs"]
    ((target,),) = [entry["targets"] for entry in job["static_configs"]]
    host, port = target.split(":")
    assert compose()["services"][host]["environment"]["CXR_TRIAGE_WEB_PORT"] == port
    assert configuration["rule_files"] == ["alerts.yml"]


def _datasource() -> dict[str, Any]:
    (only,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    return dict(only)
